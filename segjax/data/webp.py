"""WebP files: what they say of themselves, read here because Pillow makes room before it tells."""

import os
import struct
from typing import IO

import imagecodecs
import numpy as np
from PIL import Image

from segjax.data.raster import MAX_NOTE_BYTES, ORIENTATION, Header, Opened

MAGIC = b"RIFF"
_ALPHA = 0x10
"""Of the flags in the chunk VP8X."""


def open_webp(stream: IO[bytes]) -> Opened:
    """Return what the one frame of a WebP file holds.

    Raises:
        ValueError: No WebP file; and whatever the decoder raises on a broken one.
    """
    width, height, alpha, images, orientation = _read(stream)
    bands = 3 + alpha
    header = Header(
        height=height,
        width=width,
        bands=bands,
        bits=8,
        dtype="uint8",
        colour="rgb",
        alpha=alpha,
        orientation=orientation if orientation in range(1, 9) else 1,
        images=images,
    )

    def pixels() -> np.ndarray:
        stream.seek(0)
        array = np.asarray(imagecodecs.webp_decode(stream.read(), hasalpha=alpha))
        return array.reshape(height, width, bands)

    return Opened(header, pixels)


def _read(stream: IO[bytes]) -> tuple[int, int, bool, int, int]:
    """Return width, height, whether there is opacity, 2 for several frames, and EXIF's turn.

    Of a file without VP8X the picture's own chunk says it. Format:
    https://developers.google.com/speed/webp/docs/riff_container.
    """
    start = stream.read(12)
    if start[:4] != MAGIC or start[8:] != b"WEBP":
        raise ValueError("no WebP file")
    found: tuple[int, int, bool] | None = None
    frames, orientation = 0, 1
    while len(head := stream.read(8)) == 8 and frames < 2:
        kind, length = struct.unpack("<4sI", head)
        after = stream.tell() + length + length % 2
        if found is None:
            found = _size(kind, stream.read(10))
            if found is None:
                raise ValueError(f"begins with a chunk {kind!r}")
        elif kind == b"EXIF" and length <= MAX_NOTE_BYTES:
            exif = Image.Exif()
            exif.load(stream.read(length))
            orientation = exif.get(ORIENTATION, 1)
        frames += kind == b"ANMF"
        stream.seek(after, os.SEEK_SET)
    if found is None or 0 in found[:2]:
        raise ValueError("no picture in it")
    return *found, max(1, frames), orientation


def size_of(content: bytes) -> tuple[int, int]:
    """Return width and height of a WebP file by its first 30 bytes.

    Raises:
        ValueError: It says none.
    """
    found = _size(content[12:16], content[20:30])
    if found is None:
        raise ValueError("a WebP picture of no size")
    return found[:2]


def _size(kind: bytes, content: bytes) -> tuple[int, int, bool] | None:
    """Return width, height and opacity by the first bytes of a chunk; None: it says none."""
    if len(content) < 10:
        raise ValueError("cut short")
    if kind == b"VP8X":
        width, height = (int.from_bytes(content[i : i + 3], "little") + 1 for i in (4, 7))
        return width, height, bool(content[0] & _ALPHA)
    if kind == b"VP8L" and content[0] == 0x2F:
        packed = int.from_bytes(content[1:5], "little")
        return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1, bool(packed >> 28 & 1)
    if kind == b"VP8 " and content[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", content[6:10])
        return width & 0x3FFF, height & 0x3FFF, False
    return None
