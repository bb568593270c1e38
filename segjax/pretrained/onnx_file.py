"""Read the initialisers of an ONNX file: its graph's named arrays. The graph itself is not run.

A file is one message of protocol buffers, a run of numbered fields
(https://protobuf.dev/programming-guides/encoding), as `onnx/onnx.proto` describes it. Everything
is counted before it costs.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from jaxtyping import Int64

from segjax.errors import DataError
from segjax.pretrained.pickles import MAX_AXES, MAX_NAME, MAX_TENSORS

START = b"\x08"
"""How files begin: the field of the format's version."""
MAX_FIELDS = 1 << 18
"""Of a file; a node of a graph takes one here, an array about five."""
GRAPH, INITIALIZER = 7, 5
"""The fields of a model's graph, and of a graph's arrays."""
DIMS, DATA_TYPE, NAME, RAW, EXTERNAL = 1, 2, 8, 9, 13
FLOATS, DOUBLES = 4, 10
WHOLE = (5, 7, 11)
"""The fields of an array: its whole numbers, where they are not raw, are in one of the last."""
DTYPES: dict[int, Any] = {
    1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64,
    9: np.bool_, 10: np.float16, 11: np.float64, 12: np.uint32, 13: np.uint64,
    16: ml_dtypes.bfloat16,
}  # fmt: skip
MAX_BYTES = 10 * (MAX_AXES + 1)
"""Of a shape."""
HALVES = (10, 16)
"""Of the dtypes those whose bits are written as whole numbers."""


class Field(NamedTuple):
    """A field of a message: its number, and a number or the bytes that it holds."""

    number: int
    value: int | memoryview


class Fields:
    """Reads messages and counts their fields, all together."""

    def __init__(self) -> None:
        self.left = MAX_FIELDS

    def of(self, message: memoryview) -> Iterator[Field]:
        """Yield the fields of a message.

        Raises:
            DataError: It is none, ends inside a field, or there are too many fields.
        """
        at = 0
        while at < len(message):
            self.left -= 1
            if self.left < 0:
                raise DataError(f"it has more than {MAX_FIELDS:,} fields")
            tag, at = varint(message, at)
            number, kind = tag >> 3, tag & 7
            if kind == 0:
                value, at = varint(message, at)
                yield Field(number, value)
                continue
            if kind == 2:
                length, at = varint(message, at)
            elif kind in (1, 5):
                length = 8 if kind == 1 else 4
            else:
                raise DataError("it is damaged: no such kind of field")
            if length > len(message) - at:
                raise DataError("it ends inside a field")
            yield Field(number, message[at : at + length])
            at += length


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return the number that begins at a place, seven bits a byte, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise DataError("it ends inside a number")
        byte = message[at]
        value, at = value | (byte & 127) << shift, at + 1
        if byte < 128:
            return value, at
    raise DataError("it is damaged: a number of more than 64 bits")


def varints(message: memoryview) -> Int64[np.ndarray, " n"]:
    """Return the numbers of a packed field, those beyond 63 bits as the negative ones they are."""
    septets = np.frombuffer(message, np.uint8)
    ends = np.flatnonzero(septets < 128)
    if septets.size and (not ends.size or ends[-1] != septets.size - 1):
        raise DataError("it ends inside a number")
    lengths = np.diff(ends, prepend=-1)
    if lengths.max(initial=0) > 10:
        raise DataError("it is damaged: a number of more than 64 bits")
    starts = ends + 1 - lengths
    places = np.arange(septets.size) - np.repeat(starts, lengths)
    parts = (septets & 127).astype(np.uint64) << (7 * places).astype(np.uint64)
    found = np.add.reduceat(parts, starts) if starts.size else parts
    return found.view(np.int64)


def arrays(content: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of a file by their names, read-only.

    Raises:
        DataError: It is no such file, too long or damaged; or its numbers are in another file.
    """
    fields, found = Fields(), {}
    for number, graph in fields.of(memoryview(content)):
        if number != GRAPH or isinstance(graph, int):
            continue
        for inner, tensor in fields.of(graph):
            if inner != INITIALIZER or isinstance(tensor, int):
                continue
            name, array = read_tensor(fields.of(tensor))
            if name in found:
                raise DataError(f"two of its arrays have the name {name[:100]!r}")
            found[name] = array
            if len(found) > MAX_TENSORS:
                raise DataError(f"it has more than {MAX_TENSORS:,} arrays")
    return found


def read_tensor(fields: Iterator[Field]) -> tuple[str, np.ndarray]:
    """Return an array and its name.

    Raises:
        DataError: It has no dtype that is read, or not as many numbers as its shape says.
    """
    dims: list[int] = []
    code, name, data = 0, "", None
    whole: list[np.ndarray] = []
    for number, value in fields:
        packed = memoryview(b"") if isinstance(value, int) else value
        if number == DIMS:
            dims += [value] if isinstance(value, int) else varints(value[:MAX_BYTES]).tolist()
            if len(dims) > MAX_AXES:
                raise DataError(f"one of its arrays has more than {MAX_AXES} axes")
        elif number == DATA_TYPE and isinstance(value, int):
            code = value
        elif number == NAME:
            name = bytes(packed[:MAX_NAME]).decode("utf-8", "replace")
        elif number == EXTERNAL:
            raise DataError(
                "its numbers lie in another file beside it, which is not read: save it again as "
                "one file"
            )
        elif number in (RAW, FLOATS, DOUBLES):
            data = bytes(packed) if data is None else data + bytes(packed)
        elif number in WHOLE:
            more = np.array([value], np.uint64).view(np.int64) if isinstance(value, int) else None
            whole.append(varints(packed) if more is None else more)
    if code not in DTYPES:
        raise DataError(f"{name[:100]!r} in it is of kind {code}, which holds no numbers")
    dtype = np.dtype(DTYPES[code])
    if whole and data is None:
        numbers = np.concatenate(whole)
        bits = np.dtype(np.uint16) if code in HALVES else dtype
        kept = numbers.astype(bits)
        if not np.array_equal(kept.astype(np.int64), numbers):
            raise DataError(f"{name[:100]!r} in it has a number beyond its kind")
        data = kept.tobytes()
    data = data or b""
    if min(dims, default=0) < 0 or math.prod(dims) * dtype.itemsize != len(data):
        raise DataError(
            f"{name[:100]!r} in it has {len(data):,} bytes, not those of its shape {dims}"
        )
    return name, np.frombuffer(data, dtype).reshape(dims)
