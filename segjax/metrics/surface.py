"""Distances between the surfaces of truth and prediction, in the unit of the spacing.

Surface elements count by their length (area in 3-D), as in DeepMind's surface-distance
(https://github.com/google-deepmind/surface-distance; Nikolov et al. 2018, arXiv 1809.04430); see
`contours`. Where truth or prediction alone is empty, distances are infinite and the surface Dice is
0; where both are, there is no value.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float

from segjax.config import kinds, rules
from segjax.metrics import base, contours
from segjax.metrics.contours import Distances


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Surface(base.PerExample):
    """What metrics of surfaces share.

    Attributes:
        spacing: The distance of neighbouring pixels along each axis; empty: the example's field
            'spacing', else 1.
        background: The first class has a value too.
    """

    spacing: base.Spacing = ()
    background: bool = False

    def __call__(self, seen: base.Seen) -> Float[np.ndarray, " k"]:
        """Return the value of each class."""
        values = np.full(seen.num_classes, np.nan)
        spacing = seen.spacing(self.spacing)
        diagonal = float(np.linalg.norm(np.array(seen.label.shape) * spacing))
        for number in base.foreground(seen.num_classes, self.background):
            found = seen.once(("surface", number, spacing), _between(seen, number, spacing))
            if len(found.to_pred) or len(found.to_truth):
                values[number] = self.value(found, diagonal)
        return values

    def value(self, found: Distances, diagonal: float) -> float:
        """Return the value of one class, of which truth or prediction has some pixel."""
        raise NotImplementedError


def _between(seen: base.Seen, number: int, spacing: tuple[float, ...]) -> Callable[[], Distances]:
    def make() -> Distances:
        return contours.distances(*seen.regions(number), spacing=spacing)

    return make


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Distance(_Surface):
    """What distances share.

    Attributes:
        missing: What counts where truth or prediction alone is empty: 'left_out', nothing, with a
            note of how often; 'diagonal', the image's.
    """

    missing: Literal["left_out", "diagonal"] = "left_out"

    def value(self, found: Distances, diagonal: float) -> float:
        """Return the distance; infinite, or the diagonal, where one of the two is empty."""
        if len(found.to_pred) and len(found.to_truth):
            return self.distance(found)
        return np.inf if self.missing == "left_out" else diagonal

    def distance(self, found: Distances) -> float:
        """Return the distance of two surfaces."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hausdorff(_Distance):
    """The robust Hausdorff distance: the larger of the two sides' percentiles.

    Attributes:
        percent: The share of each surface that lies no farther from the other; 100: the largest
            distance.
    """

    percent: Annotated[float | int, rules.number(0, 100, open_ends="low")] = 100

    def distance(self, found: Distances) -> float:
        """Return the distance."""
        return robust_maximum(found, percent=self.percent)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hd95(_Distance):
    """The robust Hausdorff distance of 95 %."""

    def distance(self, found: Distances) -> float:
        """Return the distance."""
        return robust_maximum(found, percent=95)


def robust_maximum(found: Distances, *, percent: kinds.Real) -> float:
    """Return the larger of the two sides' percentiles."""
    sides = ((found.to_pred, found.truth_area), (found.to_truth, found.pred_area))
    return max(percentile(*side, percent=percent) for side in sides)


def percentile(
    distance: Float[np.ndarray, " n"], area: Float[np.ndarray, " n"], *, percent: kinds.Real
) -> float:
    """Return the least distance within which `percent` of the area lies; in order of distance."""
    share = np.cumsum(area) / np.sum(area)
    place = np.searchsorted(share, percent / 100.0)
    return float(distance[min(place, len(distance) - 1)])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assd(_Distance):
    """The average symmetric surface distance: the mean over the elements of both surfaces."""

    def distance(self, found: Distances) -> float:
        """Return the distance."""
        total = found.to_pred @ found.truth_area + found.to_truth @ found.pred_area
        return float(total / (found.truth_area.sum() + found.pred_area.sum()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SurfaceDice(_Surface):
    """The share of both surfaces that lies within a tolerance of the other.

    Attributes:
        tolerance: The largest distance that counts as found, in the unit of the spacing.
    """

    tolerance: kinds.NotNegative = 1.0

    def value(self, found: Distances, diagonal: float) -> float:
        """Return the share."""
        del diagonal
        near = found.truth_area[found.to_pred <= self.tolerance].sum()
        near += found.pred_area[found.to_truth <= self.tolerance].sum()
        return float(near / (found.truth_area.sum() + found.pred_area.sum()))
