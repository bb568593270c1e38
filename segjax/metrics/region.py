"""How large the regions of classes are, and which sizes are found."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float, Int64
from scipy import ndimage

from segjax.config import rules
from segjax.metrics import base
from segjax.metrics.base import Summary, number


@dataclasses.dataclass(frozen=True, kw_only=True)
class Volume(base.PerExample):
    """The error of each class's size, relative to its true one: `|predicted - true| / true`.

    Sizes (length, area or volume) and their signed error are listed beside it. What an example
    lacks in the label has no relative error there.

    Attributes:
        spacing: The distance of neighbouring pixels along each axis; empty: the example's field
            'spacing', else 1.
        background: The first class has a value too.
    """

    spacing: base.Spacing = ()
    background: bool = False

    def __call__(self, seen: base.Seen) -> Float[np.ndarray, "2 k"]:
        """Return the true and the predicted size of each class; NaN of those that do not count."""
        sizes = np.full((2, seen.num_classes), np.nan)
        counted = base.foreground(seen.num_classes, self.background)
        sizes[:, counted] = seen.margins[1:, counted] * np.prod(seen.spacing(self.spacing))
        return sizes

    def values(self, found: Float[np.ndarray, "2 k"]) -> Float[np.ndarray, " k"]:
        """Return the relative error of each class."""
        return np.abs(_signed(found))

    def summarize(
        self, found: Sequence[Float[np.ndarray, "2 k"]], *, class_names: Sequence[str]
    ) -> Summary:
        """Return the mean error, the signed ones, and all sizes by example."""
        summary = super().summarize(found, class_names=class_names)
        sizes = np.stack(found)
        _, signed = base.class_means(np.stack([_signed(each) for each in found]))
        more: dict[str, Any] = {
            "signed": {n: number(x) for n, x in zip(class_names, signed, strict=True)}
        }
        for row, name in enumerate(("true", "predicted")):
            more[name] = {
                own: list(map(number, sizes[:, row, i]))
                for i, own in enumerate(class_names)
                if not np.isnan(sizes[:, row, i]).all()
            }
        return summary._replace(detail={**summary.detail, **more})


def _signed(sizes: Float[np.ndarray, "2 k"]) -> Float[np.ndarray, " k"]:
    true, pred = sizes
    return np.where(true > 0, (pred - true) / np.where(true > 0, true, 1), np.nan)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SizeRecall(base.Added):
    """The share of the label's objects that are found, by their size.

    An object is a connected region of one class, pixels joined at their sides, void left out; it
    is found where at least a share of its pixels is predicted as its class. The value is the mean
    over the ranges of size that occur, all classes together.

    Attributes:
        bounds: Sizes in pixels between the ranges; the default is COCO's.
        share: Of an object's pixels, from which on it is found.
        background: The first class has objects too.
    """

    bounds: Annotated[Sequence[Annotated[int, rules.whole(1)]], rules.length(1, 16)] = (1024, 9216)
    share: Annotated[float | int, rules.number(0, 1, open_ends="low")] = 0.5
    background: bool = False

    def __call__(self, seen: base.Seen) -> Int64[np.ndarray, "k ranges 4"]:
        """Count objects, those found, their pixels, and pixels found, by class and size."""
        bounds = sorted(set(self.bounds))
        counts = np.zeros((seen.num_classes, len(bounds) + 1, 4), np.int64)
        for own in base.foreground(seen.num_classes, self.background):
            if seen.margins[1, own]:
                truth, pred = seen.regions(own)
                labelled: Any = ndimage.label(truth)
                objects, total = labelled
                size = np.bincount(objects[truth], minlength=total + 1)[1:]
                hit = np.bincount(objects[truth & pred], minlength=total + 1)[1:]
                columns = np.stack([np.ones_like(size), hit >= self.share * size, size, hit], 1)
                np.add.at(counts[own], np.searchsorted(bounds, size, side="right"), columns)
        return counts

    def summarize(self, found: Sequence[np.ndarray], *, class_names: Sequence[str]) -> Summary:
        """Return the recall of each range of sizes, of all classes and of each."""
        counts = np.sum(np.stack(found), axis=0)
        edges = [1, *sorted(set(self.bounds))]
        names = [f"{a}-{b - 1}" for a, b in itertools.pairwise(edges)] + [f"{edges[-1]}-"]
        names = names if edges[1] > 1 else ["0", *names[1:]]
        everything = self._recall(counts.sum(axis=0), names)
        recalls = [each["recall"] for each in everything.values() if each["recall"] is not None]
        value = float(np.mean(recalls)) if recalls else None
        per_class = {
            name: self._recall(own, names)
            for name, own in zip(class_names, counts, strict=True)
            if own.any()
        }
        return Summary(value, {"value": value, "sizes": everything, "per_class": per_class})

    def _recall(self, counts: Int64[np.ndarray, "ranges 4"], names: Sequence[str]) -> dict:
        return {
            name: {
                "recall": found / objects if objects else None,
                "pixel_recall": hit / pixels if pixels else None,
                "objects": objects,
            }
            for name, (objects, found, pixels, hit) in zip(names, counts.tolist(), strict=True)
        }
