"""TIFF files whose strips or tiles are decoded where they are needed, and kept for a while."""

import collections
import threading
from typing import IO

import numpy as np
import tifffile

from segjax.data import tiff
from segjax.data.lazy import Region
from segjax.data.raster import Header

CACHE_BYTES = 32 << 20
"""Of decoded strips or tiles that are kept: those that a row of windows shares with the next."""


class Parts:
    """The pixels [h w bands] of a TIFF file, as they are stored.

    Args:
        stream: The file, which stays open.
        header: What the file says of itself.
        page: Its one page, see `tiff.open_page`.

    Raises:
        ValueError: Its pixels cannot be read in parts.
    """

    def __init__(self, stream: IO[bytes], header: Header, page: tifffile.TiffPage):
        tiff.check_segments(page, stream)
        self.stream, self.header, self.page = stream, header, page
        if page.imagedepth != 1 or page.dtype is None:
            raise ValueError("a volume")
        width, height = tiff.segment_sides(page)
        size = width * height * page.samplesperpixel * page.dtype.itemsize
        if size > tiff.MAX_SEGMENT_BYTES and not page.is_memmappable:
            raise ValueError(f"its strips or tiles of {height}x{width} pixels are too large")
        self.sides = height, width
        self.count = -(-page.imagelength // height), -(-page.imagewidth // width)
        self.lock, self.used = threading.Lock(), 0
        self.kept: collections.OrderedDict[int, np.ndarray] = collections.OrderedDict()
        self.dtype = np.dtype(np.uint8 if page.dtype == bool else page.dtype).newbyteorder("=")
        self.mapped = page.asarray(out="memmap") if page.is_memmappable else None

    def read(self, region: Region) -> np.ndarray:
        """Return a part of the pixels [rows columns bands]; the region's first two axes count."""
        with self.lock:
            if self.mapped is not None:
                return self._of_map(region)
            return self._of_segments(region)

    def _of_map(self, region: Region) -> np.ndarray:
        array = np.asarray(self.mapped)
        if array.ndim == 2:
            array = array[..., None]
        elif self.page.axes == "SYX":
            array = np.moveaxis(array, 0, -1)
        part = np.ascontiguousarray(array[region[:2]])
        part = part.view(np.uint8) if part.dtype == bool else part
        return part.astype(self.dtype, copy=False)

    def _of_segments(self, region: Region) -> np.ndarray:
        rows, columns = region[:2]
        bands = self.page.samplesperpixel
        found = np.zeros((rows.stop - rows.start, columns.stop - columns.start, bands), self.dtype)
        separate = int(self.page.planarconfig) == 2 and bands > 1
        height, width = self.sides
        for plane in range(bands if separate else 1):
            for y in range(rows.start // height, -(-rows.stop // height)):
                for x in range(columns.start // width, -(-columns.stop // width)):
                    part = self._segment((plane * self.count[0] + y) * self.count[1] + x)
                    top, left = y * height, x * width
                    a, b = max(rows.start, top), min(rows.stop, top + part.shape[0])
                    c, d = max(columns.start, left), min(columns.stop, left + part.shape[1])
                    into = found[
                        a - rows.start : b - rows.start, c - columns.start : d - columns.start
                    ]
                    seen = part[a - top : b - top, c - left : d - left]
                    if separate:
                        into[..., plane] = seen[..., 0]
                    else:
                        into[...] = seen
        return found

    def _segment(self, number: int) -> np.ndarray:
        """Return one strip or tile [rows columns bands], as far as it lies in the image."""
        if number in self.kept:
            self.kept.move_to_end(number)
            return self.kept[number]
        page, count = self.page, self.page.databytecounts[number]
        content = None
        if count:
            self.stream.seek(page.dataoffsets[number])
            content = self.stream.read(count)
        options = {}
        if int(page.compression) in tiff.JPEG:
            options = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
        decoded, _, shape = page.decode(content, number, **options)
        if decoded is None:  # a sparse file: no bytes stand for zeros
            decoded = np.full(shape, page.nodata, page.dtype)
        part = decoded[0, : shape[1], : shape[2]]
        part = part.view(np.uint8) if part.dtype == bool else part
        part = part.astype(self.dtype, copy=False)
        self.kept[number] = part
        self.used += part.nbytes
        while self.used > CACHE_BYTES and len(self.kept) > 1:
            self.used -= self.kept.popitem(last=False)[1].nbytes
        return part
