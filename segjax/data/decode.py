"""Image and mask files to arrays, from a path or from the encoded bytes.

`raster` and `tiff` give what a file stores. Here is decided what it means: a mask is the stored
numbers, an image has the channels and the type that its data set asks for, and nothing is lost on
the way without a word.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from segjax.config import lookup
from segjax.data import raster, tiff, webp
from segjax.data.raster import File, Header
from segjax.errors import DataError
from segjax.runtime import memory

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")
LOSSY_ENDINGS = (".jpg", ".jpeg", ".webp")
LABEL_ENDINGS = tuple(ending for ending in IMAGE_ENDINGS if ending not in LOSSY_ENDINGS)
"""JPEG and WebP are left out: their compression changes class numbers."""

DTYPES = ("uint8", "uint16", "float32")
_LUMA = (19595, 38470, 7471)
"""ITU-R BT.601 in parts of 65536, as Pillow has them."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """How a data set reads images, and with it whatever predicts for a model trained on it.

    Attributes:
        channels: Channels of every image: 3 turns grey ones to RGB, 1 colour ones to grey, and both
            drop an opacity channel; any other number must be the file's own.
        exif: Turn images upright by their EXIF or TIFF orientation tag, as viewers and annotation
            tools show them, and masks by theirs. False: as stored.
        dtype: 'uint8', 'uint16' or 'float32', see `read_image`.
    """

    channels: int = 3
    exif: bool = True
    dtype: str = "uint8"

    def __post_init__(self) -> None:
        lookup.choose(self.dtype, DTYPES, what="dtype")


def read_image(
    file: File, *, name: str, channels: int = 3, exif: bool = True, dtype: str = "uint8"
) -> np.ndarray:
    """Decode an image to `[h w c]` of `dtype`; see `Reading` for `channels` and `exif`.

    A grey file in which 0 is white is turned to 0 for black. Otherwise values are the file's own,
    and never stretched to the image's range:

    * 'uint8' is for files of 8 bits or less (of 1, 2 and 4 bits spread to 0..255, as they are
      shown). A file of more bits is read only if that loses nothing: it declares 8 significant bits
      (PNG's sBIT), or all values are 8 bits widened to 16 (multiples of 257), or none is above 255
      and it declares no larger range (TIFF's MaxSampleValue).
    * 'uint16' is for files of 9 to 16 bits: 12 bits in 16 stay 0..4095. One of 8 bits would look
      nearly black among them and is refused.
    * 'float32' takes every file's values as they are, whole ones up to 2**24.

    Raises:
        DataError: Unreadable or truncated file, several pages, more memory than
            `raster.MAX_BYTES` in the file or as asked for, values that `dtype` would change, not
            finite ones, other channels.
    """
    least = channels * np.dtype(dtype).itemsize
    header, pixels = _load(file, name=name, exif=exif, least=least)
    pixels, bits = bring_to_channels(header, pixels, channels, name=name)
    return np.ascontiguousarray(bring_to_dtype(header, pixels, bits, dtype, name=name))


def read_label(file: File, *, name: str, exif: bool = True) -> np.ndarray:
    """Decode a mask to the whole numbers `[h w]` it stores, in a type of 8 to 64 bits.

    A palette gives its indices, files of 1, 2 and 4 bits 0..1, 0..3 and 0..15, whatever is black
    or white; floating-point numbers are taken if they are whole. `exif` turns the mask by its own
    tag, see `Reading`.

    Raises:
        DataError: Unreadable file, several pages, colours instead of class numbers, fractions, or
            JPEG's compression, which changes numbers.
    """
    return np.ascontiguousarray(read_bands(file, name=name, bands=1, exif=exif)[..., 0])


def read_bands(file: File, *, name: str, bands: int, exif: bool = True) -> np.ndarray:
    """Decode a mask of several bands to the whole numbers `[h w bands]` it stores.

    See `read_label`, whose mask has one.

    Raises:
        DataError: As there, or another number of bands.
    """
    header, label = _load(file, name=name, exif=exif)
    check_bands(header, name=name, bands=bands)
    if label.dtype.kind == "f":
        label = label.astype(np.float64)
        bad = label[~((label == np.rint(label)) & (np.abs(label) < 2**53))]
        if bad.size:
            raise DataError(
                f"{name}: a mask must hold whole numbers, got {header.describe()} with the value "
                f"{bad[0]:g} in it. Save class numbers as an 8-bit grey PNG."
            )
        label = label.astype(np.int64)
    if label.dtype.kind not in "iu":
        raise DataError(
            f"{name}: a mask must hold whole numbers, got {header.describe()}. Save class numbers "
            "as an 8-bit grey PNG."
        )
    return np.ascontiguousarray(label)


def read_pair(
    image_file: File,
    label_file: File,
    *,
    image_name: str,
    label_name: str,
    reading: Reading,
) -> tuple[np.ndarray, np.ndarray]:
    """Decode an image and its mask; see `read_image` and `read_label`.

    Raises:
        DataError: They differ in size, or one cannot be used.
    """
    image = read_image(image_file, name=image_name, **dataclasses.asdict(reading))
    label = read_label(label_file, name=label_name, exif=reading.exif)
    check_sizes(image.shape[:2], label.shape, image_name, label_name, exif=reading.exif)
    return image, label


def check_pair(
    image_file: File,
    label_file: File,
    *,
    image_name: str,
    label_name: str,
    exif: bool,
    bands: int = 1,
) -> tuple[int, ...]:
    """Check by their headers alone that an image and its mask can be read, and fit each other.

    Returns:
        Height and width.

    Raises:
        DataError: As `read_pair`, where a header shows it.
    """
    size = shown_size(read_header(image_file, name=image_name), exif)
    label = read_header(label_file, name=label_name)
    check_bands(label, name=label_name, bands=bands)
    check_sizes(size, shown_size(label, exif), image_name, label_name, exif=exif)
    return size


def shown_size(header: Header, exif: bool) -> tuple[int, int]:
    """Return height and width as viewers show them; without `exif` as stored."""
    turned = exif and header.orientation >= 5
    return (header.width, header.height) if turned else (header.height, header.width)


def check_bands(header: Header, *, name: str, bands: int) -> None:
    """Refuse a mask whose header shows that it holds no class numbers."""
    if header.bands != bands != 1:
        raise DataError(
            f"{name}: expected a mask of {bands} bands, one for each class in the order of "
            f"class_names, got {header.describe()}. Save it as a TIFF of {bands} bands, or mend "
            "class_names."
        )
    if header.bands != bands:
        raise DataError(
            f"{name}: a mask must hold class numbers in one channel, got {header.describe()}. "
            "If RGB colours mean classes, convert it once with the palette: for class k, "
            "`ids[(rgb == palette[k]).all(-1)] = k`, and save ids as an 8-bit grey PNG. "
            "If all channels are equal, save one of them."
        )
    if header.lossy:
        raise DataError(
            f"{name}: is compressed as JPEG, whatever its ending, which changes class numbers. "
            "Save the mask as PNG from where it was drawn."
        )


def check_sizes(
    image: tuple[int, ...], label: tuple[int, ...], image_name: str, label_name: str, *, exif: bool
) -> None:
    """Raise `DataError` unless a mask has the size of its image."""
    if label != image:
        turned = exif and label == image[::-1]
        hint = "If the image has an EXIF orientation, try exif=False. " if turned else ""
        raise DataError(
            f"{label_name}: the mask is {label[0]}x{label[1]} (height x width), its image "
            f"{image[0]}x{image[1]} ({image_name}). {hint}Mend one of them."
        )


def native_channels(file: File, *, name: str) -> int:
    """Return a file's channels by its header: bands without opacity, 3 for palettes and CMYK."""
    header = read_header(file, name=name)
    return 3 if header.colour in ("palette", "cmyk") else header.bands - header.alpha


def read_header(file: File, *, name: str) -> Header:
    """Return what a file says of itself, its pixels unread.

    Raises:
        DataError: Unreadable file, several pages, or more memory than `raster.MAX_BYTES`.
    """
    return _open(file, name=name, pixels=False)[0]


def _load(file: File, *, name: str, exif: bool, least: int = 0) -> tuple[Header, np.ndarray]:
    header, pixels = _open(file, name=name, pixels=True, least=least)
    return header, turn(pixels, header.orientation) if exif else pixels


def _open(file: File, *, name: str, pixels: bool, least: int = 0) -> tuple[Header, np.ndarray]:
    with explained(name), raster.stream_of(file) as stream:
        start = stream.read(4)
        stream.seek(0)
        opener = tiff.open_tiff if start in tiff.MAGIC else raster.open_image
        opened = (webp.open_webp if start == webp.MAGIC else opener)(stream)
        raster.check(opened.header, name=name, least=least)
        return opened.header, opened.pixels() if pixels else np.empty(0)


@contextlib.contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises into a `DataError` that names the file."""
    try:
        yield
    except DataError:
        raise
    except MemoryError:
        raise DataError(
            f"{name}: needs more memory than there is. Free some, or save the image smaller."
        ) from None
    except FileNotFoundError as error:
        raise DataError(f"{name}: {error.strerror}. Put the file there.") from None
    except Exception as error:  # decoders fail with nearly any type on a broken file
        reason = " ".join(str(error).split()).rstrip(".")
        raise DataError(
            f"{name}: cannot be read: {reason or type(error).__name__}. Replace or remove the file."
        ) from None


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return pixels `[h w ...]` as viewers show them, by the EXIF orientation 1 to 8."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels


def bring_to_channels(
    header: Header, pixels: np.ndarray, channels: int, *, name: str
) -> tuple[np.ndarray, int]:
    """Return `[h w channels]`, and the bits of its values."""
    bits, own = header.bits, header.bands - header.alpha
    if header.inverted and header.bands == 1 and pixels.dtype.kind == "u":
        pixels = np.subtract(2**bits - 1, pixels, dtype=pixels.dtype)
    if channels not in (1, 3) and channels == header.bands and header.colour != "palette":
        return pixels, bits
    if channels in (1, 3):
        if header.colour == "palette" and header.palette is not None:
            pixels, bits, own = _colours(header, pixels, name=name), 8, 3
        elif header.colour in ("cmyk", "ycbcr") and header.dtype == "uint8":
            convert = functools.partial(
                _to_rgb, mode={"cmyk": "CMYK", "ycbcr": "YCbCr"}[header.colour]
            )
            pixels, own = _by_rows(convert, pixels, bands=3), 3
        elif header.colour == "rgb":
            own = 3
        if own == 1:
            return np.repeat(pixels[..., :1], channels, axis=-1), bits
        if own == 3 and header.colour != "lab":
            return pixels[..., :3] if channels == 3 else _by_rows(
                _grey, pixels[..., :3], bands=1
            ), bits
    other = header.bands != channels and header.colour != "palette"
    advice = f"Set channels={header.bands} if all images are so, or convert" if other else "Convert"
    raise DataError(
        f"{name}: {header.describe()}; expected {channels} channel{'s' if channels > 1 else ''} of "
        f"grey or RGB, or as many as there are. {advice} the file."
    )


def _colours(header: Header, pixels: np.ndarray, *, name: str) -> np.ndarray:
    index, palette = pixels[..., 0], header.palette
    if palette is None or index.max(initial=0) >= len(palette):
        raise DataError(
            f"{name}: a pixel has number {index.max(initial=0)}, beyond its palette. Mend the file."
        )
    return palette[index]


def _by_rows(
    function: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray, *, bands: int
) -> np.ndarray:
    """Return what a function of pixels makes of all, a few rows at a time, in their type."""
    found = np.empty((*pixels.shape[:-1], bands), pixels.dtype)
    for part in memory.rows(pixels.shape):
        found[part] = function(pixels[part])
    return found


def _to_rgb(pixels: np.ndarray, *, mode: str) -> np.ndarray:
    image = Image.frombytes(mode, pixels.shape[1::-1], np.ascontiguousarray(pixels).tobytes())
    return np.asarray(image.convert("RGB"))


def _grey(pixels: np.ndarray) -> np.ndarray:
    """Return the brightness `[h w 1]` of RGB, in its type; of bytes the numbers of Pillow."""
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize <= 2:
        total = sum(pixels[..., i].astype(np.uint32) * np.uint32(w) for i, w in enumerate(_LUMA))
        return ((total + np.uint32(1 << 15)) >> np.uint32(16)).astype(pixels.dtype)[..., None]
    total = pixels.astype(np.float64) @ (np.array(_LUMA) / 65536)
    total = np.rint(total) if pixels.dtype.kind in "iu" else total
    return total.astype(pixels.dtype)[..., None]


def bring_to_dtype(
    header: Header, pixels: np.ndarray, bits: int, dtype: str, *, name: str
) -> np.ndarray:
    """Return pixels in `dtype`, by the rule of `read_image`."""
    if dtype == "uint8" and pixels.dtype == np.uint8 and bits == 8:
        return pixels  # nearly every file
    if pixels.dtype.kind not in "iuf":
        raise DataError(f"{name}: {header.describe()} is no image. Save real numbers.")
    if dtype == "float32":
        return _floats(header, pixels, name=name)
    if pixels.dtype.kind == "f":
        raise DataError(
            f"{name}: floating-point pixels ({header.describe()}) have no fixed range. Set "
            "dtype='float32' in the source to keep them, or save 8 or 16 bits per channel."
        )
    low, high = int(pixels.min(initial=0)), int(pixels.max(initial=0))
    if dtype == "uint16":
        if bits <= 8:
            raise DataError(
                f"{name}: an image of {bits} bit{'s' if bits > 1 else ''}, but the source has "
                "dtype='uint16', beside whose values it would be nearly black. Save it with 16 "
                "bits (times 257), or set dtype='float32' to take all values as they are."
            )
        if low >= 0 and high <= 65535:
            return pixels.astype(np.uint16, copy=False)
    elif bits < 8:
        shown = np.rint(np.arange(256) * (255 / (2**bits - 1)))
        return np.minimum(shown, 255).astype(np.uint8)[pixels]
    elif header.shifted and header.largest is not None and header.largest <= 255:
        return (pixels >> (bits - 8)).astype(np.uint8)
    elif low >= 0 and bits == 16 and high > 255 and _is_widened(pixels):
        return (pixels >> 8).astype(np.uint8)
    elif low >= 0 and max(high, header.largest or 0) <= 255:
        return pixels.astype(np.uint8)
    wider = "uint16" if dtype == "uint8" and low >= 0 and high <= 65535 else "float32"
    declared = f" ({header.largest.bit_length()} bits declared)" if header.largest else ""
    raise DataError(
        f"{name}: {header.describe()} with values {low}..{high}{declared}, which do not fit "
        f"dtype={dtype!r} unchanged. Set dtype={wider!r} in the source to keep them, or save the "
        "images with 8 bits."
    )


def _is_widened(pixels: np.ndarray) -> bool:
    """Say whether all values are 8 bits, repeated to make 16."""
    return not any(np.any(pixels[part] % 257) for part in memory.rows(pixels.shape))


def _floats(header: Header, pixels: np.ndarray, *, name: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        found = pixels.astype(np.float32)
    if pixels.dtype.kind in "iu" and pixels.dtype.itemsize > 2:
        if max(-int(pixels.min(initial=0)), int(pixels.max(initial=0))) > 2**24:
            raise DataError(
                f"{name}: {header.describe()} with values beyond 2**24 = 16,777,216, which float32 "
                "would round. Scale the image down before saving it."
            )
    wrong = int((~np.isfinite(found)).sum())
    if wrong:
        raise DataError(
            f"{name}: {wrong} values are NaN or infinite in float32. Replace them, for example by "
            "the image's mean."
        )
    return found
