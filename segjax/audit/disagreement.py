"""Masks that a trained run is sure are otherwise: confident learning, pixel by pixel."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int64, UInt8

from segjax.errors import DataError
from segjax.structs import IGNORE_LABEL

SAMPLE = 48
"""Examples by which it is judged how sure the run is of each class where a mask has it."""
STANDS_OUT = 6.0
"""Robust deviations above the median from which on a mask is found."""
Probabilities = Float[np.ndarray, "*space k"]
Read = Callable[[int], tuple[Probabilities, UInt8[np.ndarray, "*space"]]]
"""Returns the probabilities and the label of an example by its number."""


def thresholds(examples: Iterable[tuple[Any, Any]]) -> Float[np.ndarray, " k"]:
    """Return the mean probability of each class over the pixels that are labelled so.

    Northcutt et al. 2021 (arXiv:1911.00068, equation 2). Of a class that no example has it is 1,
    which no pixel exceeds.
    """
    total, count = np.zeros(0), np.zeros(0, np.int64)
    for probabilities, label in examples:
        k = probabilities.shape[-1]
        if not total.size:
            total, count = np.zeros(k), np.zeros(k, np.int64)
        known = label < k
        own = np.take_along_axis(probabilities[known], label[known][:, None].astype(int), -1)[:, 0]
        total += np.bincount(label[known], own, minlength=k)
        count += np.bincount(label[known], minlength=k)
    return np.where(count > 0, total / np.maximum(count, 1), 1.0)


def share(
    probabilities: Probabilities,
    label: UInt8[np.ndarray, "*space"],
    threshold: Float[np.ndarray, " k"],
) -> float:
    """Return the share of the judged pixels of which the run is sure that they are otherwise.

    It is sure of the most probable class among those that reach their threshold.
    """
    known = (label != IGNORE_LABEL) & (label < probabilities.shape[-1])
    if not known.any():
        return 0.0
    rows = probabilities[known]
    sure = np.where(rows >= threshold, rows, -1.0)
    best = sure.argmax(-1)
    other = (sure.max(-1) >= 0) & (best != label[known])
    return float(other.mean())


def rank(count: int, read: Read, *, tell: Callable[[int], None]) -> list[float | None]:
    """Return the share of each example, see `share`; None of one that cannot be read.

    Args:
        count: How many examples there are.
        read: Reads and predicts one.
        tell: Is told how many have been judged.
    """
    sampled = np.linspace(0, count - 1, min(SAMPLE, count)).round().astype(int)

    def readable(numbers: Sequence[int]) -> Iterable[tuple[Any, Any]]:
        for number in numbers:
            try:
                yield read(number)
            except DataError:
                continue

    threshold = thresholds(readable(sampled.tolist()))
    found: list[float | None] = []
    for number in range(count):
        try:
            found.append(share(*read(number), threshold))
        except DataError:
            found.append(None)
        tell(number + 1)
    return found


def standing_out(shares: Sequence[float | None]) -> Int64[np.ndarray, " n"]:
    """Return the places of those that are far above the others."""
    known = np.array([np.nan if each is None else each for each in shares])
    if np.isfinite(known).sum() < 8:
        return np.zeros(0, np.int64)
    middle = np.nanmedian(known)
    spread = max(float(np.nanmedian(np.abs(known - middle))) / 0.6745, 0.01)
    return np.flatnonzero(np.nan_to_num(known, nan=middle) > middle + STANDS_OUT * spread)
