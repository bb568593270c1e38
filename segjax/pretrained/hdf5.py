"""Read the arrays of HDF5 files as Keras writes weights, without HDF5's library.

That library runs what a file describes; a file from a stranger may crash it. This reader knows
groups and whole arrays of numbers, no more, and counts what it does. Format:
https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html (sections in brackets below).
"""

import math
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from segjax.errors import DataError
from segjax.pretrained.pickles import MAX_AXES, MAX_DEPTH, MAX_NAME, MAX_TENSORS

START = b"\x89HDF\r\n\x1a\n"
NOWHERE = 2**64 - 1
"""The address of what is not there."""
MAX_BLOCKS = 1 << 18
"""Headers, messages, nodes and entries that are read, of a whole file."""
MAX_RATIO = 4
"""What is read takes at most so many times the bytes of the file: nothing is there twice."""
SPACE, LINKS, TYPE, LINK, LAYOUT, FILTERS, MORE, TABLE = 1, 2, 3, 6, 8, 11, 16, 17
"""Kinds of messages in an object's header (IV.A.2)."""
HARD = 0
"""The kind of link that leads to an object of the same file."""
AGAIN = "write it again with h5py, libver='earliest'"


class Message(NamedTuple):
    """One thing that an object's header says of it."""

    kind: int
    data: bytes


class File:
    """An HDF5 file in memory.

    Args:
        content: All of its bytes.

    Raises:
        DataError: A form of the format that is not read.
    """

    def __init__(self, content: bytes):
        self.content, self.blocks = content, MAX_BLOCKS
        self.left = MAX_RATIO * len(content)
        version = self.at(8, "B")[0]
        sizes = self.at(13 if version < 2 else 9, "BB")
        if version not in (0, 1, 2, 3) or sizes != (8, 8):
            raise DataError(f"it is HDF5 of version {version} with addresses of {sizes[0]} bytes")
        if version < 2:  # a base address, three others, the entry of the root (II.A)
            self.root = self.at(64 + 4 * version, "Q")[0]
            base = self.at(24 + 4 * version, "Q")[0]
        else:
            base, _, _, self.root = self.at(12, "4Q")
        if base:
            raise DataError("it does not begin with its HDF5 part")

    def at(self, address: int, form: str) -> tuple[Any, ...]:
        """Return little-endian numbers at an address, of `struct`'s forms."""
        size = struct.calcsize(f"<{form}")
        return struct.unpack(f"<{form}", self.cut(address, size))

    def cut(self, address: int, length: int) -> bytes:
        """Return bytes; raise `DataError` where the file ends before, or was read too often."""
        self.left -= length
        if not 0 <= address <= len(self.content) - length or self.left < 0:
            raise DataError("it points beyond its end, or to one place again and again")
        return self.content[address : address + length]

    def count(self) -> None:
        """Count one more block; raise `DataError` where there are too many, as in a circle."""
        self.blocks -= 1
        if self.blocks < 0:
            raise DataError(f"it has more than {MAX_BLOCKS:,} blocks")

    def arrays(self) -> dict[str, np.ndarray]:
        """Return every array by the names of the groups it lies in, joined by dots, read-only."""
        found: dict[str, np.ndarray] = {}
        groups, seen = [("", self.root, 0)], {self.root}
        while groups:
            prefix, address, depth = groups.pop()
            messages = list(self.header(address))
            data = {message.kind: message.data for message in messages}
            if LAYOUT in data:
                if len(found) == MAX_TENSORS:
                    raise DataError(f"it has more than {MAX_TENSORS:,} arrays")
                found[prefix] = self.array(data, prefix)
                continue
            if depth == MAX_DEPTH:
                raise DataError(f"it nests groups more than {MAX_DEPTH} deep")
            for name, inner in self.members(messages):
                whole = f"{prefix}.{name}" if prefix else name
                if inner in seen or len(whole) > MAX_NAME:
                    raise DataError(f"{whole[:100]!r} in it stands twice, or has too long a name")
                seen.add(inner)
                groups.append((whole, inner, depth + 1))
        return dict(sorted(found.items()))

    def header(self, address: int) -> Iterator[Message]:
        """Yield the messages of an object's header (IV.A.1)."""
        newer = self.cut(address, 4) == b"OHDR"
        if newer:
            flags = self.at(address + 5, "B")[0]
            start = address + 6 + (16 if flags & 32 else 0) + (4 if flags & 16 else 0)
            (size,) = self.at(start, "BHIQ"[flags & 3])
            spans, form = [(start + 2 ** (flags & 3), size)], "BHBH" if flags & 4 else "BHB"
        else:
            if self.at(address, "B")[0] != 1:
                raise DataError("it is damaged: no header of an object where one should be")
            spans, form = [(address + 16, self.at(address + 8, "I")[0])], "HHB3x"
        step = struct.calcsize(f"<{form}")
        while spans:
            place, size = spans.pop(0)
            end = place + size
            while place + step <= end:
                self.count()
                kind, length, *_ = self.at(place, form)
                data = self.cut(place + step, length)
                place += step + length
                if kind != MORE:
                    yield Message(kind, data)
                    continue
                where, size = struct.unpack_from("<QQ", data)
                # In the newer form it lies between a signature and a checksum.
                spans.append((where + 4, size - 8) if newer else (where, size))

    def members(self, messages: list[Message]) -> Iterator[tuple[str, int]]:
        """Yield the names and addresses of what is in a group; other links are left out.

        Raises:
            DataError: It is a group of a form that is not read.
        """
        for kind, data in messages:
            if kind == TABLE:
                tree, heap = struct.unpack_from("<QQ", data)
                yield from self.entries(tree, heap)
            elif kind == LINK:
                yield from self.link(data)
            elif kind == LINKS and struct.unpack_from("<Q", data, 10 if data[1] & 1 else 2) != (
                NOWHERE,
            ):
                raise DataError(f"a group of it is indexed in a newer form: {AGAIN}")

    def link(self, data: bytes) -> Iterator[tuple[str, int]]:
        """Yield the one that a link message names, where it is in this file (IV.A.2.g)."""
        flags, place, kind = data[1], 2, HARD
        if flags & 8:
            kind, place = data[place], place + 1
        place += (8 if flags & 4 else 0) + (1 if flags & 16 else 0)
        (length,) = struct.unpack_from("<" + "BHIQ"[flags & 3], data, place)
        place += 2 ** (flags & 3)
        if kind == HARD:
            (address,) = struct.unpack_from("<Q", data, place + length)
            yield data[place : place + length].decode("utf-8", "replace"), address

    def entries(self, tree: int, heap: int) -> Iterator[tuple[str, int]]:
        """Yield the entries of a group's table, whose names are in a heap (III.A.1, C and D)."""
        if self.cut(heap, 4) != b"HEAP":
            raise DataError("it is damaged: a group without names")
        length, _, names = self.at(heap + 8, "QQQ")
        text = self.cut(names, length)
        nodes = [tree]
        while nodes:
            self.count()
            node = nodes.pop(0)
            kind = self.cut(node, 4)
            if kind == b"TREE":
                (count,) = self.at(node + 6, "H")
                # A key before each child, and one behind the last.
                for i in range(count):
                    self.count()
                    nodes.append(self.at(node + 32 + 16 * i, "Q")[0])
                continue
            if kind != b"SNOD":
                raise DataError("it is damaged: no node of a group where one should be")
            for i in range(self.at(node + 6, "H")[0]):
                self.count()
                name, address, cached = self.at(node + 8 + 40 * i, "QQI")
                if cached != 2:  # a link by name
                    end = text.find(b"\0", name)
                    yield text[name : max(name, end)].decode("utf-8", "replace"), address

    def array(self, data: dict[int, bytes], name: str) -> np.ndarray:
        """Return the numbers of an array (IV.A.2.b, d, i).

        Raises:
            DataError: They are no numbers, compressed, in chunks or in another file; or the file
                has fewer.
        """
        shape, dtype = shape_of(data.get(SPACE, b"")), dtype_of(data.get(TYPE, b""), name)
        layout = data[LAYOUT]
        size = math.prod(shape) * dtype.itemsize
        if FILTERS in data or layout[0] not in (3, 4) or layout[1] not in (0, 1):
            raise DataError(f"{name[:100]!r} in it is compressed or in chunks: {AGAIN}, whole")
        if layout[1] == 0:
            (length,) = struct.unpack_from("<H", layout, 2)
            content = layout[4 : 4 + length]
        else:
            address, length = struct.unpack_from("<QQ", layout, 2)
            content = b"" if address == NOWHERE else self.cut(address, length)
        if len(content) != size:
            raise DataError(
                f"{name[:100]!r} in it has {len(content):,} bytes, not those of its shape {shape}"
            )
        return np.frombuffer(content, dtype).reshape(shape)


def shape_of(data: bytes) -> tuple[int, ...]:
    """Return the shape that a message says; raise `DataError` for too many axes."""
    version, rank = data[0], data[1]
    if rank > MAX_AXES or version not in (1, 2):
        raise DataError(f"one of its arrays has {rank} axes, at most {MAX_AXES} are read")
    return struct.unpack_from(f"<{rank}Q", data, 8 if version == 1 else 4)


def dtype_of(data: bytes, name: str) -> np.dtype:
    """Return the dtype that a message says; raise `DataError` where it is none of numbers."""
    kind, bits, size = data[0] & 15, data[1], struct.unpack_from("<I", data, 4)[0]
    order = ">" if bits & 1 else "<"
    codes = {(0, n): ("i" if bits & 8 else "u") for n in (1, 2, 4, 8)}
    codes |= {(1, n): "f" for n in (2, 4, 8)}
    if (kind, size) not in codes:
        raise DataError(f"{name[:100]!r} in it holds no numbers of 1, 2, 4 or 8 bytes")
    return np.dtype(f"{order}{codes[kind, size]}{size}")
