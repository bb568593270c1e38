"""How much of an image each class covers, of one image and in one table of all."""

import csv
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from segjax.inference.outputs.found import Found
from segjax.runtime import files, memory

COLUMNS = ("file", "class", "pixels", "share")


def class_areas(
    label: UInt8[np.ndarray, "*space"], class_names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return pixels (voxels, samples) and share of the image of each class."""
    pixels = memory.counts(label)
    return {
        name: {"pixels": int(pixels[k]), "share": float(pixels[k] / label.size)}
        for k, name in enumerate(class_names)
    }


class Table:
    """One CSV of all images, a line for each image and class: file, class, pixels, share."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, int, float]] = []

    def add(self, found: Found) -> None:
        """Add the lines of one image."""
        areas = class_areas(found.label, found.classes.class_names)
        self.lines += [
            (str(found.file), name, int(area["pixels"]), area["share"])
            for name, area in areas.items()
        ]

    def write(self, path: pathlib.Path) -> None:
        """Write the table, UTF-8; names of files that are none keep their bytes.

        Raises:
            UserError: The disk is full or cannot be written.
        """
        with files.replacing(path) as temporary:
            with temporary.open(
                "w", encoding="utf-8", errors="surrogateescape", newline=""
            ) as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerows([COLUMNS, *self.lines])
