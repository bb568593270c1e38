"""What an evaluation of segments says of a split beside panoptic quality, each chosen by name.

A score keeps something of each example, and makes its numbers of what was kept of all of them.
"""

import abc
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Int64, Integer

from segjax.metrics import confusion, intervals
from segjax.metrics.base import Said
from segjax.metrics.intervals import Score
from segjax.structs import IGNORE_LABEL

MEANS = ("miou", "dice", "pixel_accuracy", "mean_accuracy", "precision", "recall", "f1")


@dataclasses.dataclass(frozen=True)
class Maps:
    """One example's label, and the class of the segment that was found at each of its pixels.

    Attributes:
        label: The class of every pixel; 255 is void.
        pred: The class of its found segment; `num_classes`: it is in none.
        num_classes: K.
    """

    label: Integer[np.ndarray, "*space"]
    pred: Integer[np.ndarray, "*space"]
    num_classes: int


class OfSegments(abc.ABC):
    """A score of the segments of a split.

    Attributes:
        called: Its name, in a config too.
    """

    called: ClassVar[str]

    @property
    @abc.abstractmethod
    def names(self) -> tuple[str, ...]:
        """Return what is logged of its numbers of the split."""

    @property
    def of_class(self) -> tuple[str, ...]:
        """Return what is logged of those of each class."""
        return ()

    @abc.abstractmethod
    def __call__(self, maps: Maps) -> Any:
        """Return what is kept of one example, which can be pickled."""

    @abc.abstractmethod
    def summarize(self, found: Sequence[Any], *, class_names: Sequence[str]) -> Said:
        """Return the numbers of a split of what was kept of its examples, in their order."""

    def resampled(self, found: Sequence[Any], *, num_classes: int) -> dict[str, Score]:
        """Return the scores that get intervals."""
        return {}


class Counts(NamedTuple):
    """A confusion matrix [k k + 1] of one example; its last column is of pixels in no segment.

    Attributes:
        cells: Where it is not 0, flat.
        counts: What it is there.
    """

    cells: Int64[np.ndarray, " c"]
    counts: Int64[np.ndarray, " c"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Semantic(OfSegments):
    """The scores of the class map that the segments are, see `confusion.summarize`."""

    called = "semantic"

    @property
    def names(self) -> tuple[str, ...]:
        """Return what is logged."""
        return MEANS

    @property
    def of_class(self) -> tuple[str, ...]:
        """Return what is logged of each class."""
        return ("iou",)

    def __call__(self, maps: Maps) -> Counts:
        """Count pixels by their class and that of their segment; void is not counted."""
        k = maps.num_classes
        valid = (maps.label != IGNORE_LABEL) & (maps.label < k)
        flat = maps.label[valid].astype(np.int64) * (k + 1) + maps.pred[valid]
        counts = np.bincount(flat, minlength=k * (k + 1))
        cells = np.flatnonzero(counts)
        return Counts(cells, counts[cells])

    def summarize(self, found: Sequence[Counts], *, class_names: Sequence[str]) -> Said:
        """Return the semantic scores, and how many pixels are in no segment."""
        k = len(class_names)
        matrices = functools.partial(_matrix, k=k)
        total = sum(map(matrices, found), np.zeros((k, k + 1), np.int64))
        whole = confusion.summarize(
            total[:, :k], class_names=class_names, unanswered=total[:, k]
        ) | confusion.image_means(self._margins(found, k))
        per_class = whole.pop("per_class")
        whole["num_pixels"] = int(total.sum())
        whole["unanswered_pixels"] = int(total[:, k].sum())
        return Said(whole, [per_class[name] for name in class_names])

    def resampled(self, found: Sequence[Counts], *, num_classes: int) -> dict[str, Score]:
        """Return the mean IoU."""
        miou = intervals.scores_of_margins()["miou"]
        return {"miou": intervals.of_margins(self._margins(found, num_classes), score=miou)}

    def _margins(self, found: Sequence[Counts], k: int) -> Int64[np.ndarray, "3 n k"]:
        """Return the pixels of each class that are found, in the label, and predicted as it."""
        rows = [np.zeros((0, 3, k), np.int64)]
        for each in found:
            matrix = _matrix(each, k=k)
            hit, pred = np.diagonal(matrix), matrix.sum(axis=0)[:k]
            rows.append(np.stack([hit, matrix.sum(axis=1), pred])[None])
        return np.concatenate(rows).swapaxes(0, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerClass(OfSegments):
    """Say all that is chosen of each class too: `per_class`, the confusion matrix, log and bars."""

    called = "per_class"

    @property
    def names(self) -> tuple[str, ...]:
        """Return what is logged of the split: nothing."""
        return ()

    def __call__(self, maps: Maps) -> None:
        """Keep nothing: every score is made of those of classes."""

    def summarize(self, found: Sequence[Any], *, class_names: Sequence[str]) -> Said:
        """Say nothing of its own."""
        return Said({}, [{} for _ in class_names])


EVERY = ("semantic", "per_class")
"""What is said of segments where nothing is chosen."""


def _matrix(found: Counts, *, k: int) -> Int64[np.ndarray, "k w"]:
    matrix = np.zeros(k * (k + 1), np.int64)
    matrix[found.cells] = found.counts
    return matrix.reshape(k, k + 1)
