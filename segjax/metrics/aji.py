"""The aggregated Jaccard index of the objects of an image: common pixels over all pixels.

Wrong pixels of an image count as much as they are, those of missed and wrongly found objects too.
Objects match within their class; pixels are summed over classes. A crowd is no object; what is
found with more than half of it in a crowd, and belongs to no object, is left out.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Int64
from scipy import optimize

from segjax.metrics.matching import Table

Pixels = Int64[np.ndarray, " 2"]
"""Pixels in common, and all of them."""


def aji(table: Table) -> Pixels:
    """Return the pixels of one class of which AJI is the ratio.

    Kumar et al. 2017: each true object takes the found one of the largest IoU, which several may
    take; what nobody took is added to all pixels.
    """
    if not table.ious.size:
        return _pixels(table, *np.zeros((2, 0), np.int64))
    best = table.ious.argmax(axis=0)
    columns = np.flatnonzero(table.ious.max(axis=0) > 0)
    return _pixels(table, best[columns], columns)


def aji_plus(table: Table) -> Pixels:
    """Return the same with pairs of one each, whose IoUs have the largest sum.

    Graham et al. 2019 (HoVer-Net, AJI+), as its code has it.
    """
    rows, columns = optimize.linear_sum_assignment(table.ious, maximize=True)
    kept = table.ious[rows, columns] > 0
    return _pixels(table, rows[kept], columns[kept])


def _pixels(table: Table, rows: np.ndarray, columns: np.ndarray) -> Pixels:
    true, found = table.areas
    both = table.pixels[rows, columns]
    alone = ~table.excused
    alone[rows] = False
    missed = np.ones(len(true), bool)
    missed[columns] = False
    union = true[columns] + found[rows] - both
    return np.array([both.sum(), union.sum() + found[alone].sum() + true[missed].sum()], np.int64)


def value(pixels: Iterable[Pixels]) -> float:
    """Return the index of one image, of the pixels of its classes; NaN where there is no object."""
    both, every = np.sum([np.zeros(2, np.int64), *pixels], axis=0)
    return float(both / every) if every else float("nan")
