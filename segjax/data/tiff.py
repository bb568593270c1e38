"""TIFF files: any depth, bands, byte order and compression, and the page that is meant."""

from typing import IO

import numpy as np
import tifffile

from segjax.data.raster import Colour, Header, Opened

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Of TIFF and BigTIFF, with either byte first."""

_REDUCED, _TRANSPARENCY = 1, 4  # bits of NewSubfileType: no image of its own
_OLD_REDUCED = 2  # value of SubfileType
_PHOTOMETRIC: dict[int, Colour] = {
    0: "grey", 1: "grey", 2: "rgb", 3: "palette", 5: "cmyk", 6: "ycbcr", 8: "lab",
}  # fmt: skip
_COLOURS = {"grey": 1, "rgb": 3, "palette": 1, "cmyk": 4, "ycbcr": 3, "lab": 3}
_JPEG = (6, 7, 33007, 34892)
"""Compressions whose decoder turns YCbCr to RGB."""


def open_tiff(stream: IO[bytes]) -> Opened:
    """Return what the one page holds that is an image of its own.

    Pages that the file calls reduced (thumbnails, overviews) or transparency masks are none.

    Raises:
        ValueError: No such page, or a kind of pixel that is not known; and whatever tifffile raises
            on a broken file.
    """
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
        array = np.asarray(page.asarray(maxworkers=1))  # many files are read at once
        array = np.moveaxis(array, 0, -1) if page.axes == "SYX" else array
        array = array.view(np.uint8) if array.dtype == bool else array
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        return array.reshape(header.height, header.width, header.bands)

    return Opened(header, pixels)


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
    if colour == "ycbcr" and int(page.compression) in _JPEG:
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
        lossy=int(page.compression) in _JPEG,
    )
