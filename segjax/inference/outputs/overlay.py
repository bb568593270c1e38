"""An image in the colours of its classes, also where several of them overlap."""

import pathlib
from typing import Any

import numpy as np
from jaxtyping import UInt8

from segjax.inference.predictor import Image
from segjax.structs import Classes
from segjax.views import colour, examples, overlaps


def draw(
    path: pathlib.Path, image: Image, label: UInt8[np.ndarray, "..."], classes: Classes
) -> None:
    """Write an image in the colours of its classes, see `examples.overlay`.

    Where several classes overlap it has the mean of their colours, see `overlaps.flatten`.

    Args:
        path: The PNG to write.
        image: [*space c].
        label: The class of every pixel [*space], or of a multi-label run 0 or 1 for each class
            [*space k].
        classes: Of the run.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    label, palette, legend = _flat(image, label, classes)
    names = classes.class_names
    examples.overlay(path, image, label, palette=palette, class_names=names, legend=legend)


def picture(
    image: Image, label: UInt8[np.ndarray, "..."], classes: Classes
) -> UInt8[np.ndarray, "*space 3"]:
    """Return an image in the colours of its classes at its own size, see `draw`."""
    label, palette, _ = _flat(image, label, classes)
    return colour.overlay(image, label, palette)


def _flat(image: Image, label: np.ndarray, classes: Classes) -> tuple[np.ndarray, Any, Any]:
    """Return a class map, its palette and its legend, also of classes that overlap."""
    if label.ndim != image.ndim:
        return label, classes.palette, None
    ((flat, _),), palette, legend = overlaps.flatten(
        [(label, label)], classes.palette, classes.class_names
    )
    return flat, palette, legend
