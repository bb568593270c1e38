"""Outlines of the regions of a label map, exact to the pixel (NumPy)."""

import collections
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8

from segjax.data import components

Ring = np.ndarray
"""Corners (x, y) in pixels, int64 [n 2]; the last one leads back to the first."""


class Region(NamedTuple):
    """A connected component of one class: pixels that touch along their sides.

    Coordinates are those of pixel corners: the pixel in column x and row y is the square from
    (x, y) to (x + 1, y + 1). So a region's area is its number of pixels exactly, and the centre of
    a pixel is inside or outside, never on a line. No ring passes a corner twice.

    Attributes:
        label: The class.
        pixels: How many it has.
        outline: Its outer ring. The region is on the right of whoever walks along it, as seen on a
            screen, where y points down.
        holes: Rings around what is not of it, the region on the right as well.
    """

    label: int
    pixels: int
    outline: Ring
    holes: tuple[Ring, ...]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Return x and y of its first corner, its width and its height."""
        (x, y), (right, bottom) = self.outline.min(0).tolist(), self.outline.max(0).tolist()
        return x, y, right - x, bottom - y

    def joined(self) -> Ring:
        """Return a single ring for formats without holes: cuts of no width lead to the holes.

        Filled by either rule, even-odd or non-zero, it is the region exactly.
        """
        # From a hole's first corner in its leftmost column the cut goes left, through the region,
        # to the first ring that it meets: the outline, or a hole that begins further left.
        rings = [_steps(ring) for ring in (self.outline, *self.holes)]
        columns = collections.defaultdict(list)
        for ring in rings:
            for x, y in ring:
                columns[y].append(x)
        lines = {y: np.unique(xs) for y, xs in columns.items()}
        attached = collections.defaultdict(list)
        for ring in rings[1:]:
            start = min(range(len(ring)), key=ring.__getitem__)
            turned = [*ring[start:], *ring[: start + 1]]
            x, y = turned[0]
            before = lines[y][np.searchsorted(lines[y], x) - 1]
            attached[int(before), y].append(turned)
        return _corners(np.array(list(_walk(rings[0], attached))))


def find(label: UInt8[np.ndarray, "h w"], *, without: Collection[int] = (255,)) -> list[Region]:
    """Return the regions of a label map: by class, then by their first pixel in reading order.

    Args:
        label: Class numbers.
        without: Classes whose regions are left out; 255 is void.
    """
    regions = np.zeros(label.shape, np.int64)
    classes: list[int] = []
    pixels: list[int] = []
    for k in np.unique(label).tolist():
        if k in without:
            continue
        numbers, counts = components.find(label == k)
        regions += np.where(numbers > 0, numbers + len(classes), 0)
        classes += [k] * (len(counts) - 1)
        pixels += counts[1:].tolist()
    rings: list[list[Ring]] = [[] for _ in classes]
    for number, ring in _trace(regions):
        rings[number - 1].append(ring)
    found = []
    for k, count, own in zip(classes, pixels, rings, strict=True):
        own.sort(key=lambda ring: -_area(ring))  # only the outline's is positive
        found.append(Region(k, count, own[0], tuple(own[1:])))
    return found


def _trace(regions: Integer[np.ndarray, "h w"]) -> Iterator[tuple[int, Ring]]:
    """Yield each ring of each region with the region's number; 0 is no region."""
    owner, start, end, heading = _sides(regions)
    after = _successors(owner, start, end, heading, (regions.shape[1] + 1)).tolist()
    starts, owners = start.tolist(), owner.tolist()
    width, seen = regions.shape[1] + 1, bytearray(len(after))
    for first in range(len(after)):
        if seen[first]:
            continue
        ring, side = [], first
        while not seen[side]:
            seen[side] = 1
            ring.append(starts[side])
            side = after[side]
        corners = np.array(ring)
        yield owners[first], _corners(np.stack([corners % width, corners // width], axis=1))


def _sides(regions: Integer[np.ndarray, "h w"]) -> tuple[np.ndarray, ...]:
    """Return every pixel side between a region and something else, walked with it on the right.

    Region, corner where it starts and where it ends (y (w + 1) + x), and heading: 0 east, 1 south,
    2 west, 3 north.
    """
    padded = np.pad(regions, 1)
    width = regions.shape[1] + 1
    found = []
    # Neighbour above, right, below, left; the corner of the pixel that its side starts at.
    around = ((-1, 0, 0, 0), (0, 1, 0, 1), (1, 0, 1, 1), (0, -1, 1, 0))
    steps = (1, width, -1, -width)
    for heading, (dy, dx, y0, x0) in enumerate(around):
        other = padded[1 + dy : padded.shape[0] - 1 + dy, 1 + dx : padded.shape[1] - 1 + dx]
        y, x = np.nonzero((regions > 0) & (regions != other))
        start = (y + y0) * width + x + x0
        found.append((regions[y, x], start, start + steps[heading], np.full(len(y), heading)))
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def _successors(
    owner: np.ndarray, start: np.ndarray, end: np.ndarray, heading: np.ndarray, width: int
) -> np.ndarray:
    """Return the number of the side that follows each one in its ring.

    Where a region's pixels meet at a corner alone, two sides follow. The one to the left goes on
    around the same outer piece, so that each ring passes a corner once.
    """
    corners = int(end.max(initial=0)) + width
    order = np.lexsort((heading, owner * corners + start))
    keys = (owner * corners + start)[order]
    wanted = owner * corners + end
    first = np.searchsorted(keys, wanted)
    second = np.minimum(first + 1, max(len(keys) - 1, 0))
    two = (second > first) & (keys[second] == wanted) if len(keys) else first == second
    left = (heading + 3) % 4
    take_second = two & (heading[order[second]] == left) if len(keys) else two
    return order[np.where(take_second, second, first)] if len(keys) else first


def _corners(ring: Ring) -> Ring:
    """Return a ring without the corners at which it goes straight on."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    return ring[(np.sign(before) != np.sign(after)).any(axis=1)]


def _steps(ring: Ring) -> list[tuple[int, int]]:
    """Return a ring's points one pixel apart."""
    after = np.roll(ring, -1, axis=0)
    points: list[tuple[int, int]] = []
    for (x, y), (u, v) in zip(ring.tolist(), after.tolist(), strict=True):
        length, dx, dy = max(abs(u - x), abs(v - y)), np.sign(u - x), np.sign(v - y)
        points += [(x + int(dx) * i, y + int(dy) * i) for i in range(length)]
    return points


def _area(ring: Ring) -> int:
    """Return the area within a ring; negative where it is walked the other way."""
    (x, y), (u, v) = ring.T, np.roll(ring, -1, axis=0).T
    return int((x * v - u * y).sum()) // 2


def _walk(
    ring: list[tuple[int, int]], attached: dict[tuple[int, int], list[list[tuple[int, int]]]]
) -> Iterator[tuple[int, int]]:
    """Yield the points of a ring; at each, before going on, the rings attached to it and back."""
    waiting: list[Iterator[tuple[int, int]]] = [iter(ring)]
    while waiting:
        point = next(waiting[-1], None)
        if point is None:
            waiting.pop()
            continue
        yield point
        for inner in attached.pop(point, ()):
            waiting.append(iter([*inner, point]))
