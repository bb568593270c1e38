"""What a pickle says of NumPy arrays: their dtype, shape and bytes. Nothing it names is called.

NumPy makes an array in two steps: an empty one, then its contents (`ndarray.__setstate__`); since
protocol 5 in one, of a buffer.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from segjax.errors import DataError

MAX_AXES = 16
KINDS = {f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)} | {"f2", "f4", "f8", "b1"}
"""The dtypes that are numbers, by NumPy's short names."""


class Name(NamedTuple):
    """Something that a pickle names: a function, a class, a type of storage."""

    module: str
    name: str


class Dtype:
    """A dtype, of which the order of bytes is told later."""

    def __init__(self, code: Any = None, *flags: Any):
        if code not in KINDS:
            raise DataError(f"an array in its pickle is of {str(code)[:100]!r}, not of numbers")
        self.code, self.order = str(code), "<"

    def build(self, state: Any) -> None:
        """Take the order of bytes from what `dtype.__setstate__` gets."""
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise DataError("a dtype in its pickle has no order of bytes")
        self.order = "<" if state[1] in "|=" else state[1]

    def numpy(self) -> np.dtype:
        """Return NumPy's."""
        return np.dtype(self.order + self.code)


class Box:
    """An array that is empty until its contents are told."""

    def __init__(self, *about: Any):
        del about  # its class and an empty shape
        self.array: np.ndarray | None = None

    def build(self, state: Any) -> None:
        """Take the contents from what `ndarray.__setstate__` gets.

        Raises:
            DataError: Of another form, or of another size than its shape.
        """
        if not isinstance(state, tuple) or len(state) != 5:
            raise DataError("an array in its pickle has no contents")
        _, shape, dtype, columns, data = state
        self.array = array_of(data, dtype, shape, "F" if columns else "C")

    def whole(self) -> np.ndarray:
        """Return the array; raise `DataError` where its contents were never told."""
        if self.array is None:
            raise DataError("an array in its pickle has no contents")
        return self.array


def array_of(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """Return an array as a read-only view of its bytes.

    Raises:
        DataError: The bytes are not as many as the shape says.
    """
    data = data.encode("utf-8") if isinstance(data, str) else data  # see `text_or_bytes`
    sides = shape if isinstance(shape, tuple) and len(shape) <= MAX_AXES else (-1,)
    fits = all(type(n) is int and 0 <= n < 2**62 for n in sides) and order in ("C", "F")
    if not fits or not isinstance(dtype, Dtype) or not isinstance(data, (bytes, bytearray)):
        raise DataError("an array in its pickle has no shape, dtype or bytes")
    kind = dtype.numpy()
    if math.prod(sides) * kind.itemsize != len(data):
        raise DataError(
            f"an array in its pickle has {len(data):,} bytes, not those of its shape {sides}"
        )
    return np.frombuffer(bytes(data), kind).reshape(sides, order=order)


def of_buffer(data: Any = None, dtype: Any = None, shape: Any = None, order: Any = None) -> Box:
    """Return the array that `numpy._core.numeric._frombuffer` makes."""
    box = Box()
    box.array = array_of(data, dtype, shape, order)
    return box


def encoded(text: Any = None, encoding: Any = None) -> bytes:
    """Return the bytes that Python 3 writes as text in protocol 2, a sign for each byte."""
    if not isinstance(text, str) or encoding != "latin1":
        raise DataError("its pickle encodes something else than bytes")
    return text.encode("latin-1")


def no_bytes() -> bytes:
    """Return no byte, which Python 3 writes as a call of `bytes` in protocol 2."""
    return b""


def text_or_bytes(content: bytes) -> str | bytes:
    """Return a string of Python 2 as text where it is UTF-8, else as it is.

    Bytes of an array that happen to be UTF-8 are the same again when they are encoded.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content


CALLS: dict[Name, Callable[..., Any]] = {
    Name("numpy", "dtype"): Dtype,
    Name("_codecs", "encode"): encoded,
    Name("__builtin__", "bytes"): no_bytes,
    **{
        Name(f"numpy.{core}.multiarray", "_reconstruct"): Box for core in ("core", "_core")
    },
    **{
        Name(f"numpy.{core}.numeric", "_frombuffer"): of_buffer for core in ("core", "_core")
    },
}  # fmt: skip
NAMES = {*CALLS, Name("numpy", "ndarray")}
