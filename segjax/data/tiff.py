"""TIFF files: any depth, bands, byte order and compression, and the page that is meant."""

import logging
import os
import re
import struct
from collections.abc import Iterator
from typing import IO

import numpy as np
import tifffile

from segjax.data import png, raster, webp
from segjax.data.raster import Colour, Header, Opened

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Of TIFF and BigTIFF, with either byte first."""

_REDUCED, _TRANSPARENCY = 1, 4  # bits of NewSubfileType: no image of its own
_OLD_REDUCED = 2  # value of SubfileType
_PHOTOMETRIC: dict[int, Colour] = {
    0: "grey", 1: "grey", 2: "rgb", 3: "palette", 5: "cmyk", 6: "ycbcr", 8: "lab",
}  # fmt: skip
_COLOURS = {"grey": 1, "rgb": 3, "palette": 1, "cmyk": 4, "ycbcr": 3, "lab": 3}
JPEG = (6, 7, 33007, 34892)
"""Compressions whose decoder turns YCbCr to RGB."""
_BY_SIZE = (1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 50000)
"""Compressions whose decoder is told how much to make: none, CCITT, LZW, deflate, PackBits, LZMA,
Zstandard."""

MAX_PAGES = 1000
MAX_TAGS = 4096
MAX_VALUES = 1 << 21
"""Of all tags of a page together, beside text and bytes; one for each strip or tile."""
MAX_SEGMENT_BYTES = 256 << 20
"""Of a strip or tile when decoded."""
_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_WIDTHS |= {16: 8, 17: 8, 18: 8}
_BYTES = (1, 2, 6, 7)
"""Types of tags: text and bytes."""
logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what matters of it comes as an exception


def open_tiff(stream: IO[bytes]) -> Opened:
    """Return what the one page holds that is an image of its own.

    Pages that the file calls reduced (thumbnails, overviews) or transparency masks are none.

    Raises:
        ValueError: No such page, or a kind of pixel that is not known; and whatever tifffile raises
            on a broken file.
    """
    return open_page(stream)[0]


def open_page(stream: IO[bytes]) -> tuple[Opened, tifffile.TiffPage]:
    """Return what `open_tiff` does, and the page itself.

    Raises:
        ValueError: As `open_tiff`.
    """
    check_directories(stream)
    stream.seek(0)
    tiff = tifffile.TiffFile(stream)
    pages = [page.aspage() for page in tiff.pages]
    pages = [page for page in pages if _is_own(page)]
    if not pages:
        raise ValueError("no page is an image of its own")
    page = pages[0]
    if page.dtype is None or set(page.axes) - set("YXSZ") or "Y" not in page.axes:
        raise ValueError(f"pixels of a kind that is not known (axes {page.axes!r})")
    images = len(pages) * page.imagedepth
    if tiff.is_imagej:  # its stacks may have a single page
        images = max(images, int((tiff.imagej_metadata or {}).get("images", 1)))
    elif tiff.is_shaped:  # and so may those of tifffile
        images = max(images, tiff.series[0].size // page.size)
    header = _header(page, images=images)

    def pixels() -> np.ndarray:
        check_segments(page, stream)
        array = np.asarray(page.asarray(maxworkers=1))  # many files are read at once
        array = np.moveaxis(array, 0, -1) if page.axes == "SYX" else array
        array = array.view(np.uint8) if array.dtype == bool else array
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        return array.reshape(header.height, header.width, header.bands)

    return Opened(header, pixels), page


def check_directories(stream: IO[bytes]) -> None:
    """Check that what a TIFF file says of its tags lies in the file, before room is made for it.

    Raises:
        ValueError: It does not, or there are too many pages, tags or values.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    order = "<" if stream.read(2) == b"II" else ">"
    big = struct.unpack(f"{order}H", stream.read(2))[0] == 43
    stream.seek(8 if big else 4)
    word, entry = (f"{order}Q", f"{order}HHQ8s") if big else (f"{order}I", f"{order}HHI4s")
    seen: set[int] = set()
    where = _number(stream, word)
    while where:
        if where in seen or where >= size or len(seen) >= MAX_PAGES:
            raise ValueError(
                f"its pages lead in a circle, out of the file, or are over {MAX_PAGES:,}"
            )
        seen.add(where)
        stream.seek(where)
        count = _number(stream, f"{order}Q" if big else f"{order}H")
        if count > MAX_TAGS:
            raise ValueError(f"a page of {count:,} tags, at most {MAX_TAGS:,} are read")
        content = stream.read(count * struct.calcsize(entry))
        if len(content) < count * struct.calcsize(entry):
            raise ValueError("a page is cut short")
        _check_tags(struct.iter_unpack(entry, content), size=size, order=order, word=word)
        where = _number(stream, word)


def _number(stream: IO[bytes], form: str) -> int:
    content = stream.read(struct.calcsize(form))
    return struct.unpack(form, content)[0] if len(content) == struct.calcsize(form) else 0


def _check_tags(
    tags: Iterator[tuple[int, int, int, bytes]], *, size: int, order: str, word: str
) -> None:
    """Check the tags of a page: how many values they have, and that these lie in the file."""
    values = held = 0
    for code, kind, count, content in tags:
        num_bytes = count * _WIDTHS.get(kind, 1)
        inside = num_bytes <= len(content)
        if not inside and num_bytes + struct.unpack(word, content)[0] > size:
            raise ValueError(f"tag {code} of {num_bytes:,} bytes reaches beyond the file")
        held += num_bytes
        values += 0 if kind in _BYTES else count
    if values > MAX_VALUES or held > 2 * size:
        raise ValueError(f"its tags hold {values:,} numbers, at most {MAX_VALUES:,} are read")


def check_segments(page: tifffile.TiffPage, stream: IO[bytes]) -> None:
    """Check that the strips or tiles of a page are as large as the page says, before decoding.

    Raises:
        ValueError: They are not, or are compressed in a way that does not tell.
    """
    width, height = segment_sides(page)
    itemsize = page.dtype.itemsize if page.dtype else 1
    depth = page.samplesperpixel * page.tiledepth if page.is_tiled else page.samplesperpixel
    if width * height * depth * itemsize > MAX_SEGMENT_BYTES and page.is_tiled:
        raise ValueError(f"tiles of {height}x{width} pixels, which are too large")
    wanted = len(page.dataoffsets)
    there = -(-page.imagewidth // width) * -(-page.imagelength // height)
    planes = (page.samplesperpixel if page.planarconfig == 2 else 1) * page.imagedepth
    if wanted > there * planes:
        raise ValueError(f"{wanted:,} strips or tiles, but only {there * planes:,} have a place")
    if max(page.databytecounts, default=0) > stream.seek(0, os.SEEK_END):
        raise ValueError("a strip or tile is longer than the file")
    if int(page.compression) in _BY_SIZE:
        return
    if any(_of_jpeg(bytes(tables or b"")) for tables in (page.jpegtables, page.jpegheader)):
        raise ValueError("its JPEG tables hold an image")
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if not count:
            continue
        stream.seek(offset)
        found = _declared(stream.read(min(count, raster.MAX_NOTE_BYTES)))
        if found is None:
            raise ValueError(
                f"compressed as {page.compression!s}, which does not tell its size before it is "
                "decoded, or without a header. Save it with deflate or LZW"
            )
        if found[0] > width or found[1] > height:
            raise ValueError(
                f"a strip or tile of {found[1]}x{found[0]} pixels, the page has {height}x{width}"
            )


def segment_sides(page: tifffile.TiffPage) -> tuple[int, int]:
    """Return width and height of a page's strips or tiles."""
    if page.is_tiled:
        return max(1, page.tilewidth), max(1, page.tilelength)
    return max(1, page.imagewidth), max(1, min(page.rowsperstrip, page.imagelength))


def _declared(content: bytes) -> tuple[int, int] | None:
    """Return the width and height that an image says it has; None: it cannot be told."""
    if content.startswith(b"\xff\xd8"):
        return _of_jpeg(content)
    if content.startswith(png.SIGNATURE):
        return struct.unpack(">II", content[16:24])
    if content.startswith(webp.MAGIC):
        return webp.size_of(content)
    starts = [found.end() for found in re.finditer(rb"\xff\x4f\xff\x51.{4}", content, re.DOTALL)]
    sizes = [struct.unpack_from(">IIII", content, at) for at in starts if at + 16 <= len(content)]
    if not sizes or not content.startswith((b"\xff\x4f", b"\0\0\0\x0cjP")):  # JPEG 2000
        return None
    return max(w - x for w, _, x, _ in sizes), max(h - y for _, h, _, y in sizes)


def _of_jpeg(content: bytes) -> tuple[int, int] | None:
    """Return the width and height in the first frame header of a JPEG stream."""
    at = 2
    while at + 9 <= len(content) and content[at] == 0xFF:
        kind, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", content, at + 5)
            return width, height
        at += 1 if kind == 0xFF else 2 + length
    return None


def _is_own(page: tifffile.TiffPage) -> bool:
    new, old = (_tag(page, code) or 0 for code in (254, 255))
    return not new & (_REDUCED | _TRANSPARENCY) and old != _OLD_REDUCED


def _tag(page: tifffile.TiffPage, code: int) -> int | None:
    """Return a tag's number, the largest if it has several; None without the tag."""
    tag = page.tags.get(code)
    if tag is None:
        return None
    value = tag.value
    return int(max(value) if isinstance(value, (tuple, list)) else value)


def _header(page: tifffile.TiffPage, *, images: int) -> Header:
    bands = page.samplesperpixel
    colour = _PHOTOMETRIC.get(int(page.photometric), "bands")
    if colour == "ycbcr" and int(page.compression) in JPEG:
        colour = "rgb"
    extras = [int(extra) for extra in page.extrasamples]
    if colour == "grey" and bands - len(extras) > 1 or bands < _COLOURS.get(colour, 1):
        colour = "bands"
    palette = None
    if colour == "palette" and page.colormap is not None:
        table = np.asarray(page.colormap).T
        palette = (table >> 8 if table.max() > 255 else table).astype(np.uint8)
    turn = _tag(page, 274) or 1
    return Header(
        height=page.imagelength,
        width=page.imagewidth,
        bands=bands,
        bits=page.bitspersample,
        dtype="uint8" if page.dtype == bool else str(page.dtype),
        colour=colour,
        alpha=bool(extras) and extras[-1] in (1, 2),
        orientation=turn if turn in range(1, 9) else 1,
        inverted=int(page.photometric) == 0,
        palette=palette,
        largest=_tag(page, 281),
        images=images,
        lossy=int(page.compression) in JPEG,
    )
