"""Surface elements of masks with their areas, and how far those of two masks lie apart.

The definition is that of DeepMind's surface-distance: between each 2 x 2 (x 2) pixels lies a piece
of the surface where some of them are of the mask and some are not. It is what marching squares
(cubes) draws there through the middles of the edges that it cuts, so it has a length (an area).
"""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

Corner = tuple[int, ...]
Edge = frozenset[Corner]
Triangle = tuple[int, int, int]


class Distances(NamedTuple):
    """The surface elements of two masks, each list in order of distance.

    Attributes:
        to_pred: The distance of each element of the truth to the nearest of the prediction;
            infinite where the prediction has none.
        truth_area: What each of them counts.
        to_truth: Likewise from the prediction to the truth.
        pred_area: What each of those counts.
    """

    to_pred: Float[np.ndarray, " n"]
    truth_area: Float[np.ndarray, " n"]
    to_truth: Float[np.ndarray, " m"]
    pred_area: Float[np.ndarray, " m"]


def distances(
    truth: Bool[np.ndarray, "*s"], pred: Bool[np.ndarray, "*s"], *, spacing: Sequence[float]
) -> Distances:
    """Return how far the surfaces of two masks lie apart.

    What is outside of the image is of neither mask: its frame is part of the surface.

    Args:
        truth: A mask of 1 to 3 axes.
        pred: Another.
        spacing: The distance of neighbouring pixels along each axis, the unit of the result.
    """
    either = truth | pred
    if not either.any():
        return Distances(*[np.zeros(0)] * 4)
    box = tuple(
        slice(int(where[0]), int(where[-1]) + 1)
        for axis in range(either.ndim)
        for where in [np.flatnonzero(either.any(axis=others(axis, either.ndim)))]
    )
    areas = [elements(mask[box], spacing=spacing) for mask in (truth, pred)]
    apart = [to_nearest(area > 0, spacing=spacing) for area in areas]
    first, second = (area > 0 for area in areas)
    return Distances(
        *_in_order(apart[1][first], areas[0][first]), *_in_order(apart[0][second], areas[1][second])
    )


def others(axis: int, axes: int) -> tuple[int, ...]:
    """Return all axes but one."""
    return tuple(other for other in range(axes) if other != axis)


def to_nearest(
    places: Bool[np.ndarray, "*s"], *, spacing: Sequence[float]
) -> Float[np.ndarray, "*s"]:
    """Return the distance of everything to the nearest place; infinite if there is none."""
    if not places.any():
        return np.full(places.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(~places, sampling=spacing))


def _in_order(distance: np.ndarray, area: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort((area, distance))
    return distance[order], area[order]


def elements(
    mask: Bool[np.ndarray, "*s"], *, spacing: Sequence[float]
) -> Float[np.ndarray, "*corners"]:
    """Return the area of the surface element around each corner of the pixels; 0: there is none.

    Each axis of the result has one more than that of the mask. In 1-D each element counts 1.
    """
    padded = np.pad(mask, 1)
    code = np.zeros([side + 1 for side in mask.shape], np.uint8)
    for bit, corner in enumerate(corners(mask.ndim)):
        view = tuple(slice(at, at + side) for at, side in zip(corner, code.shape, strict=True))
        code |= padded[view].astype(np.uint8) << bit
    return areas_of_codes(tuple(spacing))[code]


@functools.lru_cache(64)
def areas_of_codes(spacing: tuple[float, ...]) -> Float[np.ndarray, " codes"]:
    """Return the area of the element of each neighbourhood, bit i its `corners` number i."""
    steps = np.array(spacing)
    scaled = normals(len(steps)) * (math.prod(spacing) / steps)
    return np.linalg.norm(scaled, axis=-1).sum(axis=-1)


def corners(axes: int) -> list[Corner]:
    """Return the corners of the unit cube, in the order of a code's bits."""
    return list(itertools.product((0, 1), repeat=axes))


@functools.cache
def normals(axes: int) -> Float[np.ndarray, "codes pieces axes"]:
    """Return the normals of the flat pieces of each neighbourhood's element on the unit grid.

    A normal is as long as its piece is large. Of more than half of the corners the element is that
    of the others. On a face of which opposite corners are of the mask, each is cut off on its own.
    A bent polygon is split into the triangles that are largest together.
    """
    everything = set(corners(axes))
    found = np.zeros((2 ** len(everything), 4, axes))
    for code in range(1, len(found) - 1):
        inside = {corner for bit, corner in enumerate(corners(axes)) if code >> bit & 1}
        if 2 * len(inside) > len(everything):
            inside = everything - inside
        pieces = list(_pieces(inside, axes))
        found[code, : len(pieces)] = pieces
    return found


def _pieces(inside: set[Corner], axes: int) -> Iterator[np.ndarray]:
    if axes == 1:
        yield np.ones(1)
    elif axes == 2:
        for first, second in _segments(inside, axes):
            along = _middle(second) - _middle(first)
            yield np.array([along[1], -along[0]])
    else:
        for loop in _loops(_segments(inside, axes)):
            points = np.stack([_middle(edge) for edge in loop])
            sets = (_normals_of(points, split) for split in _splits(range(len(loop))))
            yield from max(sets, key=lambda own: round(np.linalg.norm(own, axis=1).sum(), 9))


def _middle(edge: Edge) -> np.ndarray:
    return np.mean(sorted(edge), axis=0)


def _normals_of(points: np.ndarray, triangles: Sequence[Triangle]) -> np.ndarray:
    a, b, c = (points[[triangle[i] for triangle in triangles]] for i in range(3))
    return np.cross(b - a, c - a) / 2


def _segments(inside: set[Corner], axes: int) -> list[tuple[Edge, Edge]]:
    """Return the lines that marching squares draws on each face, between middles of edges."""
    found = []
    for face in _faces(axes):
        pairs = zip(face, (*face[1:], face[0]), strict=True)
        cut = [frozenset(pair) for pair in pairs if (pair[0] in inside) != (pair[1] in inside)]
        if len(cut) == 2:
            found.append((cut[0], cut[1]))
        elif len(cut) == 4:  # opposite corners
            for corner in face:
                if corner in inside:
                    first, second = (edge for edge in cut if corner in edge)
                    found.append((first, second))
    return found


def _faces(axes: int) -> Iterator[list[Corner]]:
    """Yield the corners of each square face of the unit cube, around it."""
    ring = ((0, 0), (0, 1), (1, 1), (1, 0))
    if axes == 2:
        yield list(ring)
        return
    for axis, level in itertools.product(range(3), (0, 1)):
        yield [(*pair[:axis], level, *pair[axis:]) for pair in ring]


def _loops(segments: Sequence[tuple[Edge, Edge]]) -> Iterator[list[Edge]]:
    """Yield the closed polygons that segments make; every edge is in two of them."""
    left = list(segments)
    while left:
        loop = list(left.pop())
        while loop[-1] != loop[0]:
            following = next(segment for segment in left if loop[-1] in segment)
            left.remove(following)
            loop.append(following[following[0] == loop[-1]])
        yield loop[:-1]


def _splits(polygon: Sequence[int]) -> Iterator[list[Triangle]]:
    """Yield every way of splitting a polygon into triangles."""
    if len(polygon) < 3:
        yield []
        return
    first, last = polygon[0], polygon[-1]
    for apex in range(1, len(polygon) - 1):
        for left in _splits(polygon[: apex + 1]):
            for right in _splits(polygon[apex:]):
                yield [*left, *right, (first, polygon[apex], last)]
