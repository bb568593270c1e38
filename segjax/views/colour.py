"""Turn label maps and images of any kind and dimension into colours to look at (NumPy, uint8)."""

import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Integer, Num, UInt8
from PIL import Image

from segjax.errors import DataError
from segjax.runtime import files, memory

Colour = tuple[int, int, int]
"""Red, green, blue in 0..255."""
VOID_LABEL = 255  # structs.IGNORE_LABEL, which cannot be imported without jax
BLACK: Colour = (0, 0, 0)
CORRECT: Colour = (205, 209, 214)
# Red on grey is told apart with any colour vision; on green it is not.
WRONG: Colour = (214, 39, 40)
VOID_LIGHT: Colour = (240, 240, 240)
VOID_DARK: Colour = (115, 115, 115)
SAMPLE = 1 << 22
"""Values of an image by which its range is judged."""
STRIPE = 5
"""The width of a stripe along a row, in pixels of a figure."""


def table(palette: Sequence[Colour], *, void: Colour = BLACK) -> UInt8[np.ndarray, "256 3"]:
    """Return the colour of every label value: the palette's, then black, and `void` at 255."""
    if not 0 < len(palette) <= VOID_LABEL:
        raise DataError(f"Palette: expected 1 to {VOID_LABEL} colours, got {len(palette)}.")
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(palette)] = palette
    colours[VOID_LABEL] = void
    return colours


def voc_palette(num_classes: int) -> tuple[Colour, ...]:
    """Return the PASCAL VOC colours: the bits of a class's number dealt out to R, G and B."""
    bits = [
        [k >> (3 * bit + c) & 1 for c in range(3)] for k in range(num_classes) for bit in range(8)
    ]
    weights = 1 << np.arange(7, -1, -1)
    found = np.array(bits).reshape(num_classes, 8, 3).transpose(0, 2, 1) @ weights
    return tuple((r, g, b) for r, g, b in found.tolist())


def colourise(
    label: Integer[np.ndarray, "*space"], palette: Sequence[Colour], *, void: Colour = BLACK
) -> UInt8[np.ndarray, "*space 3"]:
    """Return the colours of a label map.

    Raises:
        DataError: A label is neither a class of the palette nor 255.
    """
    colours = table(palette, void=void)
    found = np.empty((*label.shape, 3), np.uint8)
    for rows in memory.rows(label.shape):
        part = label[rows]
        check_classes(part, len(palette))
        found[rows] = colours[part]
    return found


def check_classes(label: Integer[np.ndarray, "*space"], num_classes: int) -> None:
    """Raise `DataError` if a label is neither one of so many classes nor 255."""
    bad = label[((label < 0) | (label >= num_classes)) & (label != VOID_LABEL)]
    if bad.size:
        raise DataError(
            f"Label map: got class {bad[0]}, expected 0..{num_classes - 1} or {VOID_LABEL} "
            "(void). Give the palette one colour per class, or mend the label map."
        )


def overlay(
    image: Num[np.ndarray, "..."],
    label: Integer[np.ndarray, "*space"],
    palette: Sequence[Colour],
    *,
    alpha: float = 0.5,
) -> UInt8[np.ndarray, "*space 3"]:
    """Return the image tinted with its classes, `alpha` of colour; void pixels keep the image.

    Raises:
        DataError: Image and label differ in size, or a label is neither a class nor 255.
    """
    space = image.shape[: label.ndim]
    if space != label.shape:
        raise DataError(f"Overlay: image of {space} pixels, label map of {label.shape}.")
    image = _first_channels(image, axes=label.ndim)
    limits = stretch(image)
    found = np.empty((*label.shape, 3), np.uint8)
    for rows in memory.rows(found.shape):
        part = label[rows]
        base = displayable(image[rows], axes=label.ndim, limits=limits)
        weight = np.where(part == VOID_LABEL, 0, alpha)[..., None].astype(np.float32)
        mixed = base * (1 - weight) + colourise(part, palette) * weight
        found[rows] = np.rint(mixed).astype(np.uint8)
    return found


def code(shade: Colour) -> str:
    """Return a colour as Matplotlib takes it, `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*shade)


def spare(palette: Sequence[Colour]) -> Colour:
    """Return a colour that no class has, nor `CORRECT`, `WRONG` or white, for `hatch` to find."""
    used = {*map(tuple, palette), CORRECT, WRONG, (255, 255, 255)}
    greys = ((g, g, b) for g in range(VOID_LIGHT[0], 0, -1) for b in (g, g + 1))  # 480 of them
    return next(grey for grey in greys if grey not in used)


def hatch(picture: UInt8[np.ndarray, "h w 3"], void: Colour) -> UInt8[np.ndarray, "h w 3"]:
    """Return a picture with diagonal stripes where it has the colour `void`.

    A pattern cannot be taken for a class, whatever the palette. Apply it to the pixels that are
    looked at, after any change of size.
    """
    return striped(picture, (picture == np.array(void)).all(axis=-1))


def striped(
    picture: UInt8[np.ndarray, "h w 3"], where: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Return a picture with diagonal stripes at some of its pixels."""
    row, column = np.indices(picture.shape[:2])
    dark = (row + column) // STRIPE % 2 == 0
    stripes = np.where(dark[..., None], np.array(VOID_DARK), np.array(VOID_LIGHT))
    return np.where(where[..., None], stripes, picture).astype(np.uint8)


def error_map(
    pred: Integer[np.ndarray, "*space"],
    label: Integer[np.ndarray, "*space"],
    *,
    void: Colour = BLACK,
) -> UInt8[np.ndarray, "*space 3"]:
    """Return where a prediction is right (`CORRECT`), wrong (`WRONG`) and not judged (`void`)."""
    if pred.shape != label.shape:
        raise DataError(f"Error map: prediction of {pred.shape}, label map of {label.shape}.")
    right = np.where((pred == label)[..., None], np.array(CORRECT), np.array(WRONG))
    return np.where((label == VOID_LABEL)[..., None], np.array(void), right).astype(np.uint8)


def displayable(
    image: Num[np.ndarray, "..."], *, axes: int = 2, limits: tuple[float, float] | None = None
) -> UInt8[np.ndarray, "*space 3"]:
    """Return an image `[*space c]`, or `[*space]` if it is grey, of any type as RGB.

    `axes` is its number of axes in space. Fewer than three channels show the first as grey, more
    show the first three. Values other than uint8 are stretched between `limits`, by default those
    of `stretch`.
    """
    image = _first_channels(image, axes=axes)
    if image.dtype == np.uint8:
        return image if image.shape[-1] == 3 else np.repeat(image, 3, axis=-1)
    low, high = limits or stretch(image)
    found = np.empty((*image.shape[:-1], 3), np.uint8)
    for rows in memory.rows(image.shape):
        values = np.nan_to_num(image[rows].astype(np.float64), nan=low)
        scaled = np.clip((values - low) / ((high - low) or 1), 0, 1)
        found[rows] = np.rint(scaled * 255).astype(np.uint8)
    return found


def _first_channels(image: np.ndarray, *, axes: int) -> np.ndarray:
    """Return the three channels of an image that are shown, or one."""
    image = image[..., None] if image.ndim == axes else image
    return image[..., :3] if image.shape[-1] >= 3 else image[..., :1]


def stretch(image: Num[np.ndarray, "..."]) -> tuple[float, float]:
    """Return the 1st and 99th percentile of an image's values, those of a sample if it is large.

    Only the user knows the range of values that are no bytes; of bytes it is all.
    """
    if image.dtype == np.uint8:
        return 0.0, 255.0
    step = max(1, round((image.size / SAMPLE) ** (1 / max(1, image.ndim - 1))))
    values = image[(slice(None, None, step),) * (image.ndim - 1)].astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [1, 99]) if finite.size else (0.0, 1.0)
    return float(low), float(high)


def save_palette_png(
    path: str | os.PathLike[str],
    label: UInt8[np.ndarray, "h w"],
    palette: Sequence[Colour],
    *,
    void: Colour = BLACK,
) -> None:
    """Save a label map as a PNG that holds the class ids and shows the palette's colours.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    picture = Image.fromarray(np.ascontiguousarray(label, dtype=np.uint8))
    # All 256 entries: with fewer, Pillow packs the ids into fewer than 8 bits.
    picture.putpalette(table(palette, void=void).tobytes())
    save_png(path, picture)


def save_png(path: str | os.PathLike[str], picture: Image.Image, *, dpi: int | None = None) -> None:
    """Save a picture under a temporary name first, so that `path` is never half a file.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    options = {} if dpi is None else {"dpi": (dpi, dpi)}
    with files.replacing(path) as temporary:
        picture.save(temporary, format="PNG", **options)
