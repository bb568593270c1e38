"""Go over large arrays a few rows at a time, so that what is computed of them needs little room."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

ELEMENTS = 1 << 20


def counts(labels: np.ndarray, *, length: int = 256) -> np.ndarray:
    """Return how often each of 0..length-1 occurs among small whole numbers, int64 [length].

    `np.bincount` alone would take eight bytes for each of them.
    """
    total = np.zeros(length, np.int64)
    for part in rows(labels.shape):
        total += np.bincount(labels[part].ravel(), minlength=length)
    return total


def rows(shape: Sequence[int], *, elements: int = ELEMENTS) -> Iterator[slice]:
    """Yield the slices of the first axis that together are an array of `shape`.

    Each holds about `elements` numbers, and one row at least.
    """
    step = max(1, elements // max(1, math.prod(shape[1:])))
    return (slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step))
