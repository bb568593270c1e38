"""Draw objects over their images: outlined, numbered, and beside the truth."""

import math
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Num, UInt8
from matplotlib.axes import Axes
from PIL import Image

from segjax.views import colour, examples, figures, outlines
from segjax.views.outlines import Region

CELLS = (3.2, 0.08)
"""The widest that a picture may be, and the room between, in inches."""
MISSED: colour.Colour = (47, 109, 181)
CROWD: colour.Colour = (150, 150, 150)
PALE = 0.94
"""How much white the image has below errors."""
NUMBERED = 60
"""With more objects in a picture their numbers could not be read."""
LEAST_AREA = 300
"""Pixels of a figure that an object needs to be numbered."""


class Row(NamedTuple):
    """One line of `draw`.

    Attributes:
        title: 'best', 'median' or 'worst'.
        name: Where the example came from; its end is shown.
        image: [*space c].
        truth: The true objects.
        crowd: Which of them are crowds.
        found: The found objects.
        pairs: True and found objects that match, by their numbers.
        excused: Found objects that are neither right nor wrong.
        score: What the example is worth, in words.
        column: The title of the found objects, alike in all rows.
    """

    title: str
    name: str
    image: Num[np.ndarray, "*space c"]
    truth: Sequence[Region]
    crowd: Sequence[bool]
    found: Sequence[Region]
    pairs: Sequence[tuple[int, int]]
    excused: Sequence[int]
    score: str
    column: str = "found"


def draw(path: str | os.PathLike[str], rows: Sequence[Row]) -> None:
    """Draw image, truth, found objects and errors of a few examples.

    True objects have numbers; a found one has that of the true one that it matches, and its
    colour, or a '+'. Of volumes three sections are shown.

    Args:
        path: The PNG to write.
        rows: What to draw, from the top down.
    """
    if not rows:
        with figures.drawing(path, 8, 2) as figure:
            figures.note(figure.subplots(), "no image with an object")
        return
    marks: dict[tuple[int, str], list[tuple[Region, str]]] = {}
    lines = []
    for index, row in enumerate(rows):
        pictures, texts = panels(row)
        marks |= {(index, title): own for title, own in texts.items()}
        lines.append(examples.Line(row.title, row.name, row.score, pictures))

    def mark(ax: Axes, index: int, title: str) -> None:
        own = marks.get((index, title), [])
        for region, text in own if len(own) <= NUMBERED else ():
            if np.count_nonzero(region[1]) >= LEAST_AREA:
                y, x = outlines.middle(region)
                box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.4}
                ax.text(x, y, text, ha="center", va="center", fontsize=6, bbox=box, clip_on=True)

    legend = {"matched": colour.CORRECT, "wrongly found": colour.WRONG, "missed": MISSED}
    patches = [examples.patch(name, shade) for name, shade in legend.items()]
    if any(any(row.crowd) for row in rows):
        patches.append(examples.patch("crowd, not judged", CROWD))
    examples.draw_lines(path, lines, patches, cells=CELLS, mark=mark)


def panels(
    row: Row,
) -> tuple[dict[str, UInt8[np.ndarray, "h w 3"]], dict[str, list[tuple[Region, str]]]]:
    """Return the pictures of a row at the pixels of a figure, and what is written into them."""
    flat = outlines.flatten(row.image, [row.truth, row.found])
    tall, wide = examples.size_of(flat.picture, CELLS[0])
    base = examples.fit(flat.picture, wide, tall, smooth=True)
    factors = [new / old for new, old in zip(base.shape[:2], flat.picture.shape[:2], strict=True)]
    truth, found = (
        [(number, outlines.scaled(region, factors)) for number, region in group]
        for group in flat.groups
    )
    shades = _shades(truth, row.crowd)
    partner = {j: i for i, j in row.pairs}
    free = dict(zip(
        (j for j, _ in found),
        outlines.shades([region for _, region in found]), strict=True,
    ))  # fmt: skip
    own = {j: shades.get(partner.get(j, -1), free[j]) for j, _ in found}
    pale = np.rint(base * (1 - PALE) + 255 * PALE).astype(np.uint8)
    matched = {i for i, _ in row.pairs}
    wrong = [(region, CROWD if row.crowd[i] else MISSED) for i, region in truth if i not in matched]
    judged = [(j, region) for j, region in found if j not in row.excused]
    wrong += [(region, colour.WRONG) for j, region in judged if j not in partner]
    wrong += [(region, colour.CORRECT) for j, region in judged if j in partner]
    wrong.sort(key=lambda one: np.count_nonzero(one[0][1]))  # the small ones on top
    pictures = {
        "image": base,
        "truth": _painted(base, [(region, shades[i]) for i, region in truth]),
        row.column: _painted(base, [(region, own[j]) for j, region in found]),
        "errors": _painted(pale, wrong, alpha=0.85),
    }
    texts = {
        "truth": [(region, str(i + 1)) for i, region in truth if not row.crowd[i]],
        row.column: [(r, str(partner[j] + 1) if j in partner else "+") for j, r in found],
    }
    return pictures, texts


def _shades(
    regions: Sequence[tuple[int, Region]], crowd: Sequence[bool]
) -> dict[int, colour.Colour]:
    """Return the colours of true objects by their numbers."""
    shades = outlines.shades([region for _, region in regions])
    pairs = zip(regions, shades, strict=True)
    return {i: CROWD if crowd[i] else shade for (i, _), shade in pairs}


def _painted(
    base: np.ndarray, regions: Sequence[tuple[Region, colour.Colour]], *, alpha: float = 0.4
) -> UInt8[np.ndarray, "h w 3"]:
    masks, shades = [region for region, _ in regions], [shade for _, shade in regions]
    return outlines.paint(base, masks, shades, alpha=alpha, width=2)


def overlay(
    path: str | os.PathLike[str],
    image: Num[np.ndarray, "*space c"],
    regions: Sequence[Region],
    texts: Sequence[str],
) -> None:
    """Save an image with its objects as `outlined` returns it, as a PNG.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    colour.save_png(path, Image.fromarray(outlined(image, regions, texts)))


def outlined(
    image: Num[np.ndarray, "*space c"], regions: Sequence[Region], texts: Sequence[str]
) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image with its objects tinted, outlined and named, the first on top.

    A picture keeps its size; three sections of a volume are enlarged.

    Args:
        image: Of two or three axes in space.
        regions: The objects.
        texts: What is written into each.
    """
    flat = outlines.flatten(image, [regions])
    picture, (shown,) = flat.picture, flat.groups
    if image.ndim - 1 != 2:
        factor = math.ceil(examples.SMALLEST / min(picture.shape[:2]))
        picture = picture.repeat(factor, 0).repeat(factor, 1)
        shown = [(i, outlines.scaled(region, (factor, factor))) for i, region in shown]
    masks = [region for _, region in shown]
    width = max(1, round(min(picture.shape[:2]) / 500))
    painted = outlines.paint(picture, masks, outlines.shades(masks), width=width)
    return outlines.write_texts(painted, masks, [texts[i] for i, _ in shown])
