"""How the objects of one image overlap, in whole pixels: what every score of objects is made of.

Masks are compared where their boxes overlap, each within its own box: no array of all objects is
made, and any number of axes goes. Only objects of one class are compared.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int64, Num

from segjax.metrics import boundary
from segjax.structs import Mask, Objects

RATIO = 0.02
"""Width of an object's border as a share of the image's diagonal (Cheng et al. 2021)."""
LEAST = 0.5
"""The least IoU that any score asks for; borders of objects that overlap less are not compared."""


class Pairs(NamedTuple):
    """The pairs of a true and a found object of one class that have a pixel in common.

    Attributes:
        truth: Number of the true object.
        found: Number of the found one.
        pixels: That they have in common.
        iou: Of their masks; with a crowd the share of the found one that lies in it, as COCO has
            it.
        boundary: The lesser of that and of the IoU of their borders; where `iou` is below `LEAST`
            it is `iou` itself, and where borders were not compared NaN.
    """

    truth: Int64[np.ndarray, " p"]
    found: Int64[np.ndarray, " p"]
    pixels: Int64[np.ndarray, " p"]
    iou: Float[np.ndarray, " p"]
    boundary: Float[np.ndarray, " p"]


class Compared(NamedTuple):
    """The true and the found objects of one image, compared.

    Attributes:
        truth: The true ones; their masks are not needed any more.
        found: The found ones.
        areas: Pixels of each true object, and of each found one.
        pairs: Those that overlap, in order of the found and then the true object.
    """

    truth: Objects
    found: Objects
    areas: tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " m"]]
    pairs: Pairs


def compare(
    truth: Objects, found: Objects, size: Sequence[int], *, borders: bool = True
) -> Compared:
    """Compare the objects of an image of the sides `size`; their `borders` as well, or not."""
    areas = areas_of(truth.masks), areas_of(found.masks)
    second, first = np.nonzero(_may_overlap(truth, found))
    pixels = np.array(
        [common(truth.masks[i], found.masks[j]) for i, j in zip(first, second, strict=True)],
        np.int64,
    )
    first, second, pixels = (each[pixels > 0] for each in (first, second, pixels))
    union = areas[1][second] + np.where(truth.crowd[first], 0, areas[0][first] - pixels)
    iou = pixels / union
    pairs = Pairs(first, second, pixels, iou, iou.copy() if borders else np.full_like(iou, np.nan))
    if borders:
        _compare_borders(truth, found, pairs, size)
    return Compared(truth, found, areas, pairs)


def _compare_borders(truth: Objects, found: Objects, pairs: Pairs, size: Sequence[int]) -> None:
    """Fill in `pairs.boundary`; each border is found once."""
    width = max(1, round(RATIO * boundary.diagonal(tuple(size))))
    near = np.flatnonzero(pairs.iou >= LEAST)

    def rims(masks: Sequence[Mask], used: np.ndarray) -> dict[int, Mask]:
        return {
            int(i): masks[i]._replace(inside=boundary.rim(masks[i].inside, width))
            for i in np.unique(used)
        }

    true_rims = rims(truth.masks, pairs.truth[near])
    found_rims = rims(found.masks, pairs.found[near])
    for at in near:
        i, j = int(pairs.truth[at]), int(pairs.found[at])
        both = common(true_rims[i], found_rims[j])
        union = np.count_nonzero(found_rims[j].inside)
        if not truth.crowd[i]:
            union += np.count_nonzero(true_rims[i].inside) - both
        pairs.boundary[at] = min(pairs.iou[at], both / union)


def areas_of(masks: Sequence[Mask]) -> Int64[np.ndarray, " n"]:
    """Return the pixels of each mask."""
    return np.array([np.count_nonzero(mask.inside) for mask in masks], np.int64)


def common(first: Mask, second: Mask) -> int:
    """Return how many pixels two masks have in common."""
    parts = []
    for mask, other in ((first, second), (second, first)):
        low = [max(0, b - a) for a, b in zip(mask.corner, other.corner, strict=True)]
        high = [
            max(0, b + side - a)
            for a, b, side in zip(mask.corner, other.corner, other.inside.shape, strict=True)
        ]
        parts.append(mask.inside[tuple(map(slice, low, high))])
    return int(np.count_nonzero(parts[0] & parts[1]))


def _may_overlap(truth: Objects, found: Objects) -> Bool[np.ndarray, "m n"]:
    """Return which found (rows) and true objects are of one class, and their boxes overlap."""
    may = found.classes[:, None] == truth.classes[None]
    if not may.size:
        return may
    (first, ends), (others, other_ends) = _boxes(truth.masks), _boxes(found.masks)
    for axis in range(first.shape[1]):
        low = np.maximum(others[:, None, axis], first[None, :, axis])
        may &= low < np.minimum(other_ends[:, None, axis], ends[None, :, axis])
    return may


def _boxes(masks: Sequence[Mask]) -> tuple[Int[np.ndarray, "n axes"], Int[np.ndarray, "n axes"]]:
    """Return where the boxes of some masks, one at least, begin and end."""
    corners = np.array([mask.corner for mask in masks], np.int64)
    sides = np.array([mask.inside.shape for mask in masks], np.int64)
    return corners, corners + sides


def box_ious(compared: Compared, class_number: int) -> Float[np.ndarray, "m n"]:
    """Return the IoU of the boxes of one class's found (rows) and true objects.

    With a crowd it is the share of the found box that lies in the true one.
    """
    truth, found = compared.truth, compared.found
    chosen = [one.boxes[one.classes == class_number].astype(np.float64) for one in (found, truth)]
    (low, high), (other_low, other_high) = (np.split(boxes, 2, axis=1) for boxes in chosen)
    sides = np.minimum(high[:, None], other_high) - np.maximum(low[:, None], other_low)
    both = np.prod(np.maximum(sides, 0), axis=-1)
    areas = [np.prod(each[1] - each[0], axis=-1) for each in ((low, high), (other_low, other_high))]
    crowd = truth.crowd[truth.classes == class_number]
    union = areas[0][:, None] + np.where(crowd, 0, areas[1] - both)
    return np.where(union > 0, both / np.where(union > 0, union, 1), 0)


def table(compared: Compared, class_number: int, values: np.ndarray) -> Num[np.ndarray, "m n"]:
    """Return `values`, one for each pair, as a table of one class's found (rows) and true objects.

    It is 0 for objects that have no pixel in common.
    """
    places = []
    for objects in (compared.truth, compared.found):
        own = objects.classes == class_number
        places.append((np.where(own, np.cumsum(own) - 1, -1), int(own.sum())))
    (columns, width), (rows, height) = places
    row, column = rows[compared.pairs.found], columns[compared.pairs.truth]
    here = (row >= 0) & (column >= 0)
    found = np.zeros((height, width), np.result_type(values))
    found[row[here], column[here]] = values[here]
    return found


def take(objects: Objects, which: np.ndarray) -> Objects:
    """Return some of the objects, by their numbers or by a flag for each, in that order."""
    numbers = np.flatnonzero(which) if which.dtype == bool else which
    return Objects(
        classes=objects.classes[numbers],
        boxes=objects.boxes[numbers],
        masks=tuple(objects.masks[i] for i in numbers),
        scores=objects.scores[numbers],
        crowd=objects.crowd[numbers],
    )
