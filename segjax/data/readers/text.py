"""Plain text as a signal: a sample for each character, its code point in bits."""

import pathlib
from collections.abc import Sequence

import numpy as np

from segjax.data.geometry import Geometry
from segjax.data.lazy import Lazy, Region
from segjax.data.readers.base import Stored
from segjax.runtime import reading

ENDINGS = (".txt",)
BITS = 21
"""Of a code point of Unicode."""
LONGEST = 1 << 24
"""Bytes of a text."""


def open_file(file: pathlib.Path) -> Stored:
    """Return a text as uint8 [characters 21]: 255 where the code point has a bit, lowest first.

    Lines end with a line feed whatever the file has.

    Raises:
        ValueError: It is empty.
        DataError: It is no UTF-8.
    """
    text = reading.text(file, limit=LONGEST).replace("\r\n", "\n")
    if not text:
        raise ValueError("an empty text")
    shape = (len(text), BITS)

    def read(region: Region) -> np.ndarray:
        return np.ascontiguousarray(encode(text[region[0]])[:, region[1]])

    array = Lazy(shape, np.uint8, read, name=str(file))
    return Stored(array, 1, Geometry("text", header={"text": text}), parts=False)


def encode(text: str | Sequence[int]) -> np.ndarray:
    """Return characters, or their code points, as uint8 [characters 21], see `open_file`."""
    points = np.array([ord(sign) for sign in text] if isinstance(text, str) else text, np.uint32)
    bits = points[:, None] >> np.arange(BITS, dtype=np.uint32) & 1
    return (bits * 255).astype(np.uint8)


def decode(image: np.ndarray) -> str:
    """Return the text of what `encode` made."""
    points = ((image > 127) * (1 << np.arange(BITS))).sum(-1)
    return "".join(map(chr, points.tolist()))
