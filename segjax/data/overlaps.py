"""Masks of classes that overlap: a file with a band for each class, or a file for each class."""

import pathlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from segjax.data import decode, opening
from segjax.data.decode import Reading
from segjax.data.opening import Opened

Masks = Sequence[pathlib.Path | None]
"""Of one image: one file for all classes, or one for each; None: no pixel is of that class."""


class Check(Protocol):
    """Turns what a mask stores into 0, 1 and 255."""

    def __call__(self, stored: np.ndarray, *, name: str) -> np.ndarray:
        """Return it; `name` is the mask's, for messages."""
        ...


def read(
    image: Opened,
    image_file: pathlib.Path,
    masks: Masks,
    *,
    bands: int,
    reading: Reading,
    check: Check,
) -> np.ndarray:
    """Return the multi-label map [*space k] of an image.

    Args:
        image: The image.
        image_file: Its file.
        masks: Its masks, which are read whole.
        bands: Of every mask.
        reading: How the data set reads images.
        check: Turns what a mask stores into 0, 1 and 255; where there is no file all is 0.

    Raises:
        DataError: One cannot be used, or is of another size than the image.
    """
    size, found = image.array.shape[:-1], []
    for mask in masks:
        label = np.zeros((*size, bands), np.uint8)
        if mask is not None:
            name = str(mask)
            stored = opening.read_bands(mask, reading, bands=bands)
            decode.check_sizes(size, stored.shape[:-1], str(image_file), name, exif=reading.exif)
            label = check(stored, name=name)
        found.append(label)
    return np.concatenate(found, axis=-1)


def check(
    image_file: pathlib.Path, masks: Masks, *, bands: int, reading: Reading
) -> tuple[int, ...]:
    """Check by headers alone that `read` will do, and return the image's sides.

    Raises:
        DataError: As `read`, where a header shows it.
    """
    whole = opening.check_header(image_file, reading)
    for mask in filter(None, masks):
        opening.check_label(mask, reading, image_file=image_file, whole=whole, bands=bands)
    return whole
