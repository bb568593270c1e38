"""Masks of classes that overlap: a file with a band for each class, or a file for each class."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from segjax.data import decode
from segjax.data.decode import Reading

Masks = Sequence[pathlib.Path | None]
"""Of one image: one file for all classes, or one for each; None: no pixel is of that class."""


def read(
    image_file: pathlib.Path, masks: Masks, *, bands: int, reading: Reading
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Decode an image and what each of its masks stores.

    Args:
        image_file: The image.
        masks: Its masks.
        bands: Of every mask.
        reading: How the data set reads images.

    Returns:
        The image [h w c], and of each mask whole numbers [h w bands]; 0 where there is no file.

    Raises:
        DataError: One cannot be used, or is of another size than the image.
    """
    image = decode.read_image(image_file, name=str(image_file), **dataclasses.asdict(reading))
    found = []
    for mask in masks:
        stored = np.zeros((*image.shape[:2], bands), np.uint8)
        if mask is not None:
            stored = decode.read_bands(mask, name=str(mask), bands=bands, exif=reading.exif)
            decode.check_sizes(
                image.shape[:2], stored.shape[:2], str(image_file), str(mask), exif=reading.exif
            )
        found.append(stored)
    return image, found


def check(
    image_file: pathlib.Path, masks: Masks, *, bands: int, reading: Reading
) -> tuple[int, ...]:
    """Check by headers alone that `read` will do, and return height and width.

    Raises:
        DataError: As `read`, where a header shows it.
    """
    size = decode.shown_size(decode.read_header(image_file, name=str(image_file)), reading.exif)
    for mask in filter(None, masks):
        decode.check_pair(
            image_file, mask, image_name=str(image_file), label_name=str(mask),
            exif=reading.exif, bands=bands,
        )  # fmt: skip
    return size
