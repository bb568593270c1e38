"""Which pixels OpenCV's `fillPoly` paints, step by step as it goes: what Ultralytics trains on."""

import numpy as np
from jaxtyping import Bool, Int

from segjax.data.formats.base import Ring, Size

_FIXED = 1 << 16
"""Parts of a pixel in which it counts."""
Points = Int[np.ndarray, "n 2"]
Point = tuple[int, int]


def steps(ring: Ring) -> int:
    """Return how many pixels the outline passes, each edge counted with both its ends."""
    points = np.trunc(ring).astype(np.int64)
    return int((np.abs(points - np.roll(points, -1, axis=0)).max(axis=1) + 1).sum())


def fill(ring: Ring, size: Size) -> Bool[np.ndarray, "h w"]:
    """Return the pixels of an outline and of every other span that it cuts from a row.

    Its points are cut to whole pixels. An edge that leaves the image is drawn, and leans, as its
    part inside does.
    """
    first = np.trunc(ring).astype(np.int64)
    last = np.roll(first, -1, axis=0)
    begin, end, seen = first.copy(), last.copy(), np.ones(len(first), bool)
    corner = np.array(size[::-1])
    outside = ((first < 0) | (first >= corner) | (last < 0) | (last >= corner)).any(axis=1)
    for k in np.flatnonzero(outside).tolist():
        (ax, ay), (bx, by) = first[k].tolist(), last[k].tolist()
        begin[k], end[k], seen[k] = _clip((ax, ay), (bx, by), size)
    mask = np.zeros(size, bool)
    x, y = _lines(begin[seen], end[seen])
    mask[y, x] = True
    level = begin[:, 1] == end[:, 1]
    begin[level, 1], end[level, 1] = first[level, 1], last[level, 1]
    return mask | _spans(first, last, begin, end, size)


def _clip(a: Point, b: Point, size: Size) -> tuple[Point, Point, bool]:
    """Return the part of an edge within the image, and whether there is one."""
    right, bottom = size[1] - 1, size[0] - 1

    def code(x: int, y: int) -> int:
        return (x < 0) + (x > right) * 2 + (y < 0) * 4 + (y > bottom) * 8

    (x1, y1), (x2, y2) = a, b
    c1, c2 = code(x1, y1), code(x2, y2)
    if not c1 & c2 and c1 | c2:
        if c1 & 12:
            to = 0 if c1 < 8 else bottom
            x1, y1 = x1 + int(float(to - y1) * (x2 - x1) / (y2 - y1)), to
            c1 = code(x1, y1)
        if c2 & 12:
            to = 0 if c2 < 8 else bottom
            x2, y2 = x2 + int(float(to - y2) * (x2 - x1) / (y2 - y1)), to
            c2 = code(x2, y2)
        if not c1 & c2 and c1 | c2:
            if c1:
                to = 0 if c1 == 1 else right
                x1, y1, c1 = to, y1 + int(float(to - x1) * (y2 - y1) / (x2 - x1)), 0
            if c2:
                to = 0 if c2 == 1 else right
                x2, y2, c2 = to, y2 + int(float(to - x2) * (y2 - y1) / (x2 - x1)), 0
    return (x1, y1), (x2, y2), not c1 | c2


def _spans(
    first: Points, last: Points, begin: Points, end: Points, size: Size
) -> Bool[np.ndarray, "h w"]:
    """Return what lies between the first and second edge of a row, the third and fourth, …

    Args:
        first: Where each edge begins.
        last: Where it ends.
        begin: Where its part inside of the image begins, by which it leans.
        end: Where that ends.
        size: Of the image.
    """
    height, width = size
    down = first[:, 1] < last[:, 1]
    high, low = np.where(down[:, None], first, last), np.where(down[:, None], last, first)
    origin = np.where(down[:, None], begin, end)
    run, rise = ((end - begin) * np.array([_FIXED, 1])).T
    slope = np.sign(run) * np.sign(rise) * (np.abs(run) // np.maximum(np.abs(rise), 1))
    start = origin[:, 0] * _FIXED + (high[:, 1] - origin[:, 1]) * slope
    rows = np.clip(low[:, 1], 0, height) - np.clip(high[:, 1], 0, height)
    edge = np.repeat(np.arange(len(first)), rows)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(rows) - rows, rows)
    row = row + np.clip(high[:, 1], 0, height)[edge]
    cross = start[edge] + slope[edge] * (row - high[edge, 1])
    order = np.lexsort((cross, row))
    cross, row = cross[order], row[order]
    left = np.clip(-(-cross[::2] // _FIXED), 0, width)
    right = np.maximum(left, np.clip(cross[1::2] // _FIXED + 1, 0, width))
    changes = np.zeros(height * width + 1, np.int32)
    np.add.at(changes, row[::2] * width + left, 1)
    np.add.at(changes, row[::2] * width + right, -1)
    return np.cumsum(changes[:-1]).reshape(size) > 0


def _lines(first: Points, last: Points) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """Return x and y of the pixels of lines, as stepped along from left to right."""
    turned = (first[:, 0] > last[:, 0])[:, None]
    start, end = np.where(turned, last, first), np.where(turned, first, last)
    wide, high = (end - start).T
    sign, high = np.sign(high), np.abs(high)
    flat = wide >= high
    length, side = np.where(flat, wide, high), np.where(flat, high, wide)
    edge = np.repeat(np.arange(len(first)), length + 1)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(length + 1) - length - 1, length + 1)
    long = np.maximum(length, 1)[edge]
    aside = -((long - 2 * side[edge] * step) // (2 * long))
    x = start[edge, 0] + np.where(flat[edge], step, aside)
    y = start[edge, 1] + sign[edge] * np.where(flat[edge], aside, step)
    return x, y
