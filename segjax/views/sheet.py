"""A sheet of training examples as the network sees them."""

import math
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, Num

from segjax.views import colour, figures, lines, planes
from segjax.views.examples import legend_patches

COLUMNS = 4
CELL = 2.6
"""Of an image, in inches; its mask is as large below it."""


class Shown(NamedTuple):
    """One example.

    Attributes:
        title: What it is called.
        image: As it is given to the network, before it is normalised.
        label: Its classes, 255 void.
    """

    title: str
    image: Num[np.ndarray, "*space c"]
    label: Integer[np.ndarray, "*space"]


def draw(
    path: str | os.PathLike[str],
    shown: Sequence[Shown],
    *,
    palette: Sequence[colour.Colour],
    class_names: Sequence[str],
) -> None:
    """Draw each image, and below it the image in the colours of its classes, void hatched.

    Of a volume three sections are shown, where its labels hold most; a signal is a line over the
    colours of its classes. Grey values of more than 8 bits are stretched for each image by itself.

    Raises:
        DataError: Image and label of one differ in size, or a label is neither a class nor 255.
        UserError: The disk is full or cannot be written.
    """
    columns = min(COLUMNS, len(shown))
    pictures = [_pictures(one, palette) for one in shown]
    lines_each = max(1, len(pictures[0]))  # of a signal one
    sides = [picture.shape[:2] for own in pictures for picture in own] or [(2, 3)]
    tall = min(2.0, max(height / width for height, width in sides)) * CELL
    rows = math.ceil(len(shown) / columns)
    size = max(columns, 2) * CELL, rows * (lines_each * tall + 0.3) + 0.8
    with figures.drawing(path, *size) as figure:
        axes = figure.subplots(lines_each * rows, columns, squeeze=False)
        for ax in axes.ravel():
            ax.set_axis_off()
        for number, (one, own) in enumerate(zip(shown, pictures, strict=True)):
            row, column = divmod(number, columns)
            cells = axes[lines_each * row : lines_each * (row + 1), column]
            cells[0].set_title(figures.shorten(one.title), fontsize=8)
            for ax, picture in zip(cells, own, strict=False):
                ax.imshow(picture, interpolation="nearest")
            if not own:
                lines.draw_signal(cells[0], one.image, one.label, palette, ink=figures.INK)
        patches = legend_patches([one.label for one in shown], palette, class_names)
        figure.legend(handles=patches, loc="outside lower center", ncols=min(6, len(patches) or 1))


def _pictures(one: Shown, palette: Sequence[colour.Colour]) -> list[np.ndarray]:
    """Return the image, and its overlay, as pictures; none of a signal."""
    if one.label.ndim == 1:
        return []
    void = one.label == colour.VOID_LABEL
    every = [
        colour.displayable(one.image, axes=one.label.ndim),
        colour.overlay(one.image, one.label, palette),
        np.repeat(void[..., None].astype(np.uint8), 3, axis=-1),
    ]
    if one.label.ndim == 3:
        at = planes.busiest(one.label)
        every = [planes.sections(each, at) for each in every]
    image, overlay, hatched = every
    return [image, colour.striped(overlay, hatched[..., 0] == 1)]
