"""Whether probabilities are what they claim: of pixels with 0.8, do 80 % have that class?

Pixels are counted by their probability, rounded to a multiple of 2^-14 = 0.00006, so that no order
of examples, batches or processes can change a result.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias

import numpy as np
from jaxtyping import Float, Int64, Integer

from segjax.config import rules
from segjax.metrics import base
from segjax.metrics.base import LEVELS, Summary, number, quantised
from segjax.views import figures

Bins: TypeAlias = Annotated[int, rules.whole(1, 1000)]
COOLEST, HOTTEST = 0.01, 100.0
LEAST = float(np.finfo(np.float32).tiny)
"""The least probability whose logarithm is taken."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ece(base.Added):
    """The expected calibration error: the mean of `|confidence - accuracy|` over bins.

    Guo et al. 2017 (On calibration of modern neural networks, arXiv 1706.04599, eq. 3). Confidence
    is the largest probability of a pixel, bins are of equal width, and each weighs as it has
    pixels. The largest error of a bin (`mce`), the same error of each class's own probability
    (`per_class`; Nixon et al. 2019, static) and the reliability diagram come with it.

    Attributes:
        bins: Between 0 and 1; a bin holds its lower end.
    """

    bins: Bins = 15

    def __call__(self, seen: base.Seen) -> Int64[np.ndarray, "k 2 levels"]:
        """Count pixels by level of their largest probability, wrong and right; then by class."""
        probs, label = seen.probabilities()
        right = probs.argmax(axis=-1) == label
        place = quantised(probs.max(axis=-1)) + (LEVELS + 1) * right
        top = np.bincount(place, minlength=2 * (LEVELS + 1)).reshape(1, 2, -1)
        return np.concatenate([top, seen.levels()])

    def summarize(self, found: Sequence[np.ndarray], *, class_names: Sequence[str]) -> Summary:
        """Return the errors and the bins of the diagram."""
        counts = np.sum(np.stack(found), axis=0)
        if not counts.any():
            return Summary(None, {"value": None})
        pixels, confidence, accuracy = binned(counts[0], bins=self.bins)
        gap = np.abs(confidence - accuracy)
        value = float(pixels @ np.nan_to_num(gap) / pixels.sum())
        rows = zip(pixels.tolist(), map(number, confidence), map(number, accuracy), strict=True)
        per_class = [_error(own, bins=self.bins) for own in counts[1:]]
        detail: dict[str, Any] = {
            "value": value,
            "mce": float(np.nanmax(gap)),
            "per_class": dict(zip(class_names, per_class, strict=True)),
            "bins": [dict(zip(("pixels", "confidence", "accuracy"), r, strict=True)) for r in rows],
        }
        draw = functools.partial(figures.reliability, result=detail)
        return Summary(value, detail, figures={"reliability": draw})


def binned(
    counts: Int64[np.ndarray, "2 levels"], *, bins: int
) -> tuple[Int64[np.ndarray, " bins"], Float[np.ndarray, " bins"], Float[np.ndarray, " bins"]]:
    """Return pixels, mean probability and share of right ones of each bin; NaN of an empty one."""
    level = np.arange(LEVELS + 1)
    place = np.minimum(level * bins // LEVELS, bins - 1)
    sums = np.zeros((3, bins), np.int64)
    for row, values in enumerate((counts.sum(axis=0), counts.sum(axis=0) * level, counts[1])):
        np.add.at(sums[row], place, values)
    pixels = sums[0]
    divided = [np.where(pixels, x / np.maximum(pixels, 1), np.nan) for x in sums[1:]]
    return pixels, divided[0] / LEVELS, divided[1]


def _error(counts: Int64[np.ndarray, "2 levels"], *, bins: int) -> float:
    pixels, confidence, accuracy = binned(counts, bins=bins)
    return float(pixels @ np.nan_to_num(np.abs(confidence - accuracy)) / pixels.sum())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Brier(base.Added):
    """The Brier score: the mean over pixels of the squared error of all their probabilities.

    Brier 1950: from 0 to 2, summed over the classes; of two classes twice what scikit-learn's
    `brier_score_loss` gives. Rounding moves it by less than 0.0002.
    """

    def __call__(self, seen: base.Seen) -> Int64[np.ndarray, "k 2 levels"]:
        """Return how many pixels have which probability."""
        return seen.levels()

    def summarize(self, found: Sequence[np.ndarray], *, class_names: Sequence[str]) -> Summary:
        """Return the score, and what each class adds to it."""
        counts = np.sum(np.stack(found), axis=0).astype(np.float64)
        if not counts.any():
            return Summary(None, {"value": None})
        level = np.arange(LEVELS + 1) / LEVELS
        wrong = np.stack([level, 1 - level]) ** 2
        per_class = (counts * wrong).sum(axis=(1, 2)) / counts[0].sum()
        value = float(per_class.sum())
        parts = dict(zip(class_names, per_class.tolist(), strict=True))
        return Summary(value, {"value": value, "per_class": parts})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Temperature:
    """The temperature that calibrates best, and the calibration error before and after.

    Guo et al. 2017, section 4.2. Fitted to the split that is scored, so of a validation split; some
    pixels of each image are enough for one number, and both errors are of these.

    Attributes:
        pixels: At most so many of each example, evenly spread over those that are not void.
        bins: Of the calibration error, see `Ece`.
    """

    pixels: Annotated[int, rules.whole(1, 2**20)] = 256
    bins: Bins = 15
    added = False

    def __call__(self, seen: base.Seen) -> tuple[np.ndarray, np.ndarray]:
        """Return logarithms of probabilities and the true class of some pixels."""
        probs, label = seen.probabilities()
        count = min(self.pixels, len(label))
        places = np.linspace(0, len(label) - 1, count).astype(np.int64) if count else []
        return np.log(np.maximum(probs[places], LEAST)), label[places]

    def summarize(
        self, found: Sequence[tuple[np.ndarray, np.ndarray]], *, class_names: Sequence[str]
    ) -> Summary:
        """Return the temperature; errors and likelihoods at 1 and there."""
        logits = np.concatenate([each for each, _ in found])
        label = np.concatenate([each for _, each in found])
        if not len(label):
            return Summary(None, {"value": None})
        best = fit_temperature(logits, label)
        detail: dict[str, Any] = {"value": best, "pixels": len(label)}
        for name, temperature in (("", 1.0), ("_scaled", best)):
            probs = _softmax(logits / temperature)
            own = probs[np.arange(len(label)), label]
            place = quantised(probs.max(axis=-1)) + (LEVELS + 1) * (probs.argmax(-1) == label)
            counts = np.bincount(place, minlength=2 * (LEVELS + 1)).reshape(2, -1)
            detail[f"ece{name}"] = _error(counts, bins=self.bins)
            detail[f"nll{name}"] = float(-np.log(np.maximum(own, LEAST)).mean())
        return Summary(best, detail)


def fit_temperature(logits: Float[np.ndarray, "n k"], label: Integer[np.ndarray, " n"]) -> float:
    """Return the T for which softmax(logits / T) gives the labels the highest likelihood.

    The likelihood has one maximum in 1 / T; it is found to 12 digits, between T = 0.01 and 100.
    Logarithms of probabilities are logits too.

    Args:
        logits: At least one row.
        label: The true class of each.
    """
    scores = np.asarray(logits, np.float64)
    scores = scores - scores.max(axis=-1, keepdims=True)
    own = scores[np.arange(len(label)), label].mean()

    def excess(temperature: float) -> float:
        """Return the likelihood's slope: negative where the temperature is too low."""
        return float(own - (_softmax(scores / temperature) * scores).sum(axis=-1).mean())

    low, high = np.log(COOLEST), np.log(HOTTEST)
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if excess(np.exp(middle)) < 0 else (low, middle)
    return float(np.exp((low + high) / 2))


def _softmax(scores: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
