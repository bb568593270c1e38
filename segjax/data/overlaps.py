"""Masks of classes that overlap: a file with a band for each class, or a file for each class."""

import pathlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from segjax.data import decode, large
from segjax.data.decode import Reading
from segjax.data.lazy import Lazy

Masks = Sequence[pathlib.Path | None]
"""Of one image: one file for all classes, or one for each; None: no pixel is of that class."""


class Check(Protocol):
    """Turns what a mask stores into 0, 1 and 255."""

    def __call__(self, stored: np.ndarray, *, name: str) -> np.ndarray:
        """Return it; `name` is the mask's, for messages."""
        ...


def read(
    image_file: pathlib.Path, masks: Masks, *, bands: int, reading: Reading, check: Check
) -> tuple[np.ndarray | Lazy, np.ndarray]:
    """Return an image, of a large file as one whose parts are read, and its multi-label map.

    Args:
        image_file: The image.
        masks: Its masks, which are read whole.
        bands: Of every mask.
        reading: How the data set reads images.
        check: Turns what a mask stores into 0, 1 and 255; where there is no file all is 0.

    Returns:
        The image [h w c], and the map [h w k].

    Raises:
        DataError: One cannot be used, or is of another size than the image.
    """
    image = large.open_image(image_file, name=str(image_file), reading=reading)
    size, found = image.shape[:2], []
    for mask in masks:
        label = np.zeros((*size, bands), np.uint8)
        if mask is not None:
            name = str(mask)
            stored = decode.read_bands(mask, name=name, bands=bands, exif=reading.exif)
            decode.check_sizes(size, stored.shape[:2], str(image_file), name, exif=reading.exif)
            label = check(stored, name=name)
        found.append(label)
    return image, np.concatenate(found, axis=-1)


def check(
    image_file: pathlib.Path, masks: Masks, *, bands: int, reading: Reading
) -> tuple[int, ...]:
    """Check by headers alone that `read` will do, and return height and width.

    Raises:
        DataError: As `read`, where a header shows it.
    """
    size = large.check_header(image_file, name=str(image_file), reading=reading)
    for mask in filter(None, masks):
        header = decode.read_header(mask, name=str(mask))
        decode.check_bands(header, name=str(mask), bands=bands)
        found = decode.shown_size(header, reading.exif)
        decode.check_sizes(size, found, str(image_file), str(mask), exif=reading.exif)
    return size
