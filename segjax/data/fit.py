"""Bring images of any size to the one canvas that a compiled step needs, and remember how."""

from typing import Literal

import numpy as np
from PIL import Image

from segjax.data import core
from segjax.errors import ConfigError, DataError
from segjax.structs import IGNORE_LABEL, Example

Fit = Literal["resize", "pad"]
PAD_VALUE = 124
"""Close to the mean of ImageNet: nearly 0 once normalised."""


class Fitted(core.View):
    """The examples of `source`, fitted to the canvas `size`; see `fit_to_canvas`."""

    def __init__(
        self, source: core.Source, *, size: tuple[int, int], fit: Fit, pad_value: float = PAD_VALUE
    ):
        check_fit(fit)
        super().__init__(source)
        self.size = (int(size[0]), int(size[1]))
        self.fit: Fit = fit
        self.pad_value = pad_value

    def __getitem__(self, index: int) -> Example:
        example = self.source[index]
        image, label = fit_to_canvas(
            example["image"],
            example["label"],
            size=self.size,
            fit=self.fit,
            pad_value=self.pad_value,
            name=example["name"],
        )
        return Example(image=image, label=label, name=example["name"])


def fit_to_canvas(
    image: np.ndarray,
    label: np.ndarray,
    *,
    size: tuple[int, int],
    fit: Fit,
    pad_value: float = PAD_VALUE,
    name: str = "image",
) -> tuple[np.ndarray, np.ndarray]:
    """Fit an image `[h w c]` and its label `[h w]` to `size`; see `fit_image`.

    The label is resized to the nearest pixel, never blended, and padded with 255.
    """
    canvas, (height, width) = fit_image(image, size=size, fit=fit, pad_value=pad_value, name=name)
    if label.shape != (height, width):
        nearest = Image.Resampling.NEAREST
        label = np.asarray(Image.fromarray(label).resize((width, height), nearest))
    return canvas, _pad(label, size=size, value=IGNORE_LABEL)


def fit_image(
    image: np.ndarray,
    *,
    size: tuple[int, int],
    fit: Fit,
    pad_value: float = PAD_VALUE,
    name: str = "image",
) -> tuple[np.ndarray, tuple[int, int]]:
    """Fit an image `[h w c]` to the canvas `size` and say which part of it the image covers.

    Args:
        image: uint8 or float32, any size. Of canvas size already, it is returned as it is.
        size: Height and width of the canvas.
        fit: `resize` scales the image, up or down, until it touches the canvas, its shape kept
            (bilinear, antialiased); `pad` never scales.
        pad_value: What fills the canvas below and to the right.
        name: The file, for messages.

    Returns:
        The canvas and the height and width of the image on it, in its upper left corner.

    Raises:
        DataError: `fit="pad"` and the image is larger than the canvas.
    """
    check_fit(fit)
    height, width = image.shape[:2]
    if fit == "resize" and (height, width) != tuple(size):
        scale = min(size[0] / height, size[1] / width)
        height, width = (max(1, round(side * scale)) for side in (height, width))
        image = _resize(image, height=height, width=width)
    if height > size[0] or width > size[1]:
        raise DataError(
            f"{name}: {height}x{width} (height x width) is larger than the canvas "
            f"{size[0]}x{size[1]}. Enlarge the canvas, or set fit='resize'."
        )
    return _pad(image, size=size, value=pad_value), (height, width)


def check_fit(fit: str) -> None:
    """Raise `ConfigError` unless `fit` is one that `fit_image` knows."""
    if fit not in ("resize", "pad"):
        raise ConfigError(f"fit={fit!r}: expected 'resize' or 'pad'.")


def _resize(image: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """Resize as Pillow does; channel by channel where Pillow would read alpha or ink into them."""
    bilinear = Image.Resampling.BILINEAR
    if image.shape[2] == 3 and image.dtype == np.uint8:
        return np.asarray(Image.fromarray(image).resize((width, height), bilinear))
    planes = [
        np.asarray(Image.fromarray(image[:, :, c]).resize((width, height), bilinear))
        for c in range(image.shape[2])
    ]
    return np.stack(planes, axis=-1)


def _pad(array: np.ndarray, *, size: tuple[int, int], value: float) -> np.ndarray:
    height, width = array.shape[:2]
    if (height, width) == tuple(size):
        return array
    canvas = np.full((*size, *array.shape[2:]), value, array.dtype)
    canvas[:height, :width] = array
    return canvas
