"""How much of an image each class covers, of one image and in one table of all."""

import math
import pathlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Int64, UInt8

from segjax.runtime import files, memory

COLUMNS = ("file", "class", "pixels", "share")


Areas = dict[str, dict[str, float]]
"""Pixels (voxels, samples) and share of the image of each class."""


class HasAreas(Protocol):
    """What was predicted of one image, as far as this room reads it."""

    @property
    def file(self) -> pathlib.Path:
        """The image's file."""
        ...

    @property
    def areas(self) -> Areas:
        """How much of it each class covers."""
        ...


def pixels_of(label: UInt8[np.ndarray, "..."], *, dims: int) -> Int64[np.ndarray, " n"]:
    """Return the pixels of each class, of a class map [*space] or a multi-label map [*space k].

    Args:
        label: The map.
        dims: Its axes in space.
    """
    if label.ndim == dims:
        return memory.counts(label)
    return np.count_nonzero(label, axis=tuple(range(dims)))


def areas_of(
    pixels: Int64[np.ndarray, " n"], class_names: Sequence[str], *, whole: Sequence[int]
) -> Areas:
    """Return the areas of an image of the sides `whole` with so many pixels of each class."""
    total = math.prod(whole)
    return {
        name: {"pixels": int(pixels[k]), "share": float(pixels[k] / total)}
        for k, name in enumerate(class_names)
    }


class Table:
    """One CSV of all images, a line for each image and class: file, class, pixels, share."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, int, float]] = []

    def add(self, found: HasAreas) -> None:
        """Add the lines of one image."""
        self.lines += [
            (str(found.file), name, int(area["pixels"]), area["share"])
            for name, area in found.areas.items()
        ]

    def write(self, path: pathlib.Path) -> None:
        """Write the table, UTF-8; names of files that are none keep their bytes.

        Raises:
            UserError: The disk is full or cannot be written.
        """
        files.write_csv(path, [COLUMNS, *self.lines])
