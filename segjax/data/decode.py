"""Image and mask files to arrays, from a path or from the encoded bytes.

`raster` and `tiff` give what a file stores. Here is decided what it means: a mask is the stored
numbers, an image has the channels and the type that its data set asks for, and nothing is lost on
the way without a word.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from segjax.config import lookup
from segjax.data import raster, tiff, values, webp
from segjax.data.raster import File, Header
from segjax.errors import DataError, UserError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")
LOSSY_ENDINGS = (".jpg", ".jpeg", ".webp")
LABEL_ENDINGS = tuple(ending for ending in IMAGE_ENDINGS if ending not in LOSSY_ENDINGS)
"""JPEG and WebP are left out: their compression changes class numbers."""

DTYPES = ("uint8", "uint16", "int16", "float32")


@dataclasses.dataclass(frozen=True)
class Reading:
    """How a data set reads images, and with it whatever predicts for a model trained on it.

    Attributes:
        channels: Channels of every image: 3 turns grey pictures to RGB, 1 colour ones to grey, and
            both drop an opacity channel; any other number must be the file's own.
        exif: Turn images upright by their EXIF or TIFF orientation tag, as viewers and annotation
            tools show them, and masks by theirs. False: as stored.
        dtype: One of `DTYPES`, see `read_image`; of arrays empty: as they are.
        dims: Axes in space: 1 of signals, 2 of pictures, 3 of volumes.
        missing: What values that are not finite, and those that a file calls no data, are: 'error',
            or 'void': 0 in the image, and void in its mask.
        bands: Channels to take from files of more, in this order; empty: all.
        image_array: Name of the images' array in files that hold several.
        label_array: Of the masks'.
    """

    channels: int = 3
    exif: bool = True
    dtype: str = "uint8"
    dims: int = 2
    missing: str = "error"
    bands: tuple[int, ...] = ()
    image_array: str = ""
    label_array: str = ""

    def __post_init__(self) -> None:
        lookup.choose(self.dtype, ("", *DTYPES), what="dtype")
        lookup.choose(self.missing, ("error", "void"), what="missing")

    @property
    def of_pictures(self) -> dict[str, Any]:
        """What `read_image` is told."""
        return {
            "channels": self.channels, "exif": self.exif, "dtype": self.dtype,
            "missing": self.missing == "void",
        }  # fmt: skip


def recorded(found: Any) -> dict[str, Any]:
    """Return what a run's facts say of its `Reading`, as arguments; empty: nothing that is one.

    A prepared data set also has the `label_suffix` of the one it was made from.
    """
    known = {field.name for field in dataclasses.fields(Reading)} | {"label_suffix"}
    if not isinstance(found, dict) or not set(found) <= known:
        return {}
    suffix = found.get("label_suffix", "")
    found = {name: value for name, value in found.items() if name != "label_suffix"}
    bands = found.get("bands", [])
    sound = isinstance(bands, list) and all(type(band) is int and band >= 0 for band in bands)
    arguments: dict[str, Any] = found | {"bands": tuple(bands)}
    try:
        reading = Reading(**arguments) if sound else None
    except (TypeError, UserError):
        return {}
    if reading is None or not isinstance(suffix, str):
        return {}
    return dataclasses.asdict(reading) | ({"label_suffix": suffix} if suffix else {})


def read_image(
    file: File,
    *,
    name: str,
    channels: int = 3,
    exif: bool = True,
    dtype: str = "uint8",
    missing: bool = False,
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
    * 'int16' is for files of signed whole numbers, and of others that it holds.
    * 'float32' takes every file's values as they are, whole ones up to 2**24.

    With `missing` what is not finite becomes 0.

    Raises:
        DataError: Unreadable or truncated file, several pages, more memory than
            `raster.MAX_BYTES` in the file or as asked for, values that `dtype` would change, not
            finite ones, other channels.
    """
    least = channels * np.dtype(dtype).itemsize
    header, pixels = _load(file, name=name, exif=exif, least=least)
    pixels, bits = values.bring_to_channels(header, pixels, channels, name=name)
    pixels = values.bring_to_dtype(header, pixels, bits, dtype, name=name, missing=missing)
    return np.ascontiguousarray(pixels)


def read_missing(file: File, *, name: str, exif: bool, void: float | None) -> np.ndarray:
    """Decode which pixels `[h w]` of an image are none: not finite, or `void` in every band.

    Raises:
        DataError: As `read_image`.
    """
    return values.missing_pixels(_load(file, name=name, exif=exif)[1], void)


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
    return np.ascontiguousarray(values.whole_numbers(label, name=name))


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
    image = read_image(image_file, name=image_name, **reading.of_pictures)
    label = read_label(label_file, name=label_name, exif=reading.exif)
    check_sizes(image.shape[:2], label.shape, image_name, label_name, exif=reading.exif)
    return image, label


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
        axes = " (height x width)" if len(image) == len(label) == 2 else ""
        raise DataError(
            f"{label_name}: the mask is {'x'.join(map(str, label))}{axes}, its image "
            f"{'x'.join(map(str, image))} ({image_name}). {hint}Mend one of them."
        )


def native_channels(file: File, *, name: str) -> int:
    """Return a file's channels by its header: bands without opacity, 3 for palettes and CMYK."""
    return channels_of(read_header(file, name=name))


def channels_of(header: Header) -> int:
    """Return how many channels the images of such files have: bands without opacity, or 3."""
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
    except UserError:
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
