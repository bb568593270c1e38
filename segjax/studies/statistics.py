"""How sure the mean of a few runs is, and whether rows differ: Student's t, paired by seed."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

LEVEL = 0.95


class Mean(NamedTuple):
    """The mean of runs that differ in their seeds.

    Attributes:
        n: How many there are.
        mean: Their mean.
        std: Their standard deviation, of n − 1; None with one run.
        interval: 95 % confidence interval of the mean (Student 1908); None with one run.
    """

    n: int
    mean: float
    std: float | None
    interval: tuple[float, float] | None


class Difference(NamedTuple):
    """How a row differs from the baseline, seed by seed.

    Attributes:
        n: Seeds that both have.
        mean: Of the differences, row minus baseline.
        interval: 95 % confidence interval of it; None with fewer than two seeds.
        p_value: Of the paired t-test, two-sided; None where there is none.
        adjusted: The same after Holm's correction for all rows of the table.
    """

    n: int
    mean: float
    interval: tuple[float, float] | None
    p_value: float | None
    adjusted: float | None = None


def mean(values: Sequence[float]) -> Mean:
    """Return the mean of at least one value."""
    array = np.asarray(values, np.float64)
    n, middle = len(array), float(array.mean())
    if n < 2:
        return Mean(n, middle, None, None)
    std = float(array.std(ddof=1))
    half = float(special.stdtrit(n - 1, (1 + LEVEL) / 2)) * std / n**0.5
    return Mean(n, middle, std, (middle - half, middle + half))


def difference(row: Mapping[int, float], baseline: Mapping[int, float]) -> Difference | None:
    """Return how the values of a row differ from the baseline's, by seed; None: no seed in common.

    Differences that are all equal are as sure as can be: p is 0, and 1 where they are 0.
    """
    seeds = sorted(row.keys() & baseline.keys())
    if not seeds:
        return None
    pairs = np.array([row[seed] - baseline[seed] for seed in seeds], np.float64)
    found = mean(pairs.tolist())
    if found.std is None:
        return Difference(found.n, found.mean, None, None)
    if found.std == 0:
        p_value = 1.0 if found.mean == 0 else 0.0
    else:
        t = abs(found.mean) / (found.std / found.n**0.5)
        p_value = float(2 * special.stdtr(found.n - 1, -t))
    return Difference(found.n, found.mean, found.interval, p_value)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values corrected for their number, by name (Holm 1979, step-down)."""
    adjusted, highest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = highest
    return adjusted


def differences(
    rows: Mapping[str, Mapping[int, float]], baseline: str
) -> dict[str, Difference | None]:
    """Return how every other row differs from the baseline, p-values corrected for all of them.

    Args:
        rows: From a row's name to its values by seed.
        baseline: The name of one.
    """
    others = {name: values for name, values in rows.items() if name != baseline}
    found = {name: difference(values, rows[baseline]) for name, values in others.items()}
    raw = {n: d.p_value for n, d in found.items() if d is not None and d.p_value is not None}
    adjusted = holm(raw)
    return {
        name: each._replace(adjusted=adjusted.get(name)) if each is not None else None
        for name, each in found.items()
    }
