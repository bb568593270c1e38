"""Images and masks of which parts are read: large ones, and PNG images where one is wanted."""

import contextlib
import os
from collections.abc import Callable

import numpy as np

from segjax.data import decode, lazy, png, raster, tiff, tiff_parts, values
from segjax.data.lazy import Lazy
from segjax.data.raster import File, Header


def open_image(file: File, *, name: str, reading: decode.Reading) -> np.ndarray | Lazy:
    """Return an image as `read_image` does; a large TIFF file as one whose parts are read.

    Its strips or tiles must be small, its pixels lie upright, and its values be such that no other
    decides what one means: of the type that is asked for, or any in 'float32'. Within
    `lazy.one_part` so is an upright PNG of eight bits and up to `lazy.LARGE` bytes. Of such a file
    the first part is read alone, see `png.decode` for what is not noticed then.

    Raises:
        DataError: As `read_image`; of what is read in parts some of it when a part is read.
    """
    parts = _parts(file, name=name, exif=reading.exif) or _once(file, name=name, reading=reading)
    if parts and _is_plain(parts.header, reading.dtype):

        def bring(pixels: np.ndarray) -> np.ndarray:
            header = parts.header
            found, bits = values.bring_to_channels(header, pixels, reading.channels, name=name)
            found = values.bring_to_dtype(
                header, found, bits, reading.dtype, name=name, missing=reading.missing == "void"
            )
            return np.ascontiguousarray(found)

        return _lazy(parts, bring, reading.channels, name=name)
    return decode.read_image(file, name=name, **reading.of_pictures)


def open_label(file: File, *, name: str, exif: bool = True) -> np.ndarray | Lazy:
    """Return a mask as `read_label` does; a large TIFF file of whole numbers as `open_image` does.

    Raises:
        DataError: As `read_label`.
    """
    parts = _parts(file, name=name, exif=exif)
    if parts and np.dtype(parts.header.dtype).kind in "iu":
        decode.check_bands(parts.header, name=name, bands=1)
        return _lazy(parts, lambda pixels: pixels[..., 0], 0, name=name)
    return decode.read_label(file, name=name, exif=exif)


def open_missing(
    file: File, *, name: str, reading: decode.Reading, void: float | None
) -> np.ndarray | Lazy:
    """Return which pixels [h w] of an image are none, see `decode.read_missing`; as `open_image`.

    Raises:
        DataError: As `open_image`.
    """
    parts = _parts(file, name=name, exif=reading.exif)
    if parts and _is_plain(parts.header, reading.dtype):
        return _lazy(parts, lambda pixels: values.missing_pixels(pixels, void), 0, name=name)
    return decode.read_missing(file, name=name, exif=reading.exif, void=void)


def check_header(file: File, *, name: str, reading: decode.Reading) -> tuple[int, int]:
    """Check by its header that an image can be opened, as far as that shows.

    Returns:
        Height and width, as it is shown.

    Raises:
        DataError: As `open_image`.
    """
    parts = _parts(file, name=name, exif=reading.exif)
    if parts and _is_plain(parts.header, reading.dtype):
        header = parts.header
    else:
        header = decode.read_header(file, name=name)
    return decode.shown_size(header, reading.exif)


def read_header(file: File, *, name: str, exif: bool) -> Header:
    """Return what a file says of itself; a large one only has to have parts.

    Raises:
        DataError: As `decode.read_header`.
    """
    parts = _parts(file, name=name, exif=exif)
    return parts.header if parts else decode.read_header(file, name=name)


def _is_plain(header: Header, dtype: str) -> bool:
    """Say whether a value means the same whatever the other values are."""
    full = header.bits == 8 * np.dtype(header.dtype).itemsize
    return dtype == "float32" or (dtype == header.dtype and full)


def _parts(file: File, *, name: str, exif: bool) -> tiff_parts.Parts | None:
    """Return what reads parts of a file; None if it is not large, or cannot be read so."""
    if isinstance(file, bytes) or os.path.splitext(name)[1].lower() not in (".tif", ".tiff"):
        return None
    with decode.explained(name), contextlib.ExitStack() as stack:
        stream = stack.enter_context(raster.stream_of(file, limit=lazy.LARGEST))
        if stream.read(4) not in tiff.MAGIC:
            return None
        opened, page = tiff.open_page(stream)
        header = opened.header
        size = header.height * header.width * header.bands * np.dtype(header.dtype).itemsize
        if size < lazy.LARGE or (exif and header.orientation != 1):
            return None
        raster.check(header, name=name, most=lazy.LARGEST)
        try:
            parts = tiff_parts.Parts(stream, header, page)
        except ValueError:
            return None  # the whole file, or why not: as for any other
        stack.pop_all()  # it reads on
        return parts


class Once:
    """The pixels [h w bands] of a PNG file, of which one part is wanted.

    For a second one the whole file is read, and stays.

    Args:
        file: The file.
        header: What it says of itself.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, file: File, header: Header):
        self.file, self.header = file, header
        self.asked, self.whole = False, np.empty(0, np.uint8)

    def read(self, region: lazy.Region) -> np.ndarray:
        """Return a part of the pixels; the region's first two axes count."""
        found = None if self.asked else self._part(region)
        self.asked = True
        if found is not None:
            return found
        if not self.whole.size:
            with raster.stream_of(self.file) as stream:
                self.whole = raster.open_image(stream).pixels()
            if self.whole.shape[:2] != (self.header.height, self.header.width):
                raise ValueError("it was changed while it was read")
        return self.whole[region[:2]]

    def _part(self, region: lazy.Region) -> np.ndarray | None:
        with raster.stream_of(self.file) as stream:
            content = stream.read()
        try:
            return png.decode(content, *region[:2])
        except MemoryError:
            raise
        except Exception:  # the whole file, or why not
            return None


def _once(file: File, *, name: str, reading: decode.Reading) -> Once | None:
    """Return what reads a part of a PNG file, where one is wanted; None if it is read whole."""
    if not lazy.one_part_wanted() or not name.lower().endswith(".png"):
        return None
    with decode.explained(name), raster.stream_of(file) as stream:
        if not png.begins(stream.read(png.START)):
            return None
        stream.seek(0)
        header = raster.open_image(stream).header
        turned = reading.exif and header.orientation != 1
        if turned or header.height * header.width * header.bands > lazy.LARGE:
            return None
        least = reading.channels * np.dtype(reading.dtype).itemsize
        raster.check(header, name=name, least=least)
        return Once(file, header)


def _lazy(
    parts: tiff_parts.Parts | Once,
    bring: Callable[[np.ndarray], np.ndarray],
    channels: int,
    *,
    name: str,
) -> Lazy:
    header = parts.header

    def read(region: lazy.Region) -> np.ndarray:
        with decode.explained(name):
            return bring(parts.read(region))[..., *region[2:]]

    behind = (channels,) if channels else ()
    one = bring(np.zeros((1, 1, header.bands), parts.dtype))
    return Lazy((header.height, header.width, *behind), one.dtype, read, name=name)
