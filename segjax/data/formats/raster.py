"""From outlines to pixels by the rules of the tools that draw them, to the pixel."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from PIL import Image, ImageDraw

from segjax.data.formats import opencv
from segjax.data.formats.base import (
    Box,
    Ellipse,
    Object,
    Part,
    Pixels,
    Ring,
    Rings,
    Size,
    Stroke,
)
from segjax.errors import DataError

LONGEST = 1 << 23
"""Steps along an outline, or rows that its lines cross: what they need of memory is bounded."""
_FINE = 5
"""Steps of a pixel in which pycocotools walks along an outline."""


class Patch(NamedTuple):
    """Some pixels of an image: a mask, and where its first row and column are."""

    top: int
    left: int
    mask: Bool[np.ndarray, "h w"]

    @property
    def place(self) -> tuple[slice, slice]:
        """The rows and columns of the image that the mask is of."""
        height, width = self.mask.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def patch_of(thing: Object, size: Size, *, where: str) -> Patch:
    """Return the pixels of an object, cut to those rows and columns that hold any.

    Raises:
        DataError: An outline too long to be followed; `where` names it.
    """
    found = [_patch(part, size, where=where) for part in thing.parts]
    return found[0] if len(found) == 1 else union(found)


def _patch(part: Part, size: Size, *, where: str) -> Patch:
    if isinstance(part, Pixels):
        return trim(part.mask(), part.top, part.left)
    if isinstance(part, Rings):
        masks = {
            "pillow": _by_pillow, "opencv": _by_opencv, "coco": _by_coco, "centre": _by_centre
        }  # fmt: skip
        return masks[part.rule](part, size, where)
    if isinstance(part, Box) and part.rule != "pillow":
        corners = [(part.left, part.top), (part.left, part.bottom),
                   (part.right, part.bottom), (part.right, part.top)]  # fmt: skip
        return _patch(Rings((np.array(corners),), part.rule), size, where=where)
    if isinstance(part, Ellipse) and part.rule != "pillow":
        return _ellipse(part, size)
    return trim(_painted(part, size))


def trim(mask: Bool[np.ndarray, "h w"], top: int = 0, left: int = 0) -> Patch:
    """Return a mask without its empty rows and columns around."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return Patch(top, left, np.zeros((0, 0), bool))
    y, x = int(rows[0]), int(columns[0])
    return Patch(top + y, left + x, mask[y : int(rows[-1]) + 1, x : int(columns[-1]) + 1])


def union(patches: Sequence[Patch], *, even_odd: bool = False) -> Patch:
    """Return the pixels of any of the patches; with `even_odd` those of an odd number of them."""
    patches = [patch for patch in patches if patch.mask.size]
    if len(patches) < 2:
        return patches[0] if patches else Patch(0, 0, np.zeros((0, 0), bool))
    places = [patch.place for patch in patches]
    top, left = (min(place[axis].start for place in places) for axis in (0, 1))
    bottom, right = (max(place[axis].stop for place in places) for axis in (0, 1))
    whole = np.zeros((bottom - top, right - left), bool)
    for patch in patches:
        rows, columns = Patch(patch.top - top, patch.left - left, patch.mask).place
        part = whole[rows, columns]
        whole[rows, columns] = part ^ patch.mask if even_odd else part | patch.mask
    return trim(whole, top, left)


def _painted(part: Part, size: Size) -> Bool[np.ndarray, "h w"]:
    """Return what LabelMe paints of everything that is no polygon."""
    canvas = Image.new("L", (size[1], size[0]))
    draw = ImageDraw.Draw(canvas)
    if isinstance(part, Box):
        xs, ys = sorted((part.left, part.right)), sorted((part.top, part.bottom))
        draw.rectangle((xs[0], ys[0], xs[1], ys[1]), outline=1, fill=1)
    elif isinstance(part, Ellipse):
        box = (part.x - part.across, part.y - part.down, part.x + part.across, part.y + part.down)
        draw.ellipse(box, outline=1, fill=1)
    elif isinstance(part, Stroke) and len(part.points) == 1:
        (x, y), radius = part.points[0].tolist(), part.width / 2
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=1, fill=1)
    elif isinstance(part, Stroke):
        points = [(x, y) for x, y in part.points.tolist()]
        draw.line(points, fill=1, width=round(part.width))
    return np.asarray(canvas) > 0


def _by_pillow(part: Rings, size: Size, where: str) -> Patch:
    masks = []
    for ring in part.rings:
        canvas = Image.new("L", (size[1], size[0]))
        points = [(x, y) for x, y in ring.tolist()]
        ImageDraw.Draw(canvas).polygon(points, outline=1, fill=1)
        masks.append(trim(np.asarray(canvas) > 0))
    return union(masks, even_odd=part.even_odd)


def _by_opencv(part: Rings, size: Size, where: str) -> Patch:
    patches = []
    for ring in part.rings:
        _check_length(opencv.steps(ring), where=where)
        patches.append(trim(opencv.fill(ring, size)))
    return union(patches, even_odd=part.even_odd)


def _check_length(steps: int, *, where: str) -> None:
    if steps > LONGEST:
        raise DataError(
            f"{where}: an outline of {steps:,} steps, at most {LONGEST:,} are followed. Mend its "
            "points."
        )


def _by_coco(part: Rings, size: Size, where: str) -> Patch:
    patches = [_coco(ring, size, where=where) for ring in part.rings]
    return union(patches, even_odd=part.even_odd)


def _coco(ring: Ring, size: Size, *, where: str) -> Patch:
    """Return what pycocotools' `rleFrPoly` gives.

    It walks along the outline in steps of a fifth of a pixel. Where a step passes the middle of a
    column, what lies below in that column changes sides.
    """
    height, width = size
    u, v = _walk(np.trunc(_FINE * ring + 0.5).astype(np.int64), where=where)
    steps = np.flatnonzero(u[1:] != u[:-1]) + 1
    after, before = u[steps], u[steps - 1]
    x = (np.where(after < before, after, after - 1) + 0.5) / _FINE - 0.5
    y = (np.minimum(v[steps], v[steps - 1]) + 0.5) / _FINE - 0.5
    y = np.ceil(np.clip(y, 0, height)).astype(np.int64)
    inside = (np.floor(x) == x) & (x >= 0) & (x <= width - 1)
    x, y = x[inside].astype(np.int64), y[inside]
    if not x.size:
        return Patch(0, 0, np.zeros((0, 0), bool))
    left, count = int(x.min()), int(x.max() - x.min()) + 1
    columns = _between((x - left) * height + y, height * count).reshape(count, height)
    return trim(columns.T, 0, left)


def _walk(
    corners: Int[np.ndarray, "n 2"], *, where: str
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """Return the points of an outline one step apart, as pycocotools rounds them."""
    first, last = corners, np.roll(corners, -1, axis=0)
    wide, high = np.abs(last - first).T
    steps = np.maximum(wide, high) + 1
    _check_length(int(steps.sum()), where=where)
    flat = wide >= high
    flip = np.where(flat, first[:, 0] > last[:, 0], first[:, 1] > last[:, 1])
    start = np.where(flip[:, None], last, first)
    end = np.where(flip[:, None], first, last)
    rise, run = np.where(flat, (end - start)[:, ::-1].T, (end - start).T)
    slope = rise / np.maximum(run, 1)
    edge = np.repeat(np.arange(len(corners)), steps)
    along = np.arange(len(edge)) - np.repeat(np.cumsum(steps) - steps, steps)
    along = np.where(flip[edge], steps[edge] - 1 - along, along)
    major = np.where(flat, start[:, 0], start[:, 1])[edge] + along
    minor = np.where(flat, start[:, 1], start[:, 0])[edge] + slope[edge] * along + 0.5
    minor = minor.astype(np.int64)  # towards 0, as C does it
    return np.where(flat[edge], major, minor), np.where(flat[edge], minor, major)


def _between(changes: Int[np.ndarray, " n"], length: int) -> Bool[np.ndarray, " length"]:
    """Return True where an odd number of the changes lie at or before."""
    places, counts = np.unique(changes, return_counts=True)
    odd = places[counts % 2 == 1]
    lengths = np.diff(np.concatenate([[0], odd, [length]]))
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)


def _by_centre(part: Rings, size: Size, where: str) -> Patch:
    if part.even_odd:
        return _centres(part.rings, size, where=where)
    return union([_centres((ring,), size, where=where) for ring in part.rings])


def _centres(rings: Sequence[Ring], size: Size, *, where: str) -> Patch:
    """Return the pixels whose centres lie within an odd number of rings, the left edge included."""
    height, width = size
    first = np.concatenate(rings)
    last = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    low, high = np.minimum(first[:, 1], last[:, 1]), np.maximum(first[:, 1], last[:, 1])
    begin = np.clip(np.ceil(low - 0.5), 0, height).astype(np.int64)
    end = np.clip(np.ceil(high - 0.5), 0, height).astype(np.int64)
    rows = np.maximum(end - begin, 0)
    _check_length(int(rows.sum()), where=where)
    if not rows.sum():
        return Patch(0, 0, np.zeros((0, 0), bool))
    edge = np.repeat(np.arange(len(first)), rows)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(rows) - rows, rows) + begin[edge]
    (x0, y0), (x1, y1) = first[edge].T, last[edge].T
    x = x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0)
    column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
    top, count = int(row.min()), int(row.max() - row.min()) + 1
    mask = _between((row - top) * width + column, count * width).reshape(count, width)
    return trim(mask, top, 0)


def _ellipse(part: Ellipse, size: Size) -> Patch:
    """Return the pixels whose centres lie within an ellipse."""
    reach = max(part.across, part.down)
    rows = _inside(part.y - reach, part.y + reach, size[0])
    columns = _inside(part.x - reach, part.x + reach, size[1])
    y = (np.arange(rows.start, rows.stop) + 0.5 - part.y)[:, None]
    x = np.arange(columns.start, columns.stop) + 0.5 - part.x
    turn = np.deg2rad(part.angle)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    half = max(part.across, 0.5), max(part.down, 0.5)
    mask = (along / half[0]) ** 2 + (across / half[1]) ** 2 <= 1
    return trim(mask, rows.start, columns.start)


def _inside(low: float, high: float, length: int) -> slice:
    return slice(max(0, min(length, int(low) - 1)), max(0, min(length, int(high) + 2)))
