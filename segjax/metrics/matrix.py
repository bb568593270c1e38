"""Scores made of what every evaluation counts anyway: they cost nothing.

Of a prediction with one class a pixel, all of them are functions of three numbers a class: pixels
found, pixels in the label and pixels predicted, void left out.
"""

import abc
import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int64

from segjax.config import kinds
from segjax.metrics import base
from segjax.metrics.base import Summary, number

Margins = Int64[np.ndarray, "3 k"]


class OfMargins(abc.ABC):
    """What scores of a split's margins share."""

    added = False

    def __call__(self, seen: base.Seen) -> Margins:
        """Return what is counted."""
        return seen.margins

    def score(self, counts: Margins) -> float:
        """Return the score of a split; NaN where there is none."""
        return float(_mean(self.per_class(counts)))

    @abc.abstractmethod
    def per_class(self, counts: Margins) -> Float[np.ndarray, " k"]:
        """Return the score of each class against all others; NaN where there is none."""

    def summarize(self, found: Sequence[Margins], *, class_names: Sequence[str]) -> Summary:
        """Return the score of the split, and what else it is called by.

        `per_class`: each class against all others; `micro`: these decisions of all classes
        together; `per_image`: the mean of each example's score, where it has one.
        """
        counts = np.sum(np.stack(found), axis=0)
        value = number(self.score(counts))
        classes = range(len(class_names))
        together = np.sum([binary(counts, own) for own in classes], axis=0)
        per_class = zip(class_names, map(number, self.per_class(counts)), strict=True)
        images = np.array([self.score(each) for each in found])
        detail = {
            "value": value,
            "micro": number(self.per_class(together)[1]),
            "per_image": number(_mean(images)),
            "per_class": dict(per_class),
        }
        return Summary(value, detail)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Specificity(OfMargins):
    """The share of the pixels of other classes that are not predicted as the class.

    The mean is over the classes in label or prediction; a class that fills the label has none.
    """

    def per_class(self, counts: Margins) -> Float[np.ndarray, " k"]:
        """Return the specificity of each class."""
        hit, label, pred = counts
        negative = label.sum() - label
        found = _ratio(negative - (pred - hit), negative)
        return np.where(label + pred > 0, found, np.nan)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fbeta(OfMargins):
    """The F-measure `(1 + b²) TP / ((1 + b²) TP + b² FN + FP)`, mean over the classes that occur.

    Attributes:
        beta: How much more recall counts than precision; 1 is the Dice coefficient.
    """

    beta: kinds.Positive = 2.0

    def per_class(self, counts: Margins) -> Float[np.ndarray, " k"]:
        """Return the F-measure of each class."""
        hit, label, pred = counts
        square = float(self.beta) ** 2
        return _ratio((1 + square) * hit, square * label + pred)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kappa(OfMargins):
    """Cohen's kappa: agreement of label and prediction beyond that of chance.

    Cohen 1960. None where chance alone agrees everywhere: one class in both.
    """

    def score(self, counts: Margins) -> float:
        """Return the kappa of all classes together."""
        hit, label, pred = counts.astype(np.float64)
        total = label.sum()
        chance = (label @ pred) / total**2 if total else np.nan
        return float(_ratio(hit.sum() / max(total, 1) - chance, 1 - chance))

    def per_class(self, counts: Margins) -> Float[np.ndarray, " k"]:
        """Return the kappa of each class against all others."""
        return np.array([self.score(binary(counts, i)) for i in range(counts.shape[1])])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mcc(OfMargins):
    """Matthews correlation of label and prediction, of several classes as Gorodkin 2004 (R_K).

    None where label or prediction is of one class alone, which scikit-learn calls 0.
    """

    def score(self, counts: Margins) -> float:
        """Return the correlation of all classes together."""
        hit, label, pred = counts.astype(np.float64)
        total = label.sum()
        above = hit.sum() * total - label @ pred
        spread = (total**2 - pred @ pred) * (total**2 - label @ label)
        return float(_ratio(above, np.sqrt(max(spread, 0))))

    def per_class(self, counts: Margins) -> Float[np.ndarray, " k"]:
        """Return the correlation of each class against all others."""
        return np.array([self.score(binary(counts, i)) for i in range(counts.shape[1])])


def binary(counts: Margins, number: int) -> Int64[np.ndarray, "3 2"]:
    """Return the margins of all other classes as one, and of one class."""
    hit, label, pred = counts[:, number]
    total = counts[1].sum()
    rest = [total - label - pred + hit, total - label, total - pred]
    return np.stack([rest, counts[:, number]], axis=1)


def _ratio(above: np.ndarray | float, below: np.ndarray | float) -> np.ndarray:
    """Divide, 0/0 being NaN."""
    below = np.asarray(below, np.float64)
    return np.where(below != 0, np.asarray(above) / np.where(below != 0, below, 1), np.nan)


def _mean(values: Float[np.ndarray, " k"]) -> float:
    """Return the mean of what is defined; NaN of nothing."""
    here = ~np.isnan(values)
    return float(values[here].mean()) if here.any() else float("nan")
