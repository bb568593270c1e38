"""Tell whether a window of images differs from those of the training: PSI, KS, and their limits.

Images that follow each other resemble each other, and those of one clip, patient or camera do more
so. Textbook limits, which take each image for an independent draw, would alarm at every new clip.
The limits here come from the data: each group of reference images in turn is left out, and how far
windows of it are from the rest is how far an innocent window may be.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special

from segjax.errors import DataError

WINDOW = 100
"""Images that are compared at once."""
FALSE_ALARMS = 0.01
"""The chance that any of the statistics passes its limit in an innocent window, as far as windows
of left-out groups follow a normal law (PSI: a log-normal one)."""
LEAST_PSI, LEAST_KS = 0.25, 0.2
"""Differences below these are of no interest, however unlikely: 0.25 is the usual 'major shift'."""
LARGEST_KS = 0.9
UNSEEN = 0.8
"""A window of which this share lies beyond all that is known is always reported."""
MARGIN = 0.1
"""How far beyond its range a statistic is known, at least, as a share of the range."""
BLOCKS = 8
"""Groups of references that know none: so many parts, one after the other."""
SAMPLE = 512
"""Values of a reference that are kept for KS."""


class Limits(NamedTuple):
    """The reference of one statistic.

    Attributes:
        edges: Of the bins of PSI; below the first and above the last lies what is not known.
        shares: Of the reference's images in each bin, the two outer ones included.
        sample: Sorted values, at most `SAMPLE`.
        psi: What a window must pass to be reported, and
        ks: likewise; both must be passed.
    """

    edges: list[float]
    shares: list[float]
    sample: list[float]
    psi: float
    ks: float


class Shift(NamedTuple):
    """How far a window of one statistic is from the reference.

    Attributes:
        statistic: Its name.
        psi: Population stability index: the sum over bins of (p - q) ln(p / q).
        ks: The Kolmogorov-Smirnov distance, 0 to 1.
        limits: What they are compared with.
        median: Of the window.
        known: Of the reference.
    """

    statistic: str
    psi: float
    ks: float
    limits: Limits
    median: float
    known: float

    @property
    def passes(self) -> bool:
        """Whether both limits are passed."""
        return self.psi > self.limits.psi and self.ks > self.limits.ks

    def describe(self) -> str:
        """Return it in one line."""
        return (
            f"{self.statistic}: median {self.median:.4g}, in training {self.known:.4g}; PSI "
            f"{self.psi:.2f} (limit {self.limits.psi:.2f}), KS {self.ks:.2f} (limit "
            f"{self.limits.ks:.2f})"
        )


Values = Float[np.ndarray, " n"]


def group_of(name: str) -> str:
    """Guess from an example's name whose it is: what stands before its last number."""
    return re.sub(r"\d+[^\d]*$", "", name)


def tell_apart(groups: Sequence[str]) -> list[str]:
    """Return groups that can be left out in turn.

    Where all images are of one, or hardly two are of the same, `BLOCKS` parts one after the other.
    """
    if 1 < len(set(groups)) <= len(groups) // 4:
        return [*groups]
    size = math.ceil(len(groups) / BLOCKS)
    return [f"part {place // size}" for place in range(len(groups))]


def learn(
    table: Mapping[str, Values], groups: Sequence[str], *, window: int = WINDOW
) -> dict[str, Limits]:
    """Return the limits of each statistic.

    Args:
        table: The values of each statistic for the reference's images, in their order; NaN: none.
        groups: Whose each image is; at least two.
        window: Images of a window.

    Raises:
        DataError: Fewer than two groups, or fewer images than a window.
    """
    names = np.asarray(groups)
    if len(set(groups)) < 2 or len(names) < window:
        raise DataError(
            f"watch: {len(names)} reference images in {len(set(groups))} groups. Expected at least "
            f"{window} (--window) in two: limits come from groups left out. Name more splits."
        )
    deviation = -float(special.ndtri(FALSE_ALARMS / max(1, len(table))))
    return {
        name: _learn_one(values, names, window=window, deviation=deviation)
        for name, values in table.items()
        if np.isfinite(values).sum() >= window
    }


def _learn_one(values: Values, groups: np.ndarray, *, window: int, deviation: float) -> Limits:
    """Return the limits of one statistic from windows of groups that are left out."""
    finite = np.isfinite(values)
    values, groups = values[finite], groups[finite]
    parts = [(values[groups == name], values[groups != name]) for name in dict.fromkeys(groups)]
    parts = [(own, rest) for own, rest in parts if len(own) and len(rest)]
    margin = max([MARGIN, *(_beyond(own, rest) for own, rest in parts)])
    found = []
    for own, rest in parts:
        edges = _edges(rest, margin)
        shares = _shares(rest, edges)
        found += [
            (psi(part, edges, shares), ks(part, rest))
            for part in _windows(own, window)
        ]  # fmt: skip
    indices, distances = np.array(found).T
    logs = np.log(indices + 1e-3)
    edges = _edges(values, margin)
    shares = _shares(values, edges)
    count = round(UNSEEN * window)
    unseen = np.concatenate([np.full(count, np.inf), np.resize(values, window - count)])
    bounds = max(indices.max(), math.exp(logs.mean() + deviation * logs.std()))
    distance = max(distances.max(), distances.mean() + deviation * distances.std())
    most = psi(unseen, edges, shares)
    sample = np.quantile(values, np.linspace(0, 1, min(SAMPLE, len(values))))
    return Limits(
        edges.tolist(), shares.tolist(), sample.tolist(),
        psi=float(np.clip(bounds, LEAST_PSI, most)),
        ks=float(np.clip(distance, LEAST_KS, LARGEST_KS)),
    )  # fmt: skip


def compare(table: Mapping[str, Values], reference: Mapping[str, Limits]) -> list[Shift]:
    """Return how far a window is from the reference, the farthest statistic first."""
    found = []
    for name, limits in reference.items():
        values = np.asarray(table.get(name, ()), np.float64)
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        found.append(
            Shift(
                name,
                psi(values, np.array(limits.edges), np.array(limits.shares)),
                ks(values, np.array(limits.sample)),
                limits,
                float(np.median(values)),
                float(np.median(limits.sample)),
            )
        )
    return sorted(found, key=lambda shift: -shift.psi / shift.limits.psi)


def unseen(table: Mapping[str, Values], reference: Mapping[str, Limits]) -> list[Shift]:
    """Return of fewer images than a window the statistics that lie beyond all that is known.

    A few images of one clip are no fair sample; but where `UNSEEN` of them are of no size, colour
    or detail that the reference has, more would not help.
    """
    found = []
    for shift in compare(table, reference):
        values = table[shift.statistic]
        low, *_, high = shift.limits.edges
        if np.mean((values < low) | (values > high)) >= UNSEEN:
            found.append(shift)
    return found


def psi(values: Values, edges: Values, shares: Values) -> float:
    """Return the population stability index of values against the shares of a reference's bins.

    Half an image is added to each bin, so that an empty one has a logarithm.
    """
    counts = np.bincount(np.searchsorted(edges, values), minlength=len(shares))
    own = (counts + 0.5) / (len(values) + 0.5 * len(shares))
    return float(((own - shares) * np.log(own / shares)).sum())


def ks(values: Values, others: Values) -> float:
    """Return the Kolmogorov-Smirnov distance of two samples."""
    from scipy import stats  # takes half a second, and every training reads this file

    found: Any = stats.ks_2samp(values, others, method="asymp")
    return float(found.statistic)


def _edges(values: Values, margin: float) -> Values:
    """Return the deciles, and ends that lie beyond the range by a share of it."""
    low, high = float(values.min()), float(values.max())
    reach = margin * (high - low) + 1e-3 * max(abs(low), abs(high)) + 1e-6
    inner = np.unique(np.quantile(values, np.linspace(0, 1, 11)[1:-1]))
    return np.concatenate([[low - reach], inner, [high + reach]])


def _shares(values: Values, edges: Values) -> Values:
    counts = np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)
    return (counts + 0.5) / (len(values) + 0.5 * len(counts))


def _beyond(own: Values, rest: Values) -> float:
    """Return how far some values reach beyond the range of others, as a share of it."""
    low, high = rest.min(), rest.max()
    return float(max(low - own.min(), own.max() - high, 0) / max(high - low, 1e-6, abs(high) / 1e3))


def _windows(values: Values, window: int) -> list[Values]:
    """Return windows of values that follow each other, each by half over the last."""
    starts = range(0, max(1, len(values) - window + 1), max(1, window // 2))
    return [values[start : start + window] for start in starts]
