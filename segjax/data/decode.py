"""Image and mask files to arrays, from a path or from the encoded bytes.

Pillow decodes: it releases the GIL, and unlike OpenCV it reads a palette PNG as class numbers.
"""

import io
import os

import numpy as np
from PIL import Image, ImageOps

from segjax.errors import DataError

File = str | os.PathLike[str] | bytes

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")
LABEL_ENDINGS = (".png", ".tif", ".tiff", ".bmp", ".gif")
"""JPEG and WebP are left out: their compression changes class numbers."""

_GREY = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_ORIENTATION = 0x0112


def read_image(file: File, *, name: str, channels: int = 3, exif: bool = True) -> np.ndarray:
    """Decode an image to uint8 `[h w c]`.

    Grey becomes RGB and RGB becomes grey as `channels` asks; an alpha channel is dropped unless
    `channels` counts it. 16-bit values are scaled to 8 (65535 to 255), never stretched to the
    image's own range. Any other number of channels must be the file's own.

    Args:
        file: A path or the encoded bytes.
        name: The file, for messages.
        channels: Channels of the result.
        exif: Turn the image upright by its EXIF tag, as viewers and annotation tools show it.

    Raises:
        DataError: Unreadable or truncated file, floating-point pixels, or other channels.
    """
    image = _to_8_bit(_load(file, name=name, exif=exif), name=name)
    bands = len(image.getbands())
    if channels in (1, 3):
        mode = "L" if channels == 1 else "RGB"
        image = image if image.mode == mode else image.convert(mode)
    elif channels != bands:
        raise DataError(f"{name}: {bands} channels ({image.mode}); expected {channels}.")
    array = np.asarray(image)
    return array[:, :, None] if array.ndim == 2 else array


def read_label(file: File, *, name: str) -> np.ndarray:
    """Decode a mask to the integers `[h w]` it holds; a palette PNG gives its palette indices.

    Raises:
        DataError: Unreadable file, or colours instead of class numbers.
    """
    image = _load(file, name=name, exif=False)
    if len(image.getbands()) != 1 or image.mode == "F":
        raise DataError(
            f"{name}: a mask must hold class numbers in one channel, got {image.mode}. "
            "If the colours mean classes, convert it once with the palette: for class k, "
            "`ids[(rgb == palette[k]).all(-1)] = k`, and save ids as an 8-bit grey PNG. "
            "If all channels are equal, save one of them."
        )
    array = np.asarray(image)
    return array.astype(np.uint8) if array.dtype == bool else array


def read_pair(
    image_file: File,
    label_file: File,
    *,
    image_name: str,
    label_name: str,
    channels: int,
    exif: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Decode an image and its mask; see `read_image` and `read_label`.

    Raises:
        DataError: They differ in size, or one cannot be used.
    """
    image = read_image(image_file, name=image_name, channels=channels, exif=exif)
    label = read_label(label_file, name=label_name)
    if label.shape != image.shape[:2]:
        turned = exif and label.shape == image.shape[1::-1]
        hint = "If the image has an EXIF orientation, try exif=False. " if turned else ""
        raise DataError(
            f"{label_name}: the mask is {label.shape[0]}x{label.shape[1]} (height x width), its "
            f"image {image.shape[0]}x{image.shape[1]} ({image_name}). {hint}Mend one of them."
        )
    return image, label


def native_channels(file: File, *, name: str) -> int:
    """Return 1 for a grey image and 3 for any other, from the file's header alone."""
    with _open(file, name=name) as image:
        return 1 if image.mode in _GREY else 3


def _open(file: File, *, name: str) -> Image.Image:
    try:
        return Image.open(io.BytesIO(file) if isinstance(file, bytes) else file)
    except Exception as error:
        raise _unreadable(error, name=name) from None


def _load(file: File, *, name: str, exif: bool) -> Image.Image:
    with _open(file, name=name) as image:
        try:
            image.load()
            turned = exif and image.getexif().get(_ORIENTATION, 1) != 1
            return ImageOps.exif_transpose(image) if turned else image
        except Exception as error:
            raise _unreadable(error, name=name) from None


def _unreadable(error: Exception, *, name: str) -> Exception:
    """Return the error to raise: Pillow's decoders fail with nearly any type on a broken file."""
    if isinstance(error, MemoryError):
        return error
    return DataError(f"{name}: cannot be read: {error}. Replace or remove the file.")


def _to_8_bit(image: Image.Image, *, name: str) -> Image.Image:
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DataError(
            f"{name}: {'32-bit' if image.mode == 'I' else 'floating-point'} pixels have no fixed "
            "range. Save the image with 8 or 16 bits per channel."
        )
    return image
