"""Pixels of PNG files with eight bits a value, all of them or those of a part, in bands of rows.

ISA-L inflates in less than half the time of the zlib that decoders of PNG are built with. What it
gives goes, stored instead of deflated, to libspng, which undoes the filters; above each band goes
the last row of the one before it. A value depends only on those above it and to its left (PNG,
third edition, section 9): for a part no row below is inflated, and no column behind unfiltered.
"""

import functools
import struct
from collections.abc import Iterator, Sequence

import imagecodecs
import numpy as np
from isal import isal_zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
START = 29
"""Bytes of the signature and of the header behind it."""
GREY, RGB, PALETTE, RGB_ALPHA = 0, 2, 3, 6
BANDS = {GREY: 1, RGB: 3, PALETTE: 1, RGB_ALPHA: 4}
"""Values of a pixel of each kind that is read here."""
BAND = 512 << 10
"""Bytes of the rows that are unfiltered together, about."""
PIECE = 128 << 10
"""Bytes that are given to the library to inflate: it copies what it has not used yet."""
STORED = 65535
"""The most bytes of a stored block."""


def begins(start: bytes) -> bool:
    """Say whether a file that begins with these `START` bytes is read here."""
    return start[:8] == SIGNATURE and start[12:16] == b"IHDR" and decodes(start[16:29])


def decodes(ihdr: bytes) -> bool:
    """Say whether files of such a header are read here: of eight bits, not interlaced."""
    return len(ihdr) == 13 and ihdr[8] == 8 and ihdr[9] in BANDS and ihdr[10:] == b"\0\0\0"


def decode(content: bytes, rows: slice | None = None, columns: slice | None = None) -> np.ndarray:
    """Return the pixels uint8 [h w bands] of a file, as they are stored; of a palette the numbers.

    The sums (CRC-32) of all chunks and the file's end are checked, so that what was cut off or
    changed after it was written is seen. Rows below a part are not inflated: that a program wrote
    too few of them, or such as no decoder reads, is seen only where they are asked for.

    Args:
        content: Of the file, which begins with `SIGNATURE`.
        rows: Those to return, in steps of 1; None: all.
        columns: Likewise.

    Raises:
        ValueError: It is damaged, not `decodes`, or odd: another decoder may read it.
    """
    view = memoryview(content)
    ihdr, data = _chunks(view)
    if not decodes(ihdr):
        raise ValueError("pixels that have not eight bits, or are interlaced")
    width, height, _, kind = struct.unpack(">IIBB", ihdr[:10])
    rows, columns = rows or slice(0, height), columns or slice(0, width)
    bands, right = BANDS[kind], columns.stop
    if rows.stop > height or right > width:
        raise ValueError(f"{height}x{width} pixels, which have no such part")
    stride = 1 + width * bands
    found = np.empty((rows.stop - rows.start, right - columns.start, bands), np.uint8)
    inflated = _Inflated(data)
    above = np.zeros(right * bands, np.uint8)
    step = max(1, BAND // stride)
    for start in range(0, rows.stop, step):
        stop = min(start + step, rows.stop)
        filtered = np.frombuffer(inflated.read((stop - start) * stride), np.uint8)
        band = np.zeros((1 + stop - start, 1 + right * bands), np.uint8)
        band[0, 1:] = above
        band[1:] = filtered.reshape(-1, stride)[:, : 1 + right * bands]
        pixels = _unfilter(band, right, GREY if kind == PALETTE else kind)
        above = pixels[-1].ravel()
        low = max(start, rows.start)
        if low < stop:
            found[low - rows.start : stop - rows.start] = pixels[1 + low - start :, columns]
    if rows.stop == height:
        inflated.check_end()
    return found


def _chunks(view: memoryview) -> tuple[bytes, list[memoryview]]:
    """Return the header and the parts of the deflated data; the sums of all chunks are checked."""
    at, ihdr, data, ended = len(SIGNATURE), b"", list[memoryview](), False
    while not ended and at + 12 <= len(view):
        length, kind = struct.unpack_from(">I4s", view, at)
        end = at + 8 + length
        if end + 4 > len(view) or isal_zlib.crc32(view[at + 4 : end]) != _number(view, end):
            raise ValueError(f"a damaged chunk {kind!r}")
        if kind == b"IHDR":
            ihdr = bytes(view[at + 8 : end])
        elif kind == b"IDAT":
            data.append(view[at + 8 : end])
        elif kind == b"acTL":
            raise ValueError("an animation")
        ended = kind == b"IEND"
        at = end + 4
    if not ended:
        raise ValueError("no end (IEND)")
    return ihdr, data


def _number(view: memoryview, at: int) -> int:
    return struct.unpack_from(">I", view, at)[0]


class _Inflated:
    """The inflated data of a file, read from its beginning."""

    def __init__(self, data: Sequence[memoryview]):
        self.pieces, self.unpacker = _pieces(data), isal_zlib.decompressobj()
        self.rest: bytes | memoryview = b""

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        found: list[bytes] = []
        while count:
            found.append(self._some(count))
            count -= len(found[-1])
        return found[0] if len(found) == 1 else b"".join(found)

    def check_end(self) -> None:
        """Raise `ValueError` unless all was read, and its sum is right."""
        while not self.unpacker.eof:
            if self.unpacker.decompress(self.rest, 1):
                raise ValueError("more rows than its header says")
            self.rest = self.unpacker.unconsumed_tail
            if not (self.rest or self.unpacker.eof):
                self.rest = self._next()

    def _some(self, most: int) -> bytes:
        while not (found := self.unpacker.decompress(self.rest, most)):
            self.rest = self.unpacker.unconsumed_tail or self._next()
        self.rest = self.unpacker.unconsumed_tail
        return found

    def _next(self) -> memoryview:
        piece = None if self.unpacker.eof else next(self.pieces, None)
        if piece is None:
            raise ValueError("fewer rows than its header says")
        return piece


def _pieces(parts: Sequence[memoryview]) -> Iterator[memoryview]:
    for part in parts:
        for at in range(0, len(part), PIECE):
            yield part[at : at + PIECE]


def _unfilter(band: np.ndarray, width: int, kind: int) -> np.ndarray:
    """Return the pixels of filtered rows [h 1+bytes], the first of which is the image's first."""
    flat = band.ravel().data
    stored: list[bytes | memoryview] = [b"\x78\x01"]
    for at in range(0, len(flat), STORED):
        part = flat[at : at + STORED]
        last = at + STORED >= len(flat)
        stored += [struct.pack("<BHH", last, len(part), len(part) ^ 0xFFFF), part]
    stored.append(struct.pack(">I", isal_zlib.adler32(flat)))
    ihdr = struct.pack(">IIBBBBB", width, len(band), 8, kind, 0, 0, 0)
    png = [SIGNATURE, *_chunk(b"IHDR", [ihdr]), *_chunk(b"IDAT", stored), *_chunk(b"IEND", [])]
    pixels = np.asarray(imagecodecs.spng_decode(b"".join(png)))
    return pixels.reshape(len(band), width, BANDS[kind])


def _chunk(kind: bytes, parts: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
    crc = functools.reduce(lambda crc, part: isal_zlib.crc32(part, crc), (kind, *parts), 0)
    return [struct.pack(">I", sum(map(len, parts))), kind, *parts, struct.pack(">I", crc)]
