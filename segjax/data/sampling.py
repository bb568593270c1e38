"""Which examples training sees more often, by the classes that are in them.

Each example has a number of times that it should come in an epoch. An epoch is drawn from these
numbers systematically (Madow 1949): laid end to end, the examples are cut at equal steps from an
offset that seed and epoch decide, so that one due 2.4 times comes twice or three times, on average
2.4. Then it is shuffled as every epoch is. What is at a position of the stream is therefore a
function of the seed and the position, as without it.
"""

import functools
from collections.abc import Mapping
from typing import Any

import grain
import numpy as np
from jaxtyping import Bool, Float

_OFFSETS = 1 << 33
"""Tells the random streams of epochs from those of rows and examples, see `windows`."""
Has = Bool[np.ndarray, "n k"]
"""Which classes each example has."""
Times = Float[np.ndarray, " n"]


def repeat_factors(has: Has, *, threshold: float) -> Times:
    """Return how often each example should come: once, and more with a class that few have.

    Gupta, Dollár and Girshick 2019 (LVIS, section 4.1): of a class in a share f of the examples
    max(1, sqrt(threshold / f)); of an example the largest of its classes.
    """
    share = np.maximum(has.mean(axis=0), 1e-30)
    factor = np.maximum(1.0, np.sqrt(threshold / share))
    return np.where(has, factor, 1.0).max(axis=1)


def class_balanced(has: Has) -> Times:
    """Return how often each example should come so that classes are drawn alike.

    As if a class were drawn first, and then one of the examples that have it (Shen, Lin and Huang
    2016). An epoch has as many examples as the data set; one without any class does not come.
    """
    count = has.sum(axis=0)
    there = count > 0
    chance = (has[:, there] / count[there]).mean(axis=1)
    return len(has) * chance


def times(has: Has, section: Mapping[str, Any]) -> Times | None:
    """Return how often each example should come, from `config.input.sampling`; None: all alike."""
    if section["by"] == "repeat_factor":
        return repeat_factors(has, threshold=section["threshold"])
    return class_balanced(has) if section["by"] == "class_balanced" else None


def order(due: Times, seed: int) -> grain.MapDataset[int]:
    """Return the numbers of the examples at each position of the stream, without end."""
    length = max(1, round(float(due.sum())))
    ends = np.cumsum(due) * (length / due.sum())
    drawn = functools.partial(_drawn, ends=ends, length=length, seed=seed)
    places = grain.MapDataset.range(length).seed(seed).shuffle().repeat()
    return places.map_with_index(drawn)


def _drawn(position: int, place: int, *, ends: np.ndarray, length: int, seed: int) -> int:
    """Return the example at a place of the epoch that a position is in."""
    at = place + _offset(seed, position // length)
    return min(int(np.searchsorted(ends, at, side="right")), len(ends) - 1)


@functools.lru_cache(maxsize=16)
def _offset(seed: int, epoch: int) -> float:
    key = np.array([seed | _OFFSETS, epoch], np.uint64)
    return float(np.random.Generator(np.random.Philox(key=key)).random())


def describe(due: Times, *, split: str) -> str:
    """Return what the log is to say of an epoch."""
    return (
        f"{split}: an epoch has {round(float(due.sum())):,} examples of {len(due):,}; one comes "
        f"{due.min():.2g} to {due.max():.3g} times, on average"
    )
