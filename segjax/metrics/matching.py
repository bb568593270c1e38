"""Objects matched one to one: AP at an IoU as StarDist and the Data Science Bowl have it, and PQ.

Objects count that are found with a score of at least some least one; their order does not matter.
Of each class as many pairs as possible are made of true and found objects whose IoU is at least a
threshold, and of all ways to do so that of the largest sum of IoUs, as `stardist.matching` does.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy import optimize

from segjax.metrics import overlap

THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(9))
"""0.5 to 0.9."""
INSIDE = 0.5
"""A found object that matches nothing is no error if more than so much of it lies in a crowd."""


class Table(NamedTuple):
    """The objects of one class in one image that are to be matched.

    Attributes:
        ious: Of found (rows) and true objects, crowds left out.
        pixels: That they have in common.
        areas: Of the true and of the found ones.
        excused: Which of the found ones are no error where they match nothing.
    """

    ious: Float[np.ndarray, "m n"]
    pixels: Int64[np.ndarray, "m n"]
    areas: tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " m"]]
    excused: Bool[np.ndarray, " m"]


def table_of(compared: overlap.Compared, number: int, *, least_score: float) -> Table:
    """Return the objects of class `number` that count."""
    truth, found, (true_areas, areas), pairs = compared
    own, true = found.classes == number, truth.classes == number
    kept, crowd = found.scores[own] >= least_score, truth.crowd[true]
    ious = overlap.table(compared, number, pairs.iou)[kept]
    pixels = overlap.table(compared, number, pairs.pixels)[kept]
    excused = np.any(ious[:, crowd] > INSIDE, axis=1)
    areas = true_areas[true][~crowd], areas[own][kept]
    return Table(ious[:, ~crowd], pixels[:, ~crowd], areas, excused)


def match(
    ious: Float[np.ndarray, "m n"], near: Bool[np.ndarray, "m n"]
) -> Int64[np.ndarray, "p 2"]:
    """Return the most pairs of found and true objects, and of those the nearest.

    Args:
        ious: Of found objects (rows) and true ones.
        near: Which of them may be a pair.
    """
    if not near.any():
        return np.zeros((0, 2), np.int64)
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    part, allowed = ious[np.ix_(rows, columns)], near[np.ix_(rows, columns)]
    if (allowed.sum(axis=0) > 1).any() or (allowed.sum(axis=1) > 1).any():
        gain = np.where(allowed, 1 + part / (2 * max(1, min(part.shape))), 0)
        first, second = optimize.linear_sum_assignment(gain, maximize=True)
        kept = allowed[first, second]
        first, second = first[kept], second[kept]
    else:
        first, second = np.nonzero(allowed)
    return np.stack([rows[first], columns[second]], axis=1)


def counts(table: Table, thresholds: Sequence[float] = THRESHOLDS) -> Int64[np.ndarray, "t 3"]:
    """Count what is right, wrongly found and missed (TP, FP, FN) at each threshold."""
    rows = []
    for least in thresholds:
        pairs = match(table.ious, table.ious >= least)
        rows.append(_counts(table, pairs))
    return np.array(rows, np.int64)


def quality(table: Table) -> tuple[float, Int64[np.ndarray, " 3"]]:
    """Return the sum of IoUs above 0.5 of matched objects, and TP, FP and FN, as PQ counts them.

    Of objects that do not overlap no other pair can be that near (Kirillov et al. 2019).
    """
    pairs = match(table.ious, table.ious > 0.5)
    return float(table.ious[pairs[:, 0], pairs[:, 1]].sum()), _counts(table, pairs)


def _counts(table: Table, pairs: np.ndarray) -> Int64[np.ndarray, " 3"]:
    alone = ~table.excused
    alone[pairs[:, 0]] = False
    return np.array([len(pairs), alone.sum(), table.ious.shape[1] - len(pairs)], np.int64)


def ap_at(
    counts: Int64[np.ndarray, "t 3"], thresholds: Sequence[float] = THRESHOLDS
) -> dict[str, float | None]:
    """Return TP / (TP + FP + FN) at each threshold; None where there is nothing."""
    return {
        f"{least:g}": int(own[0]) / total if (total := int(own.sum())) else None
        for least, own in zip(thresholds, counts, strict=True)
    }
