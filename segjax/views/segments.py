"""Draw panoptic maps: segments in the colours of their classes, things with edges between them."""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Integer, Num, UInt8

from segjax.views import colour, examples, figures, outlines, planes

TINTS = (0.0, 0.3, -0.3, 0.15, -0.15, 0.45)
"""How much lighter or darker than its class the segments are, one after the other."""
EDGE: colour.Colour = (255, 255, 255)


class Map(NamedTuple):
    """An image in segments.

    Attributes:
        numbers: The segment of every pixel, from 1; 0 where there is none.
        classes: The class of every pixel's segment, 255 where there is none.
    """

    numbers: Integer[np.ndarray, "*space"]
    classes: Integer[np.ndarray, "*space"]


class Row(NamedTuple):
    """One line of `draw`: an image beside its truth and what was found, all of one size.

    Attributes:
        title: 'best', 'median' or 'worst'.
        name: Where the example came from; its end is shown.
        image: [*space c].
        truth: The true segments; what is of none is void.
        found: The found segments.
        score: What the example is worth, in words.
    """

    title: str
    name: str
    image: Num[np.ndarray, "*space c"]
    truth: Map
    found: Map
    score: str


def draw(
    path: str | os.PathLike[str],
    rows: Sequence[Row],
    *,
    palette: Sequence[colour.Colour],
    class_names: Sequence[str],
) -> None:
    """Draw image, true and found segments and wrong classes of a few examples.

    Segments have the colour of their class, a little lighter or darker in turn, and white edges.
    What is of no segment is hatched. Of volumes three sections are shown.

    Args:
        path: The PNG to write.
        rows: What to draw, from the top down.
        palette: One colour per class.
        class_names: One name per class; the legend holds those that occur.
    """
    if not rows:
        with figures.drawing(path, 8, 2) as figure:
            figures.note(figure.subplots(), "no image with a segment")
        return
    void = colour.spare(palette)
    maps = [one.classes for row in rows for one in (row.truth, row.found)]
    patches = examples.legend_patches(maps, palette, class_names)
    patches += [examples.patch("correct", colour.CORRECT), examples.patch("wrong", colour.WRONG)]
    lines = [
        examples.Line(row.title, row.name, row.score, panels(row, palette, void)) for row in rows
    ]
    examples.draw_lines(path, lines, patches, cells=_cells(rows[0]), void=void)


def _cells(row: Row) -> tuple[float, float]:
    return examples.CELLS[max(2, row.image.ndim - 1)]


def panels(
    row: Row, palette: Sequence[colour.Colour], void: colour.Colour
) -> Mapping[str, UInt8[np.ndarray, "h w 3"]]:
    """Return the pictures of a row at the pixels of a figure by their titles."""
    dims = row.image.ndim - 1
    pictures = {
        "image": colour.displayable(row.image, axes=dims),
        "truth": colourise(row.truth, palette, void=void),
        "found": colourise(row.found, palette, void=void),
        "wrong classes": colour.error_map(row.found.classes, row.truth.classes, void=void),
    }
    numbers = {"truth": row.truth.numbers, "found": row.found.numbers}
    if dims == 3:
        at = planes.busiest(row.truth.classes)
        pictures = {title: planes.sections(each, at) for title, each in pictures.items()}
        numbers = {title: outlines.sections(each, at) for title, each in numbers.items()}
    elif dims == 1:
        both = (pictures, numbers)
        pictures, numbers = ({t: np.repeat(x[None], outlines.STRIP, 0) for t, x in own.items()}
                             for own in both)  # fmt: skip
    tall, wide = examples.size_of(pictures["image"], _cells(row)[0])
    for title, own in numbers.items():
        picture = examples.fit(pictures[title], wide, tall, smooth=False)
        places = [
            (np.arange(new) + 0.5) * old / new
            for new, old in zip(picture.shape[:2], own.shape, strict=True)
        ]
        seen = own[np.ix_(*(each.astype(int) for each in places))]
        pictures[title] = np.where(edges(seen)[..., None], np.array(EDGE, np.uint8), picture)
    return pictures


def colourise(
    own: Map, palette: Sequence[colour.Colour], *, void: colour.Colour = colour.BLACK
) -> UInt8[np.ndarray, "*space 3"]:
    """Return the colours of a map of segments; several of one class differ."""
    flat = colour.colourise(own.classes, palette, void=void)
    tint = np.zeros(own.classes.shape, np.float32)
    for number in np.unique(own.classes[own.classes != colour.VOID_LABEL]).tolist():
        here = own.classes == number
        several = np.unique(own.numbers[here])
        turn = np.searchsorted(several, own.numbers[here]) % len(TINTS)
        tint[here] = np.array(TINTS, np.float32)[turn]
    tint = tint[..., None]
    lighter, darker = flat + (255 - flat) * np.maximum(tint, 0), flat * np.minimum(1 + tint, 1)
    return np.rint(np.where(tint > 0, lighter, darker)).astype(np.uint8)


def edges(numbers: Integer[np.ndarray, "*space"]) -> Bool[np.ndarray, "*space"]:
    """Return the pixels of a segment that have another one right before them along some axis."""
    found = np.zeros(numbers.shape, bool)
    for axis in range(numbers.ndim):
        ahead, behind = [slice(None)] * numbers.ndim, [slice(None)] * numbers.ndim
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        one, other = numbers[tuple(ahead)], numbers[tuple(behind)]
        found[tuple(ahead)] |= (one != other) & (one > 0) & (other > 0)
    return found
