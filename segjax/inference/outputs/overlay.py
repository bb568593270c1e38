"""An image in the colours of its classes, also where several of them overlap."""

import pathlib

import numpy as np
from jaxtyping import UInt8

from segjax.inference.predictor import Image
from segjax.structs import Classes
from segjax.views import examples, overlaps


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
    palette, names, legend = classes.palette, classes.class_names, None
    if label.ndim == image.ndim:
        ((label, _),), palette, legend = overlaps.flatten([(label, label)], palette, names)
    examples.overlay(path, image, label, palette=palette, class_names=names, legend=legend)
