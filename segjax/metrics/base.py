"""What a metric is: statistics of one example after the other, and a summary of all of them.

A metric sees an example through `Seen`, which reads it, predicts it and counts only what is asked
for: a metric of margins costs nothing, one of class maps an additional prediction of each example.
"""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int64, Integer, UInt8

from segjax.config import kinds
from segjax.errors import DataError, NonFiniteError
from segjax.structs import IGNORE_LABEL, Example

T = TypeVar("T")
Spacing: TypeAlias = Sequence[kinds.Positive]
"""The distance of neighbouring pixels along each axis of an image; empty: the example's, else 1."""
Draw: TypeAlias = Callable[[pathlib.Path], None]
LEVELS = 2**14
"""Probabilities are counted as whole multiples of its inverse, so that sums of them are exact."""


Predicted: TypeAlias = tuple[np.ndarray, Callable[[], np.ndarray]]
"""The class of every pixel [*space], and what computes the probabilities [*space k]."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """One example with its prediction, each part read or computed when it is first asked for.

    Attributes:
        margins: Pixels of each class, void left out: those of it that were found (row 0), those of
            its label (1), those predicted as it (2).
        read: Returns the example.
        predict: Returns what is predicted of an image.
        memo: What several metrics need, see `once`.
    """

    margins: Int64[np.ndarray, "3 k"]
    read: Callable[[], Example]
    predict: Callable[[np.ndarray], Predicted]
    memo: dict[Hashable, Any] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def num_classes(self) -> int:
        """Return how many classes there are."""
        return self.margins.shape[1]

    @functools.cached_property
    def example(self) -> Example:
        """Return the example as its source has it."""
        return self.read()

    @functools.cached_property
    def label(self) -> UInt8[np.ndarray, "*space"]:
        """Return the example's label, all of it where it is read a part at a time."""
        return np.asarray(self.example["label"])

    @functools.cached_property
    def predicted(self) -> Predicted:
        """Return the prediction of the example's image."""
        return self.predict(self.example["image"])

    @functools.cached_property
    def valid(self) -> Bool[np.ndarray, "*space"]:
        """Return which pixels are not void and have a class."""
        return (self.label != IGNORE_LABEL) & (self.label < self.num_classes)

    @functools.cached_property
    def classes(self) -> UInt8[np.ndarray, "*space"]:
        """Return the predicted class of every pixel of the label."""
        found = np.asarray(self.predicted[0])
        self._check_shape(found.shape)
        return found

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise `DataError` unless a prediction is on the label's grid."""
        own = self.label.shape
        if shape != own:
            raise DataError(
                f"{self.example['name']}: a prediction of {shape} for a label of {own}, expected "
                "one grid. Use labels of the size of their images."
            )

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` makes, made once for all metrics that ask with this key."""
        if key not in self.memo:
            self.memo[key] = make()
        return self.memo[key]

    def regions(self, number: int) -> tuple[Bool[np.ndarray, "*s"], Bool[np.ndarray, "*s"]]:
        """Return where a class is in the label and in the prediction; void is in neither."""
        pred = self.classes
        return self.valid & (self.label == number), self.valid & (pred == number)

    def spacing(self, own: Spacing = ()) -> tuple[float, ...]:
        """Return the distance of neighbouring pixels along each axis.

        Args:
            own: What the metric was given, which counts first; else the example's field 'spacing'
                counts, else it is 1 along all axes.

        Raises:
            DataError: It has another number of axes, or is not above 0.
        """
        example: Mapping[str, Any] = self.example
        found = own or example.get("spacing", ())
        axes = self.label.ndim
        spacing = tuple(float(step) for step in np.ravel(np.asarray(found, np.float64)))
        if not spacing:
            return (1.0,) * axes
        if len(spacing) != axes or not all(0 < step < np.inf for step in spacing):
            raise DataError(
                f"{self.example['name']}: spacing {spacing} for a label of {axes} axes, expected "
                f"{axes} numbers above 0. Mend the example's, or set the metric's 'spacing'."
            )
        return spacing

    def probabilities(self) -> tuple[Float[np.ndarray, "n k"], Integer[np.ndarray, " n"]]:
        """Return the probabilities and the true class of every pixel that is not void."""

        def make() -> tuple[np.ndarray, np.ndarray]:
            found = np.asarray(self.predicted[1](), np.float32)
            self._check_shape(found.shape[:-1])
            found = found[self.valid]
            if not np.isfinite(found).all():
                raise NonFiniteError(
                    f"{self.example['name']}: a probability is NaN or infinite, expected numbers "
                    "from 0 to 1. Score a checkpoint from before its loss became so."
                )
            return found, self.label[self.valid].astype(np.int64)

        return self.once("probabilities", make)

    def levels(self) -> Int64[np.ndarray, "k 2 levels"]:
        """Count pixels by class, by whether they are of it (1), by its quantised probability."""

        def make() -> np.ndarray:
            probs, label = self.probabilities()
            found = np.empty((self.num_classes, 2, LEVELS + 1), np.int64)
            for number in range(self.num_classes):
                place = quantised(probs[:, number]) + (LEVELS + 1) * (label == number)
                found[number] = np.bincount(place, minlength=2 * (LEVELS + 1)).reshape(2, -1)
            return found

        return self.once("levels", make)


def quantised(probs: Float[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Return probabilities as whole multiples of 1 / `LEVELS`, rounded."""
    return np.rint(np.clip(probs, 0, 1).astype(np.float64) * LEVELS).astype(np.int64)


class Summary(NamedTuple):
    """What a metric says of a split.

    Attributes:
        value: Its one number; None where it has none.
        detail: What else there is to say, ready for JSON.
        notes: What must be said, a line each.
        figures: Draw one picture each, by the end of its name.
    """

    value: float | None
    detail: Mapping[str, Any]
    notes: Sequence[str] = ()
    figures: Mapping[str, Draw] = {}


@runtime_checkable
class Metric(Protocol):
    """A metric of a split.

    Attributes:
        added: Statistics are NumPy arrays to be added up, so that only their sum is kept.
    """

    added: bool

    def __call__(self, seen: Seen, /) -> Any:
        """Return the statistics of one example."""
        ...

    def summarize(self, found: Sequence[Any], /, *, class_names: Sequence[str]) -> Summary:
        """Return the score of a split of its examples' statistics, in their order; or their sum."""
        ...


class Added:
    """What metrics share whose statistics are integers that are added up."""

    added = True


class PerExample:
    """What metrics share that have a value for each example and class.

    The value of a class is the mean over the examples where it is defined and finite; the metric's
    is the mean over the classes that have one. NaN stands for undefined.
    """

    added = False

    def values(self, found: Any) -> Float[np.ndarray, " k"]:
        """Return the value of each class from an example's statistics."""
        return found

    def summarize(self, found: Sequence[Any], *, class_names: Sequence[str]) -> Summary:
        """Return the means, how many values they are of, and how many were infinite."""
        values = self.table(found, len(class_names))
        value, per_class = class_means(values)
        finite, infinite = np.isfinite(values), np.isinf(values)
        detail = {
            "value": number(value),
            "mean_over_examples": number(_mean(_rows(values))),
            "per_class": {n: number(x) for n, x in zip(class_names, per_class, strict=True)},
            "examples": dict(zip(class_names, finite.sum(axis=0).tolist(), strict=True)),
            "infinite": dict(zip(class_names, infinite.sum(axis=0).tolist(), strict=True)),
        }
        notes = []
        if count := int(infinite.sum()):
            notes.append(
                f"{count} of {count + int(finite.sum())} pairs of example and class have truth or "
                "prediction alone: infinite, and in no mean"
            )
        return Summary(number(value), detail, notes)

    def table(self, found: Sequence[Any], num_classes: int) -> Float[np.ndarray, "n k"]:
        """Return the values of all examples."""
        rows = [self.values(statistics) for statistics in found]
        return np.array(rows, np.float64).reshape(-1, num_classes)


def class_means(
    values: Float[np.ndarray, "n k"], weights: np.ndarray | None = None
) -> tuple[float, Float[np.ndarray, " k"]]:
    """Return the mean over classes of their means over examples, and those; NaN of nothing.

    Args:
        values: NaN and infinite ones are in no mean.
        weights: How often each example counts; None: once.
    """
    finite = np.isfinite(values)
    counted = finite if weights is None else finite * weights[:, None]
    total = (np.where(finite, values, 0) * counted).sum(axis=0)
    number = counted.sum(axis=0)
    per_class = np.where(number > 0, total / np.maximum(number, 1), np.nan)
    return _mean(per_class), per_class


def _mean(values: np.ndarray) -> float:
    """Return the mean of what is finite; NaN of nothing."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def _rows(values: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """Return the mean of each example over the classes that have a value there."""
    return np.array([_mean(row) for row in values], np.float64)


class Said(NamedTuple):
    """What a score of objects or segments says of a split.

    Attributes:
        whole: Of all classes, for the JSON.
        per_class: Of each class, likewise.
    """

    whole: Mapping[str, Any]
    per_class: Sequence[Mapping[str, Any]]


def nan_of(value: float | None) -> float:
    """Return a number, NaN for None."""
    return math.nan if value is None else value


def number(value: float) -> float | None:
    """Return a number as JSON can hold it: None where it is undefined or infinite."""
    return float(value) if np.isfinite(value) else None


def foreground(num_classes: int, background: bool) -> range:
    """Return the classes that count: all, or all but the first where there are several."""
    return range(0 if background or num_classes == 1 else 1, num_classes)
