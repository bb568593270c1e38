"""Arrays in MATLAB's files of version 5 to 7, by name: `map`, or `GTcls.Segmentation` in a struct.

What lies beside the array is stepped over: no object, function or cell of a file is ever made.
"""

import math
import pathlib
import struct
import zlib
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from segjax.data import raster
from segjax.data.lazy import Lazy, Region
from segjax.data.readers.base import Stored, check_size
from segjax.runtime import reading

ENDINGS = (".mat",)
HEADER = 128
_HDF5 = b"\x89HDF\r\n\x1a\n"
_MATRIX, _COMPRESSED = 14, 15
_STRUCT = 2
_TYPES = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"
}  # fmt: skip
"""Of the numbers in an element."""
_CLASSES = {
    6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"
}  # fmt: skip
"""Of arrays, whose numbers may be stored in a smaller type."""
_FIELDS = 4096
_VARIABLES = 4096


class _Element(NamedTuple):
    type: int
    data: memoryview


class _Array(NamedTuple):
    """The beginning of an array: its class, its sides, its name, and the elements that follow."""

    kind: int
    complex: bool
    sides: tuple[int, ...]
    name: str
    rest: Iterator[_Element]


def open_file(file: pathlib.Path, *, name: str = "") -> Stored:
    """Return an array of a file.

    Args:
        file: The file.
        name: Of a variable, and behind a dot each of a field; empty: the only variable.

    Raises:
        ValueError: There is no such array, it is none of real numbers, or not all there.
    """
    with reading.open_file(file, limit=raster.MAX_FILE_BYTES) as stream:
        content = stream.read()
    order = _order(content)
    found = _find(content, order, name)
    shape, dtype = found.sides, np.dtype(_CLASSES.get(found.kind, "O"))
    if dtype.kind == "O" or found.complex:
        raise ValueError(f"{name or found.name!r} is no array of real numbers")
    check_size(shape, dtype, parts=False)
    element = _next(found.rest)
    stored = np.dtype(_TYPES.get(element.type, "V1")).newbyteorder(order)
    if stored.kind == "V" or math.prod(shape) * stored.itemsize != len(element.data):
        raise ValueError(f"an array of shape {shape} in {len(element.data):,} bytes")
    array = np.frombuffer(element.data, stored).reshape(shape, order="F").astype(dtype)

    def read(region: Region) -> np.ndarray:
        return np.ascontiguousarray(array[region])

    return Stored(Lazy(shape, dtype, read, name=str(file)), parts=False)


def _order(content: bytes) -> Literal["<", ">"]:
    """Return the order of bytes of a file, `<` or `>`."""
    mark = content[HEADER - 2 : HEADER]
    if content.startswith(_HDF5) or content[HEADER * 4 :].startswith(_HDF5):
        raise ValueError("MATLAB's version 7.3. Save it with -v7")
    if mark not in (b"IM", b"MI"):
        raise ValueError("no MATLAB file of version 5 to 7")
    return "<" if mark == b"IM" else ">"


def _find(content: bytes, order: str, name: str) -> _Array:
    first, *fields = name.split(".") if name else [""]
    known = []
    for element in _elements(memoryview(content)[HEADER:], order):
        if element.type == _COMPRESSED:
            element = _next(_elements(_inflated(element.data), order))
        if element.type != _MATRIX:
            raise ValueError(f"an element of type {element.type}, expected an array")
        array = _begin(element.data, order)
        known.append(array.name)
        if len(known) > _VARIABLES:
            raise ValueError(f"more than {_VARIABLES:,} variables")
        if array.name == first or not first:
            for field in fields:
                array = _field(array, field, order)
            return array
    raise ValueError(f"no variable {first!r}; it has {', '.join(known[:8]) or 'none'}")


def _inflated(data: memoryview) -> memoryview:
    engine = zlib.decompressobj()
    try:
        found = engine.decompress(data, raster.MAX_BYTES)
    except zlib.error as error:
        raise ValueError(f"damaged: {error}") from None
    if engine.unconsumed_tail:
        raise ValueError(f"a variable of more than {raster.MAX_BYTES >> 20:,} MiB")
    return memoryview(found)


def _elements(data: memoryview, order: str) -> Iterator[_Element]:
    """Yield the elements that follow each other."""
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        if kind >> 16:  # up to four bytes stand in the tag itself
            yield _Element(kind & 0xFFFF, data[at + 4 : at + 4 + min(4, kind >> 16)])
            at += 8
            continue
        if at + 8 + size > len(data):
            raise ValueError(f"cut off: {len(data) - at - 8:,} of {size:,} bytes of an element")
        yield _Element(kind, data[at + 8 : at + 8 + size])
        at += 8 + size + (0 if kind == _COMPRESSED else -size % 8)


def _next(elements: Iterator[_Element]) -> _Element:
    found = next(elements, None)
    if found is None:
        raise ValueError("cut off within an array")
    return found


def _begin(data: memoryview, order: str) -> _Array:
    rest = _elements(data, order)
    flags, sides, name = _next(rest), _next(rest), _next(rest)
    if len(flags.data) < 4 or len(sides.data) % 4 or not 8 <= len(sides.data) <= 32:
        raise ValueError("an array without a shape")
    (word,) = struct.unpack_from(f"{order}I", flags.data)
    shape = struct.unpack(f"{order}{len(sides.data) // 4}i", sides.data)
    return _Array(word & 255, bool(word & 0x800), shape, _text(name.data), rest)


def _field(array: _Array, name: str, order: str) -> _Array:
    """Return a field of a struct of one record."""
    if array.kind != _STRUCT or math.prod(array.sides) != 1:
        raise ValueError(f"{array.name!r} is no struct with a field {name!r}")
    (length,) = struct.unpack_from(f"{order}i", bytes(_next(array.rest).data).ljust(4, b"\0"))
    names = _next(array.rest).data
    if length < 1 or len(names) > length * _FIELDS:
        raise ValueError(f"{array.name!r} has no fields")
    known = [_text(names[at : at + length]) for at in range(0, len(names), length)]
    if name not in known:
        raise ValueError(f"no field {name!r}; it has {', '.join(known[:8])}")
    for _ in range(known.index(name)):
        _next(array.rest)
    return _begin(_next(array.rest).data, order)


def _text(data: memoryview) -> str:
    return bytes(data).split(b"\0")[0].decode("ascii", "replace")
