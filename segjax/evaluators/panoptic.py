"""Score whole images in segments: panoptic quality, and the semantic scores of the same maps."""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int64

from segjax.data import resample
from segjax.errors import DataError
from segjax.evaluators import base, chosen
from segjax.inference import preview
from segjax.inference.predictor import Detection, ObjectPredictor, Segments
from segjax.metrics import panoptic, segments
from segjax.metrics.base import nan_of
from segjax.metrics.intervals import Score
from segjax.structs import IGNORE_LABEL
from segjax.views import figures, object_figures
from segjax.views import segments as drawing

GROUPS = ("", "_things", "_stuff")


class Row(NamedTuple):
    """What is kept of one example.

    Attributes:
        quality: The sum of IoUs, TP, FP and FN of each class, see `panoptic.sums`.
        kept: By each metric, by what it is called.
        segments: True ones, crowds and found ones of each class.
    """

    quality: Float[np.ndarray, "k 4"]
    kept: dict[str, Any]
    segments: Int64[np.ndarray, "k 3"]


class Evaluator(base.Evaluator[Row]):
    """Compare the segments that a predictor finds with the truth of every example exactly once.

    The truth is the objects of the things and, in the label, one segment for each class of stuff;
    what is of neither is void. Means of PQ, SQ and RQ are over the classes that occur, those of
    things and of stuff besides. The semantic scores are those of the found segments' classes; a
    pixel of no segment is missed, and wrong in no class's stead. What there is to choose is in
    `metrics.segments`.

    The PQ of one image, by which the best and the worst are chosen and which `image_PQ` is, is that
    of a split of this image alone.
    """

    headline = ("PQ", "Panoptic quality")

    sort = chosen.SEGMENTS

    def logged(self) -> list[str]:
        """Return the names of what it logs, without its own and the loss."""
        own = [f"{name}{group}" for group in GROUPS for name in panoptic.NAMES]
        own += [name for metric in self.chosen.values() for name in metric.names]
        return [*own, *(f"{name}/{end}" for name in self._of_class() for end in self.log_names)]

    def _of_class(self) -> list[str]:
        """Return what is logged of each class."""
        own = [name for metric in self.chosen.values() for name in metric.of_class]
        return ["PQ", *own] if "per_class" in self.chosen else []

    def row(self, place: int, found: Detection) -> Row:
        """Return what is kept of one example.

        Raises:
            DataError: The found segments are on another grid than the label.
        """
        label, truth, crowd = self.truth(place)
        own = segments_of(found, name=f"{self.split} example {place}", size=label.shape)
        names = len(self.classes.class_names)
        quality = panoptic.sums(
            truth.numbers, truth.classes, crowd, own.numbers, own.classes, num_classes=names
        )
        maps = segments.Maps(label, class_map(own, none=names), names)
        kept = {name: metric(maps) for name, metric in self.chosen.items()}
        seen = np.bincount(truth.numbers.ravel(), minlength=len(crowd) + 1)[1:] > 0
        used = np.bincount(own.numbers.ravel(), minlength=len(own.classes) + 1)[1:] > 0
        parts = truth.classes[seen & ~crowd], truth.classes[seen & crowd], own.classes[used]
        totals = np.stack([np.bincount(each, minlength=names) for each in parts], axis=1)
        return Row(quality, kept, totals)

    def truth(self, place: int) -> tuple[np.ndarray, Segments, np.ndarray]:
        """Return an example's label, its true segments, and which of those are crowds."""
        label = np.asarray(self.source[place]["label"])
        known = self.known.objects(place)
        stuff = [k for k in range(len(self.classes.class_names)) if k not in self.things]
        numbers, classes = panoptic.segments_of(label, known.masks, known.classes.tolist(), stuff)
        crowd = np.zeros(len(classes), bool)
        crowd[: len(known.crowd)] = known.crowd
        return label, Segments(numbers, classes), crowd

    def summarize(self, rows: Sequence[Row]) -> base.Found:
        """Return the scores of a split, see `panoptic.means` and `metrics.segments`."""
        names, k = self.classes.class_names, len(self.classes.class_names)
        quality = np.sum([row.quality for row in rows], axis=0).reshape(k, 4)
        totals = np.sum([row.segments for row in rows], axis=0).reshape(k, 3)
        said = [
            metric.summarize([row.kept[name] for row in rows], class_names=names)
            for name, metric in self.chosen.items()
        ]
        absent = [name for name, own in zip(names, totals, strict=True) if not own.any()]
        result: dict[str, Any] = {"absent_classes": absent}
        for each in said:
            result |= each.whole
        for group, own in self._groups().items():
            means = panoptic.means(quality[[*own]])
            result |= {f"{name}{group}": value for name, value in means.items()}
        parts = ("truth", "crowds", "found")
        result["segments"] = dict(zip(parts, totals.sum(axis=0).tolist(), strict=True))
        scalars = {name: result[name] for name in self.logged() if "/" not in name}
        if "per_class" in self.chosen:
            result["per_class"] = {}
            for i, (name, end) in enumerate(zip(names, self.log_names, strict=True)):
                found = {key: value for each in said for key, value in each.per_class[i].items()}
                found |= panoptic.scores(quality[i])
                found["segments"] = dict(zip(parts, totals[i].tolist(), strict=True))
                result["per_class"][name] = found
                scalars |= {f"{score}/{end}": found[score] for score in self._of_class()}
        else:
            result.pop("confusion_matrix", None)
        shown = {"PQ": result["PQ"], "things": result["PQ_things"], "stuff": result["PQ_stuff"]}
        shown |= {"mIoU": result["miou"]} if "semantic" in self.chosen else {}
        scores = np.array([nan_of(panoptic.means(row.quality)["PQ"]) for row in rows])
        return base.Found(result, scalars, shown, scores, self._figures())

    def _groups(self) -> dict[str, list[int]]:
        """Return the classes of each group: all, things, stuff."""
        every = range(len(self.classes.class_names))
        stuff = [i for i in every if i not in self.things]
        return dict(zip(GROUPS, ([*every], [*self.things], stuff), strict=True))

    def _figures(self) -> dict[str, Callable[[pathlib.Path, Mapping[str, Any]], None]]:
        if "per_class" not in self.chosen:
            return {}
        maps = {"class_iou": figures.class_iou, "confusion_matrix": figures.confusion_matrix}
        return {"class_pq": object_figures.class_pq, **(maps if "semantic" in self.chosen else {})}

    def resampled(self, rows: Sequence[Row]) -> tuple[dict[str, Score], dict[str, np.ndarray]]:
        """Return the scores as functions of weights, and the PQ of each example and class."""
        k = len(self.classes.class_names)
        quality = np.stack([row.quality for row in rows])

        def pq(weights: np.ndarray, *, of: Sequence[int]) -> float:
            total = np.tensordot(weights.astype(np.float64), quality[:, [*of]], 1)
            return nan_of(panoptic.means(total)["PQ"])

        found: dict[str, Score] = {
            f"PQ{group}": functools.partial(pq, of=own) for group, own in self._groups().items()
        }
        for name, metric in self.chosen.items():
            found |= metric.resampled([row.kept[name] for row in rows], num_classes=k)
        values = [[panoptic.scores(own)["PQ"] for own in each] for each in quality]
        return found, {"image_PQ": np.array(values, np.float64).reshape(-1, k)}

    def examples(
        self,
        predictor: ObjectPredictor,
        picks: Sequence[tuple[str, int]],
        scores: Float[np.ndarray, " n"],
    ) -> Callable[[pathlib.Path], None]:
        """Return what draws some examples, predicted once more."""
        rows: list[drawing.Row] = []
        for title, place in picks:
            example: Mapping[str, Any] = resample.with_spacing(self.source[place])
            label, truth, _ = self.truth(place)
            found = segments_of(predictor(example["image"]), name=example["name"], size=label.shape)
            dims, step = label.ndim, preview.step_of(label.shape)
            maps = (
                preview.thinned(one, step, dims=dims)
                for one in (
                    truth.numbers, class_map(truth, none=IGNORE_LABEL),
                    found.numbers, class_map(found, none=IGNORE_LABEL),
                )
            )  # fmt: skip
            rows.append(
                drawing.Row(
                    title,
                    example["name"],
                    preview.thinned(example["image"], step, dims=dims),
                    drawing.Map(*(next(maps) for _ in range(2))),
                    drawing.Map(*(next(maps) for _ in range(2))),
                    base.scored("PQ", float(scores[place])),
                )
            )
        return functools.partial(
            drawing.draw,
            rows=rows,
            palette=self.classes.palette,
            class_names=self.classes.class_names,
        )


def segments_of(found: Detection, *, name: str, size: tuple[int, ...]) -> Segments:
    """Return what was found as segments on a label's grid.

    Raises:
        DataError: There are none, or on another grid.
    """
    own = found.segments
    if own is None or own.numbers.shape != size:
        there = "objects alone" if own is None else f"segments of {own.numbers.shape}"
        raise DataError(
            f"{name}: {there} for a label of {size}, expected segments on its grid. Use a panoptic "
            "task and labels of the size of their images."
        )
    return own


def class_map(own: Segments, *, none: int) -> np.ndarray:
    """Return the class of every pixel's segment, `none` where it is of none."""
    return np.concatenate([[none], own.classes]).astype(np.int32)[own.numbers]
