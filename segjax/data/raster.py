"""What an image file says of itself and what it stores, before anyone decides what that means.

Pillow opens PNG, JPEG, BMP and GIF; pixels of eight bits in PNG (see `png`) and JPEG come from
decoders that give the same in less time, and are Pillow's where these fail. All release the GIL.
What Pillow would round off, pixels of a PNG that have not eight bits, comes from the file. TIFF and
WebP have files of their own. Whatever a file claims, its size is known and checked (`check`) before
anything of that size is made.
"""

import dataclasses
import io
import os
import struct
import warnings
from collections.abc import Callable
from typing import IO, Any, Literal, NamedTuple

import imagecodecs
import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
)

from segjax.data import gif, png
from segjax.errors import DataError
from segjax.runtime import memory, reading

File = str | os.PathLike[str] | bytes
Colour = Literal["grey", "rgb", "palette", "cmyk", "ycbcr", "lab", "bands"]

MAX_BYTES = 1 << 30
"""An image that needs more memory than this when decoded (8-bit RGB of 18,900 x 18,900 pixels) is
refused by its header: several are decoded at once, and a file of a few kB can claim any size."""
MAX_FILE_BYTES = 2 * MAX_BYTES
MAX_CHUNKS = 1 << 20
"""Of a PNG."""
MAX_SCANS, MAX_SCANNED = 20, 1 << 32
"""Of a JPEG: more scans than usual may draw so many pixels together."""
_SCAN = b"\xff\xda"
MAX_NOTE_BYTES = 1 << 20
"""Of a part of a file that describes the pixels, such as EXIF."""

GIF = b"GIF8"
PNG_GREY_ALPHA = 4
ORIENTATION = 0x0112
warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters of them comes as an exception


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file says of its pixels.

    Attributes:
        height: Of the pixels as stored, before any turn.
        width: Likewise.
        bands: Values of a pixel, opacity included; 1 with a palette.
        bits: Bits of each of them in the file: 1 to 64.
        dtype: NumPy's name of the type that holds them, such as 'uint16'.
        colour: What the bands are; 'bands': the file says nothing that we know.
        alpha: Whether the last band is opacity.
        orientation: 1 to 8, the EXIF or TIFF tag: how viewers turn the pixels; 1: not at all.
        inverted: Whether 0 is white.
        palette: The colours of the values, uint8 [n 3].
        largest: The largest value that the file declares (PNG's sBIT, TIFF's MaxSampleValue).
        shifted: Whether the significant bits that it declares are the upper ones (sBIT).
        images: How many images of their own the file holds; 2 may stand for more.
        lossy: Whether it is compressed as JPEG is, which changes numbers.
    """

    height: int
    width: int
    bands: int
    bits: int
    dtype: str
    colour: Colour
    alpha: bool = False
    orientation: int = 1
    inverted: bool = False
    palette: np.ndarray | None = None
    largest: int | None = None
    shifted: bool = False
    images: int = 1
    lossy: bool = False

    def describe(self) -> str:
        """Return the type and the bands in words, for messages."""
        bands = f"{self.bands} band{'s' if self.bands > 1 else ''}"
        kind = "" if self.colour == "bands" else f", {self.colour}{' and alpha' * self.alpha}"
        depth = f" ({self.bits} bits)" if self.bits != 8 * np.dtype(self.dtype).itemsize else ""
        return f"{self.dtype}{depth}, {bands}{kind}"


class Opened(NamedTuple):
    """A file's header, and a function that decodes its pixels [h w bands] as they are stored."""

    header: Header
    pixels: Callable[[], np.ndarray]


def stream_of(file: File, *, limit: int = MAX_FILE_BYTES) -> IO[bytes]:
    """Return a file, or encoded bytes, as a stream to be closed."""
    return io.BytesIO(file) if isinstance(file, bytes) else reading.open_file(file, limit=limit)


def check(header: Header, *, name: str, least: int = 0, most: int = 0) -> None:
    """Refuse what cannot be one image in memory; a pixel takes `least` bytes at least.

    Raises:
        DataError: More images than one, or more bytes than `most`; 0: than `MAX_BYTES`.
    """
    most = most or MAX_BYTES
    if header.images > 1:
        raise DataError(
            f"{name}: holds several images (pages or frames), expected one. Save the one that is "
            "meant, or each in a file of its own."
        )
    pixel = max(least, header.bands * np.dtype(header.dtype).itemsize)
    size = header.height * header.width * pixel
    if size > most:
        raise DataError(
            f"{name}: {header.height}x{header.width} pixels of {header.describe()} need "
            f"{size / 2**20:,.0f} MiB of memory, the limit is {most >> 20:,} MiB. Cut it into "
            "tiles, or save it smaller."
        )


def open_image(stream: IO[bytes]) -> Opened:
    """Return what a PNG, JPEG, BMP or GIF file holds.

    Pillow's own `Image.open` is not used: it refuses by a number of pixels, see `MAX_BYTES`.

    Raises:
        ValueError: Another format; and whatever Pillow raises on a broken file.
    """
    start = stream.read(len(png.SIGNATURE))
    stream.seek(0)
    if start == png.SIGNATURE:
        return _open_png(stream)
    images = 1
    if start.startswith(GIF):
        height, width, images = gif.frames(stream)
        if height * width > MAX_BYTES:
            raise ValueError(f"a frame of {height}x{width} pixels is beyond {MAX_BYTES:,} bytes")
        stream.seek(0)
    for magic, factory in _FORMATS:
        if start.startswith(magic):
            image = factory(stream)
            break
    else:
        found = f"it begins with {start!r}" if start else "it is empty"
        raise ValueError(f"no PNG, JPEG, TIFF, WebP, BMP or GIF ({found})")
    # Behind the picture of a JPEG (MPO) lie previews and gain maps of the same picture.
    header = _header(image, images=images)

    def pixels() -> np.ndarray:
        if header.lossy:
            _check_scans(stream, header)
        if image.format == "JPEG" and _ends(stream):
            return _decode(imagecodecs.jpeg8_decode, stream, header, image)
        return _pixels(image)

    return Opened(header, pixels)


def _check_scans(stream: IO[bytes], header: Header) -> None:
    """Refuse a JPEG that draws a large picture again and again: each scan may be a few bytes."""
    place = stream.tell()
    stream.seek(0)
    count, last = 0, b""
    while part := stream.read(1 << 20):
        count += (last + part).count(_SCAN)
        last = part[-1:]
    stream.seek(place)
    if count > MAX_SCANS and count * header.height * header.width > MAX_SCANNED:
        raise ValueError(f"{count:,} scans of {header.height}x{header.width} pixels")


def _open_png(stream: IO[bytes]) -> Opened:
    chunks = _png_chunks(stream)
    bits, kind = chunks["IHDR"][8], chunks["IHDR"][9]
    stream.seek(0)
    image = PngImagePlugin.PngImageFile(stream)
    if "eXIf" in chunks:  # it may stand behind the pixels, where Pillow would decode them first
        image.info["exif"] = b"Exif\0\0" + chunks["eXIf"]
    header = dataclasses.replace(
        _header(image, images=getattr(image, "n_frames", 1)),
        bits=bits,
        **_significant(chunks, bits),
    )
    if bits == 16 and kind != png.GREY:  # Pillow has no such mode, and drops the lower byte

        def decode() -> np.ndarray:
            image.load()  # checks the sums, which the other decoder does not
            stream.seek(0)
            return imagecodecs.png_decode(stream.read())

        alpha = kind != png.RGB
        bands = 2 if kind == PNG_GREY_ALPHA else 3 + alpha
        colour: Colour = "grey" if kind == PNG_GREY_ALPHA else "rgb"
        header = dataclasses.replace(
            header, dtype="uint16", bands=bands, colour=colour, alpha=alpha, palette=None
        )
        shape = header.height, header.width, -1  # libpng makes a band of a chosen colour (tRNS)
        return Opened(header, lambda: decode().reshape(shape)[..., :bands])
    if kind == png.GREY and bits in (2, 4):  # Pillow spreads these to 0..255
        return Opened(header, lambda: _pixels(image) // (255 // (2**bits - 1)))
    if png.decodes(chunks["IHDR"]) and png.BANDS[kind] > 1:  # of one band it takes as long
        return Opened(header, lambda: _decode(png.decode, stream, header, image))
    if bits == 8 and kind in (png.GREY, png.RGB):
        return Opened(header, lambda: _decode(imagecodecs.spng_decode, stream, header, image))
    return Opened(header, lambda: _pixels(image))


def _ends(stream: IO[bytes]) -> bool:
    """Say whether a JPEG has its last marker; of one that was cut off only Pillow says so."""
    stream.seek(-min(2, stream.seek(0, os.SEEK_END)), os.SEEK_END)
    return stream.read() == b"\xff\xd9"


def _decode(
    decode: Callable[[bytes], np.ndarray], stream: IO[bytes], header: Header, image: Image.Image
) -> np.ndarray:
    """Return the pixels that Pillow would give, in less time; what has none is left to Pillow."""
    stream.seek(0)
    try:
        found = np.asarray(decode(stream.read()))
    except MemoryError:
        raise
    except Exception:  # Pillow says what is wrong, or sees nothing in it
        return _pixels(image)
    found = found[:, :, None] if found.ndim == 2 else found
    right = found.shape == (header.height, header.width, header.bands) and found.dtype == np.uint8
    return found if right else _pixels(image)


def _png_chunks(stream: IO[bytes]) -> dict[str, bytes]:
    """Return the chunks that describe the pixels, those IHDR, sBIT and eXIf that there are."""
    found: dict[str, bytes] = {}
    count, size = 0, stream.seek(0, os.SEEK_END)
    stream.seek(len(png.SIGNATURE))
    while len(start := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        count += 1
        if count > MAX_CHUNKS:
            raise ValueError(f"more than {MAX_CHUNKS:,} chunks")
        if kind == b"IDAT" and length > size - stream.tell():
            raise ValueError("image file is truncated")
        if kind in (b"IHDR", b"sBIT", b"eXIf"):
            if kind.decode() in found or length > MAX_NOTE_BYTES:
                raise ValueError(f"two chunks {kind.decode()}, or one of {length:,} bytes")
            found[kind.decode()] = stream.read(length)
            length = 0
        stream.seek(length + 4, os.SEEK_CUR)
    if len(found.get("IHDR", b"")) != 13:
        raise ValueError("no header (IHDR)")
    return found


def _significant(chunks: dict[str, bytes], bits: int) -> dict[str, Any]:
    if "sBIT" not in chunks:
        return {}
    significant = max(chunks["sBIT"], default=bits)
    return {"largest": 2**significant - 1, "shifted": True} if 0 < significant <= bits else {}


_MODES: dict[str, tuple[Colour, bool, int, str]] = {
    "1": ("grey", False, 1, "uint8"),
    "L": ("grey", False, 8, "uint8"),
    "LA": ("grey", True, 8, "uint8"),
    "I;16": ("grey", False, 16, "uint16"),
    "P": ("palette", False, 8, "uint8"),
    "RGB": ("rgb", False, 8, "uint8"),
    "RGBA": ("rgb", True, 8, "uint8"),
    "RGBX": ("rgb", False, 8, "uint8"),
    "CMYK": ("cmyk", False, 8, "uint8"),
}
"""Pillow's modes that its decoders of these formats give."""


def _header(image: Image.Image, *, images: int) -> Header:
    if image.mode not in _MODES:
        raise ValueError(f"pixels of a kind that is not known ({image.mode})")
    colour, alpha, bits, dtype = _MODES[image.mode]
    palette = None
    if colour == "palette":
        palette = _palette(image)
    turn = Image.Image.getexif(image).get(ORIENTATION, 1)  # a PNG's own would decode it
    return Header(
        height=image.height,
        width=image.width,
        bands=len(image.getbands()),
        bits=bits,
        dtype=dtype,
        colour=colour,
        alpha=alpha,
        orientation=turn if turn in range(1, 9) else 1,
        palette=palette,
        images=images,
        lossy=image.format in ("JPEG", "MPO"),
    )


def _palette(image: Image.Image) -> np.ndarray:
    """Return the colours, uint8 [n 3]; Pillow's own `getpalette` would decode the pixels for it."""
    if image.palette is None:
        raise ValueError("numbers of colours without a palette")
    order = image.palette.rawmode or image.palette.mode
    table = np.frombuffer(bytes(image.palette.palette), np.uint8)
    table = table[: len(table) // len(order) * len(order)].reshape(-1, len(order))
    return table[:, [order.index(channel) for channel in "RGB"]]


def _pixels(image: Image.Image) -> np.ndarray:
    """Return the pixels, a few rows at a time: Pillow makes two copies of what it gives."""
    image.load()
    height, width = image.height, image.width
    one = _array(image.crop((0, 0, width, 1)))
    array = np.empty((height, *one.shape[1:]), one.dtype)
    for part in memory.rows(array.shape):
        array[part] = _array(image.crop((0, part.start, width, part.stop)))
    return array


def _array(image: Image.Image) -> np.ndarray:
    array = np.asarray(image)
    if array.dtype == bool:  # Pillow's True is a byte of 255
        array = (array.view(np.uint8) != 0).view(np.uint8)
    return array[:, :, None] if array.ndim == 2 else array


_FORMATS: tuple[tuple[bytes, Callable[[IO[bytes]], Image.Image]], ...] = (
    (b"\xff\xd8", JpegImagePlugin.jpeg_factory),
    (GIF, GifImagePlugin.GifImageFile),
    (b"BM", BmpImagePlugin.BmpImageFile),
)
