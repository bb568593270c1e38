"""Bring examples of any size to the one canvas that a compiled step needs, and remember how."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image

from segjax.data import core
from segjax.errors import ConfigError, DataError
from segjax.structs import Example, Schema

Fit = Literal["resize", "pad", "window"]
FITS = ("resize", "pad", "window")
PAD_VALUE = 124
"""Close to the mean of ImageNet: nearly 0 once normalised."""


@dataclasses.dataclass(frozen=True)
class Canvas:
    """How images of any size become one size, from `config.input`.

    Attributes:
        size: The sides every image is fitted to, as many as the data has axes.
        fit: 'resize' (keep the aspect, then pad), 'pad' (native pixels, padded; larger is an
            error) or 'window' (a part of that size at native pixels, see `windows`).
        pad_value: What fills the canvas, in the image's own units.

    Raises:
        ConfigError: A size that is none, or an unknown `fit`.
    """

    size: tuple[int, ...]
    fit: Fit
    pad_value: float

    def __post_init__(self) -> None:
        check_fit(self.fit)
        check_canvas(self.size)

    def scale(self, whole: Sequence[int], *, name: str) -> float:
        """Return the factor by which an image of the sides `whole` is scaled to the canvas.

        Raises:
            DataError: It has another number of axes.
        """
        if self.fit != "resize":
            return 1.0
        scaled = scaled_size(whole, size=self.size, fit=self.fit, name=name)
        return max(scaled) / max(whole)


class Fitted(core.View):
    """The examples of `source`, their fields fitted to the canvas `size`; see `fit_example`.

    Args:
        source: Examples of any size.
        schema: The fields to keep; the others are dropped.
        size: The sides of the canvas, one to three.
        fit: How; see `fit_image`.
        pad_value: What fills an image's canvas, in the image's own units.

    Raises:
        ConfigError: A canvas that is none, or an unknown `fit`.
    """

    def __init__(
        self,
        source: core.Source,
        *,
        schema: Schema,
        size: Sequence[int],
        fit: Fit,
        pad_value: float = PAD_VALUE,
    ):
        check_fit(fit)
        check_canvas(size)
        super().__init__(source)
        self.schema = schema
        self.size = tuple(int(side) for side in size)
        self.fit: Fit = fit
        self.pad_value = pad_value

    def __getitem__(self, index: int) -> Example:
        return fit_example(
            self.source[index],
            schema=self.schema,
            size=self.size,
            fit=self.fit,
            pad_value=self.pad_value,
        )


def fit_example(
    example: Example,
    *,
    schema: Schema,
    size: Sequence[int],
    fit: Fit,
    pad_value: float = PAD_VALUE,
) -> Example:
    """Fit the fields of `schema` to the canvas `size`, each as its kind says.

    Images are interpolated and padded with `pad_value`; maps take the nearest pixel, never a blend,
    and are padded with their fill (void, or no instance); values stay as they are.

    Raises:
        DataError: An example with another number of axes than the canvas, one whose fields differ
            in size, or with `fit="pad"` one that is larger than the canvas.
    """
    arrays: dict[str, Any] = dict(example)
    name, whole = example["name"], example["image"].shape[: -len(schema["image"].shape)]
    scaled = scaled_size(whole, size=size, fit=fit, name=name)
    check_fields(arrays, schema, name=name)
    fitted: dict[str, Any] = {"name": name}
    for key, field in schema.items():
        array = np.asarray(arrays[key])
        if field.is_spatial:
            resize = resize_map if field.is_map else resize_image
            fill = field.fill if field.kind != "image" else pad_value
            array = pad(resize(array, scaled), size=size, value=fill)
        fitted[key] = array
    return Example(**fitted)


def check_fields(example: Mapping[str, Any], schema: Schema, *, name: str) -> None:
    """Raise `DataError` unless all fields that lie in space have the axes of the image."""
    whole = example["image"].shape[: -len(schema["image"].shape)]
    for key, field in schema.items():
        shape = example[key].shape
        behind = shape[len(whole) :]
        if field.is_spatial and (shape != (*whole, *behind) or len(behind) != len(field.shape)):
            raise DataError(
                f"{name}: {key} of shape {shape}; expected {(*whole, *field.shape)}, as its image "
                "is. Mend one of them."
            )


def fit_image(
    image: np.ndarray,
    *,
    size: Sequence[int],
    fit: Fit,
    pad_value: float = PAD_VALUE,
    name: str = "image",
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Fit an image `[*space c]` to the canvas `size` and say which part of it the image covers.

    Args:
        image: Any type and size. Of canvas size already, it is returned as it is.
        size: The sides of the canvas.
        fit: `resize` scales the image, up or down, until it touches the canvas, its shape kept
            (linear, antialiased); `pad` never scales.
        pad_value: What fills the canvas behind the image along each axis, in the image's units.
        name: The file, for messages.

    Returns:
        The canvas and the sides of the image on it, in its corner of lowest indices.

    Raises:
        DataError: Another number of axes, or `fit="pad"` and the image is larger than the canvas.
    """
    check_fit(fit)
    scaled = scaled_size(image.shape[:-1], size=size, fit=fit, name=name)
    return pad(resize_image(image, scaled), size=size, value=pad_value), scaled


def check_fit(fit: str) -> None:
    """Raise `ConfigError` unless `fit` is one that `fit_image` knows."""
    if fit not in FITS:
        raise ConfigError(f"fit={fit!r}: expected 'resize', 'pad' or 'window'.")


def check_canvas(size: Sequence[int]) -> None:
    """Raise `ConfigError` unless `size` has one to three sides, each of at least one pixel."""
    if not 1 <= len(size) <= 3 or min(size) < 1:
        raise ConfigError(
            f"size={tuple(size)}: expected the sides of a canvas in pixels: (length,) of signals, "
            "(height, width) of images, (depth, height, width) of volumes."
        )


def check_axes(whole: Sequence[int], size: Sequence[int], *, name: str) -> None:
    """Raise `DataError` unless an example of the sides `whole` has the axes of the canvas."""
    if len(whole) != len(size):
        raise DataError(
            f"{name}: {_by(whole)} has {len(whole)} axes in space, the canvas {_by(size)} has "
            f"{len(size)}. Give config.input.size one side for each axis of the data."
        )


def scaled_size(
    whole: Sequence[int], *, size: Sequence[int], fit: Fit, name: str
) -> tuple[int, ...]:
    """Return the size on the canvas `size` of an example whose own size is `whole`.

    Raises:
        DataError: As `fit_image`.
    """
    check_axes(whole, size, name=name)
    if fit == "resize" and tuple(whole) != tuple(size):
        scale = min(side / length for side, length in zip(size, whole, strict=True))
        whole = [max(1, round(length * scale)) for length in whole]
    if any(length > side for length, side in zip(whole, size, strict=True)):
        axes = " (height x width)" if len(size) == 2 else ""
        raise DataError(
            f"{name}: {_by(whole)}{axes} is larger than the canvas {_by(size)}. "
            "Enlarge the canvas, or set fit='resize' or, for parts of it, fit='window'."
        )
    return tuple(whole)


def resize_image(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resize an image `[*space c]` linearly along each axis, antialiased, in its own type.

    Pillow does it for pictures of uint8 and float32; matrices of its triangle filter for the rest,
    in float32, rounded to the nearest whole number where the type has no others.
    """
    if image.shape[:-1] == tuple(size):
        return image
    if len(size) == 2 and image.dtype in (np.uint8, np.float32):
        return _resize_by_pillow(image, height=size[0], width=size[1])
    resized = image.astype(np.float32)
    for axis, (length, side) in enumerate(zip(image.shape[:-1], size, strict=True)):
        if length != side:
            moved = np.tensordot(triangles(length, side), resized, (1, axis))
            resized = np.moveaxis(moved, 0, axis)
    if np.issubdtype(image.dtype, np.integer):
        limits = np.iinfo(image.dtype)
        resized = np.clip(np.rint(resized.astype(np.float64)), limits.min, limits.max)
    return np.ascontiguousarray(resized.astype(image.dtype))


def resize_map(label: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resize a map `[*space ...]` to the nearest pixel along each axis in space."""
    whole = label.shape[: len(size)]
    if whole == tuple(size):
        return label
    return label[np.ix_(*(nearest(*sides) for sides in zip(whole, size, strict=True)))]


@functools.lru_cache(maxsize=64)
def triangles(length: int, side: int) -> np.ndarray:
    """Return the matrix `[side length]` that interpolates linearly, over more pixels to shrink."""
    scale = length / side
    centre = (np.arange(side) + 0.5) * scale - 0.5
    off = np.abs(np.arange(length) - centre[:, None])
    weights = np.maximum(0, 1 - off / max(scale, 1))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@functools.lru_cache(maxsize=64)
def nearest(length: int, side: int) -> np.ndarray:
    """Return which of `length` pixels each of `side` takes: those that Pillow takes."""
    numbers = Image.fromarray(np.arange(length, dtype=np.int32)[None])
    return np.asarray(numbers.resize((side, 1), Image.Resampling.NEAREST))[0]


def pad(array: np.ndarray, *, size: Sequence[int], value: float) -> np.ndarray:
    """Return the array in the low corner of a canvas that holds `value` elsewhere."""
    whole = array.shape[: len(size)]
    if whole == tuple(size):
        return array
    canvas = np.full((*size, *array.shape[len(size) :]), value, array.dtype)
    canvas[tuple(slice(side) for side in whole)] = array
    return canvas


def _resize_by_pillow(image: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """Resize as Pillow does; channel by channel where Pillow would read alpha or ink into them."""
    bilinear = Image.Resampling.BILINEAR
    if image.shape[2] == 3 and image.dtype == np.uint8:
        return np.asarray(Image.fromarray(image).resize((width, height), bilinear))
    planes = [
        np.asarray(Image.fromarray(image[:, :, c]).resize((width, height), bilinear))
        for c in range(image.shape[2])
    ]
    return np.stack(planes, axis=-1)


def _by(size: Sequence[int]) -> str:
    return "x".join(map(str, size))
