"""Panoptic quality: PQ = SQ * RQ of segments, by class (Kirillov et al. 2019, arXiv 1801.00868).

A true and a found segment of one class match where their IoU is above 0.5, which no other pair can
then be. The rules of void and crowds are those of panopticapi: what a found segment has of void
does not count in its union, and one that matches nothing is no error if more than half of it is
void or of a crowd of its class.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Int32

from segjax.metrics import coco

NAMES = ("PQ", "SQ", "RQ")
Sums = Float[np.ndarray, "k 4"]
"""Of each class the sum of the IoUs of matches, their number, and how many segments were wrongly
found and missed: the IoUs, TP, FP and FN."""


def sums(
    truth: Int32[np.ndarray, "*space"],
    true_classes: Int[np.ndarray, " n"],
    crowd: Bool[np.ndarray, " n"],
    found: Int32[np.ndarray, "*space"],
    found_classes: Int[np.ndarray, " m"],
    *,
    num_classes: int,
) -> Sums:
    """Return what PQ is made of, of one image.

    Args:
        truth: The true segment of every pixel, 1..n; 0 is void.
        true_classes: Of the segments.
        crowd: Which of them are crowds.
        found: The found segment of every pixel, 1..m; 0 is none.
        found_classes: Of the segments.
        num_classes: K.
    """
    n, m = len(true_classes), len(found_classes)
    place = truth.astype(np.int64).ravel() * (m + 1) + found.ravel()
    common = np.bincount(place, minlength=(n + 1) * (m + 1)).reshape(n + 1, m + 1)
    areas = common.sum(axis=0)[1:]  # of found segments, void too
    void, common, true_areas = common[0, 1:], common[1:, 1:], common.sum(axis=1)[1:]
    same = true_classes[:, None] == found_classes[None]
    union = true_areas[:, None] + areas - common - void
    iou = np.where(same & ~crowd[:, None], common / np.maximum(union, 1), 0)
    rows, columns = np.nonzero(iou > 0.5)
    total = np.zeros((num_classes, 4))
    np.add.at(total[:, 0], true_classes[rows], iou[rows, columns])
    np.add.at(total[:, 1], true_classes[rows], 1)
    missed = ~crowd & (true_areas > 0)
    missed[rows] = False
    np.add.at(total[:, 3], true_classes[missed], 1)
    last = {int(true_classes[i]): i for i in np.flatnonzero(crowd)}  # panopticapi keeps the last
    alone = areas > 0
    alone[columns] = False
    for j in np.flatnonzero(alone).tolist():
        own = int(found_classes[j])
        excused = void[j] + (common[last[own], j] if own in last else 0)
        total[own, 2] += excused <= 0.5 * areas[j]
    return total


def scores(total: Float[np.ndarray, " 4"]) -> dict[str, float | None]:
    """Return PQ, SQ and RQ of one class; None where it is neither there nor found."""
    iou, right, wrong, missed = total.tolist()
    every = right + wrong / 2 + missed / 2
    if not every:
        return dict.fromkeys(NAMES)
    return {"PQ": iou / every, "SQ": iou / right if right else 0.0, "RQ": right / every}


def means(total: Sums) -> dict[str, float | None]:
    """Return the means of PQ, SQ and RQ over the classes that occur, in truth or found."""
    rows = [scores(own) for own in total]
    return {name: coco.mean([row[name] for row in rows]) for name in NAMES}


def segments_of(
    label: np.ndarray, masks: Sequence[Any], classes: Sequence[int], stuff: Sequence[int]
) -> tuple[Int32[np.ndarray, "*space"], Int32[np.ndarray, " n"]]:
    """Return the segments of a label map and the objects in it: objects first, then stuff.

    A pixel of several objects is of the last of them; one of no object whose class is none of
    `stuff` is void.

    Args:
        label: The class of every pixel.
        masks: Of the objects, `structs.Mask`.
        classes: Of the objects.
        stuff: The numbers of the classes that are one segment each.

    Returns:
        The segment of every pixel, 1..n, and the class of each.
    """
    numbers, own = np.zeros(label.shape, np.int32), list(classes)
    for class_number in stuff:
        here = label == class_number
        if here.any():
            own.append(class_number)
            numbers[here] = len(own)
    for i, (corner, inside) in enumerate(masks):
        ends = (slice(a, a + side) for a, side in zip(corner, inside.shape, strict=True))
        numbers[tuple(ends)][inside] = i + 1
    return numbers, np.array(own, np.int32)
