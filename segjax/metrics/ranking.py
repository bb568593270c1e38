"""How well the probability of a class tells its pixels from all others, at any threshold.

Pixels are counted by their probability, rounded to a multiple of 2^-14: what is reported is exact
for these, and `bound` says how far it can be from that of the unrounded ones.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int64

from segjax.metrics import base
from segjax.metrics.base import Summary, number

Levels = Int64[np.ndarray, "k 2 levels"]
Curve = Float[np.ndarray, " levels"]


class _Ranking(base.Added):
    """What they share. Of two classes the value is the second's, of more the mean over classes."""

    def __call__(self, seen: base.Seen) -> Levels:
        """Return how many pixels have which probability."""
        return seen.levels()

    def area(self, positive: Curve, negative: Curve) -> tuple[float, float]:
        """Return the area and its bound; counts by falling probability, of each kind at least 1."""
        raise NotImplementedError

    def summarize(self, found: Sequence[Levels], *, class_names: Sequence[str]) -> Summary:
        """Return the area of each class that some pixels are of and some are not."""
        counts = np.sum(np.stack(found), axis=0)[:, :, ::-1].astype(np.float64)
        areas = np.full((len(class_names), 2), np.nan)
        for own, (negative, positive) in enumerate(counts):
            if negative.any() and positive.any():
                areas[own] = self.area(positive, negative)
        rows = areas[1:] if len(areas) == 2 else areas[~np.isnan(areas[:, 0])]
        value, bound = (number(x) for x in rows.mean(axis=0)) if len(rows) else (None, None)
        per_class = {n: number(x) for n, x in zip(class_names, areas[:, 0], strict=True)}
        return Summary(value, {"value": value, "bound": bound, "per_class": per_class})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Auroc(_Ranking):
    """The area under the receiver operating characteristic, each class against all others.

    It is the probability that a pixel of the class has a higher probability than another one, equal
    ones counting half.
    """

    def area(self, positive: Curve, negative: Curve) -> tuple[float, float]:
        """Return the area; pairs of one level may go either way."""
        pairs = positive.sum() * negative.sum()
        above = np.cumsum(positive) - positive
        tied = float(positive @ negative / pairs / 2)
        return float(above @ negative / pairs) + tied, tied


@dataclasses.dataclass(frozen=True, kw_only=True)
class AveragePrecision(_Ranking):
    """The mean precision over the pixels of the class, each at its own probability as threshold.

    It is scikit-learn's `average_precision_score`, each class against all others.
    """

    def area(self, positive: Curve, negative: Curve) -> tuple[float, float]:
        """Return the area; within one level the order may be the best or the worst."""
        total, hits, others = positive.sum(), np.cumsum(positive), np.cumsum(negative)
        here = positive > 0
        positive, hits, others, own = positive[here], hits[here], others[here], negative[here]
        found = positive @ (hits / (hits + others)) / total
        best = positive @ (hits / (hits + others - own)) / total
        first = hits - positive + 1
        worst = positive @ (first / (first + others)) / total
        return float(found), float(max(best - found, found - worst))
