"""What stored values mean: the channels and the type that a data set asks for, nothing lost."""

import functools
from collections.abc import Callable

import numpy as np
from PIL import Image

from segjax.data.raster import Header
from segjax.errors import DataError
from segjax.runtime import memory

_LUMA = (19595, 38470, 7471)
"""ITU-R BT.601 in parts of 65536, as Pillow has them."""


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
    header: Header,
    pixels: np.ndarray,
    bits: int,
    dtype: str,
    *,
    name: str,
    missing: bool = False,
) -> np.ndarray:
    """Return pixels in `dtype`, by the rule of `read_image`."""
    if dtype == "uint8" and pixels.dtype == np.uint8 and bits == 8:
        return pixels  # nearly every file
    if pixels.dtype.kind not in "iuf":
        raise DataError(f"{name}: {header.describe()} is no image. Save real numbers.")
    if dtype == "float32":
        return floats(pixels, name=name, missing=missing)
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
    elif dtype == "int16":
        if low >= -32768 and high <= 32767:
            return pixels.astype(np.int16, copy=False)
    elif bits < 8:
        shown = np.rint(np.arange(256) * (255 / (2**bits - 1)))
        return np.minimum(shown, 255).astype(np.uint8)[pixels]
    elif header.shifted and header.largest is not None and header.largest <= 255:
        return (pixels >> (bits - 8)).astype(np.uint8)
    elif low >= 0 and bits == 16 and high > 255 and _is_widened(pixels):
        return (pixels >> 8).astype(np.uint8)
    elif low >= 0 and max(high, header.largest or 0) <= 255:
        return pixels.astype(np.uint8)
    wider = "float32"
    if dtype != "float32" and low >= -32768 and high <= 65535:
        wider = "uint16" if low >= 0 else "int16" if high <= 32767 else wider
    declared = f" ({header.largest.bit_length()} bits declared)" if header.largest else ""
    raise DataError(
        f"{name}: {header.describe()} with values {low}..{high}{declared}, which do not fit "
        f"dtype={dtype!r} unchanged. Set dtype={wider!r} in the source to keep them, or save the "
        "images with 8 bits."
    )


def _is_widened(pixels: np.ndarray) -> bool:
    """Say whether all values are 8 bits, repeated to make 16."""
    return not any(np.any(pixels[part] % 257) for part in memory.rows(pixels.shape))


def floats(pixels: np.ndarray, *, name: str, missing: bool = False) -> np.ndarray:
    """Return values as float32, whole ones unchanged; what is not finite becomes 0 if `missing`.

    Raises:
        DataError: float32 would round whole numbers, or not finite ones without `missing`.
    """
    with np.errstate(over="ignore"):
        found = pixels.astype(np.float32)
    if pixels.dtype.kind in "iu" and pixels.dtype.itemsize > 2:
        if max(-int(pixels.min(initial=0)), int(pixels.max(initial=0))) > 2**24:
            raise DataError(
                f"{name}: {pixels.dtype} with values beyond 2**24 = 16,777,216, which float32 "
                "would round. Scale the image down before saving it."
            )
    finite = np.isfinite(found)
    if missing:
        return np.where(finite, found, np.float32(0))
    if not finite.all():
        raise DataError(
            f"{name}: {found.size - int(finite.sum())} values are NaN or infinite in float32. Set "
            "missing='void' in the source to leave such pixels out, or replace them."
        )
    return found


def missing_pixels(values: np.ndarray, void: float | None) -> np.ndarray:
    """Return where a value `[... c]` is not finite, or all values of a pixel are `void`."""
    found = np.asarray(~np.isfinite(values).all(-1))
    return found if void is None else found | (values == void).all(-1)


def whole_numbers(values: np.ndarray, *, name: str) -> np.ndarray:
    """Return the values of a mask as whole numbers.

    Raises:
        DataError: They are none.
    """
    if values.dtype.kind in "iu":
        return values
    if values.dtype.kind == "b":
        return values.view(np.uint8)
    hint = "Save class numbers, of a picture as an 8-bit grey PNG."
    if values.dtype.kind != "f":
        raise DataError(f"{name}: a mask must hold whole numbers, got {values.dtype}. {hint}")
    values = values.astype(np.float64)
    bad = values[~((values == np.rint(values)) & (np.abs(values) < 2**53))]
    if bad.size:
        raise DataError(
            f"{name}: a mask must hold whole numbers, got the value {bad.flat[0]:g} in it. {hint}"
        )
    return values.astype(np.int64)


def convert(stored: np.ndarray, dtype: str, *, name: str, missing: bool = False) -> np.ndarray:
    """Return values in another type that keeps them; of floating-point ones float32, rounded.

    Args:
        stored: Of a file.
        dtype: One of `decode.DTYPES`; empty: their own.
        name: The file, for messages.
        missing: What is not finite becomes 0, instead of an error.

    Raises:
        DataError: The type cannot hold them.
    """
    if not dtype:
        return stored
    if stored.dtype.kind == "f" and dtype != "float32":
        raise DataError(
            f"{name}: floating-point values ({stored.dtype}). Set dtype='float32' in the source."
        )
    if dtype == "float32":
        return floats(stored, name=name, missing=missing)
    limits = np.iinfo(dtype)
    low, high = (int(stored.min()), int(stored.max())) if stored.size else (0, 0)
    if low < limits.min or high > limits.max:
        raise DataError(
            f"{name}: values {low}..{high}, beyond {limits.min}..{limits.max} of dtype={dtype!r}. "
            "Set a type in the source that holds them: int16, uint16 or float32."
        )
    return stored.astype(dtype, copy=False)
