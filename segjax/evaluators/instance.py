"""Score objects over a whole split: COCO's average precision, and objects matched one to one."""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int64

from segjax.data import resample
from segjax.evaluators import base
from segjax.inference import preview
from segjax.inference.predictor import Detection, ObjectPredictor
from segjax.metrics import aji, coco, matching, overlap, panoptic
from segjax.metrics.base import number
from segjax.metrics.intervals import Score
from segjax.views import instances, object_figures

LOGGED = (
    *coco.NAMES, "box_AP", "box_AP50", "box_AP75", "boundary_AP", "aji", "aji_plus",
    "PQ", "SQ", "RQ", *(f"ap_at/{least:g}" for least in matching.THRESHOLDS),
)  # fmt: skip
"""What is logged of the result, beside the AP of each class."""
SURE = ("AP", "box_AP", "boundary_AP", "PQ", "ap_at/0.5")
"""Scores of the whole split that get intervals; those of single examples do too."""


class Own(NamedTuple):
    """What is kept of one class in one example.

    Attributes:
        matches: Of its objects, by kind of IoU: '' of masks, 'box_', 'boundary_'.
        counts: See `matching.counts`.
        quality: The sum of IoUs, TP, FP and FN of PQ.
        pixels: Of AJI and of AJI+.
        objects: How many there are: true, crowds, found, and of these beyond the best hundred.
    """

    matches: dict[str, coco.Matches]
    counts: Int64[np.ndarray, "t 3"]
    quality: Float[np.ndarray, " 4"]
    pixels: Int64[np.ndarray, "2 2"]
    objects: Int64[np.ndarray, " 4"]


class Row(NamedTuple):
    """What is kept of one example.

    Attributes:
        classes: By number; of those that are in its truth or found.
        precision: The AP of each thing in it, see `coco.image_values`.
    """

    classes: dict[int, Own]
    precision: Float[np.ndarray, " k"]

    def index(self, which: int) -> float:
        """Return its AJI (0) or AJI+ (1)."""
        return aji.value(own.pixels[which] for own in self.classes.values())


class Evaluator(base.Evaluator[Row]):
    """Compare the objects that a predictor finds with those of every example exactly once.

    The headline is COCO's AP of masks. That and all that is named like it ('AP50', 'ARs', …; of
    boxes 'box_AP', …; of borders 'boundary_AP', …) sees all objects by their scores. AP at an IoU
    (`ap_at`), AJI and PQ see the objects of at least `least_score`.

    The AP of one image, by which the best and the worst are chosen and which `image_AP` is, is that
    of a split of this image alone: the mean over the classes that have a value there, see
    `coco.image_values`.
    """

    headline = ("AP", "Mask AP")

    def logged(self) -> list[str]:
        """Return the names of what it logs, without its own and the loss."""
        return [*LOGGED, *(f"AP/{self.log_names[k]}" for k in self.things)]

    def row(self, place: int, found: Detection) -> Row:
        """Return what is kept of one example."""
        truth = self.known.objects(place)
        compared = overlap.compare(truth, found.objects, found.size)
        matches = coco.match_all(compared)
        classes = {k: self._own(compared, k, matches) for k in matches[""] if k in self.things}
        precision = coco.image_values(matches[""], self.things, least_score=self.least_score)
        return Row(classes, precision)

    def _own(
        self, compared: overlap.Compared, k: int, matches: Mapping[str, Mapping[int, coco.Matches]]
    ) -> Own:
        table = matching.table_of(compared, k, least_score=self.least_score)
        true, found = compared.truth.classes == k, int((compared.found.classes == k).sum())
        crowds = int(compared.truth.crowd[true].sum())
        best = len(matches[""][k].scores)
        iou, counts = matching.quality(table)
        return Own(
            {kind: own[k] for kind, own in matches.items()},
            matching.counts(table),
            np.array([iou, *counts.tolist()]),
            np.stack([aji.aji(table), aji.aji_plus(table)]),
            np.array([int(true.sum()) - crowds, crowds, found, found - best], np.int64),
        )

    def summarize(self, rows: Sequence[Row]) -> base.Found:
        """Return the scores of a split, see the classes and functions of `metrics` they are of."""
        names = [self.classes.class_names[k] for k in self.things]
        ranked = {kind: self._ranked(rows, kind) for kind in ("", "box_", "boundary_")}
        per_kind = {kind: [coco.scores(each) for each in own] for kind, own in ranked.items()}
        counts, quality = self._sums(rows, "counts"), self._sums(rows, "quality")
        every = self._sums(rows, "objects")
        result: dict[str, Any] = {}
        for kind, own in per_kind.items():
            result |= {f"{kind}{name}": value for name, value in coco.means(own).items()}
        result["ap_at"] = matching.ap_at(counts.sum(axis=0))
        for which, name in enumerate(("aji", "aji_plus")):
            values = np.array([row.index(which) for row in rows])
            result[name] = number(base.mean_of(values))
        result |= panoptic.means(quality)
        result["least_score"] = self.least_score
        result["objects"] = _counted(every.sum(axis=0))
        result["per_class"] = {
            name: {f"{kind}{key}": v for kind, own in per_kind.items() for key, v in own[i].items()}
            | {"ap_at": matching.ap_at(counts[i]), **panoptic.scores(quality[i])}
            | {"objects": _counted(every[i])}
            for i, name in enumerate(names)
        }
        result["absent_classes"] = [
            name for name, own in zip(names, every, strict=True) if not own.any()
        ]
        scalars = {name: _value(result, name) for name in LOGGED}
        scalars |= {
            f"AP/{self.log_names[k]}": own["AP"]
            for k, own in zip(self.things, per_kind[""], strict=True)
        }
        shown = {"mask AP": result["AP"], "AP50": result["AP50"], "box AP": result["box_AP"]}
        scores = np.array([base.mean_of(row.precision) for row in rows])
        return base.Found(result, scalars, shown, scores, self._figures(names, ranked[""]))

    def _ranked(self, rows: Sequence[Row], kind: str) -> list[coco.Ranked]:
        """Return the matches of each thing in all examples."""
        return [
            coco.rank([own.matches[kind] if (own := row.classes.get(k)) else None for row in rows])
            for k in self.things
        ]

    def _sums(self, rows: Sequence[Row], name: str) -> np.ndarray:
        """Return an attribute of `Own`, summed over examples, of each thing, in their order."""
        empty = {"counts": np.zeros((len(matching.THRESHOLDS), 3), np.int64)}
        start = empty.get(name, np.zeros(4, np.float64 if name == "quality" else np.int64))
        return np.stack([
            sum((getattr(row.classes[k], name) for row in rows if k in row.classes), start)
            for k in self.things
        ])  # fmt: skip

    def resampled(self, rows: Sequence[Row]) -> tuple[dict[str, Score], dict[str, np.ndarray]]:
        """Return the scores of `SURE` as functions of weights, and AP and AJI of each example."""
        found: dict[str, Score] = {}
        for kind in ("", "box_", "boundary_"):
            ranked = self._ranked(rows, kind)
            found[f"{kind}AP"] = functools.partial(_precision, ranked)
        start = np.zeros((len(self.things), 4))
        quality = np.stack([self._sums([row], "quality") for row in rows]) if rows else start[None]
        counts = np.stack([self._sums([row], "counts")[:, 0].sum(axis=0) for row in rows])

        def pq(weights: np.ndarray) -> float:
            total = np.tensordot(weights.astype(np.float64), quality, 1)
            own = [panoptic.scores(each)["PQ"] for each in total]
            return base.nan_of(coco.mean(own))

        def ap_at(weights: np.ndarray) -> float:
            right, wrong, missed = weights @ counts
            every = right + wrong + missed
            return float(right / every) if every else float("nan")

        found |= {"PQ": pq, "ap_at/0.5": ap_at}
        values = {"image_AP": np.stack([row.precision for row in rows])}
        for which, name in enumerate(("aji", "aji_plus")):
            values[name] = np.array([[row.index(which)] for row in rows])
        return found, values

    def _figures(
        self, names: Sequence[str], ranked: Sequence[coco.Ranked]
    ) -> dict[str, Callable[[pathlib.Path, Mapping[str, Any]], None]]:
        curves = {name: coco.curves(each) for name, each in zip(names, ranked, strict=True)}
        lines = {name: each.precision for name, each in curves.items() if each is not None}
        return {
            "class_ap": lambda path, result: object_figures.class_ap(path, result),
            "class_pq": lambda path, result: object_figures.class_pq(path, result),
            "precision_recall": lambda path, result: object_figures.precision_recall(
                path, lines, recalls=coco.RECALLS, ious=coco.IOUS, result=result
            ),
        }

    def examples(
        self,
        predictor: ObjectPredictor,
        picks: Sequence[tuple[str, int]],
        scores: Float[np.ndarray, " n"],
    ) -> Callable[[pathlib.Path], None]:
        """Return what draws some examples, predicted once more."""
        rows: list[instances.Row] = []
        for title, place in picks:
            example = resample.with_spacing(self.source[place])
            found = predictor(example["image"])
            score = base.scored("AP", float(scores[place]))
            rows.append(self.row_of(place, example, found, title=title, score=score))
        return functools.partial(instances.draw, rows=rows)

    def row_of(
        self, place: int, example: Any, found: Detection, *, title: str = "", score: str = ""
    ) -> instances.Row:
        """Return what a figure shows of an example: its objects and those found that are sure."""
        truth, step = self.known.objects(place), preview.step_of(found.size)
        kept = overlap.take(found.objects, found.objects.scores >= self.least_score)
        pairs, excused = pairs_of(overlap.compare(truth, kept, found.size))
        return instances.Row(
            title=title,
            name=str(example["name"]),
            image=preview.thinned(example["image"], step, dims=len(found.size)),
            truth=base.thinned(truth.masks, step),
            crowd=truth.crowd.tolist(),
            found=base.thinned(kept.masks, step),
            pairs=pairs,
            excused=excused,
            score=score,
            column=f"found, score ≥ {self.least_score:g}",
        )


def pairs_of(compared: overlap.Compared) -> tuple[list[tuple[int, int]], list[int]]:
    """Return true and found objects that match at an IoU of 0.5, and who is excused otherwise."""
    truth, found = compared.truth, compared.found
    pairs: list[tuple[int, int]] = []
    excused: set[int] = set()
    for k in np.union1d(truth.classes, found.classes).tolist():
        true = np.flatnonzero((truth.classes == k) & ~truth.crowd)
        own = np.flatnonzero(found.classes == k)
        table = matching.table_of(compared, k, least_score=0.0)
        matched = matching.match(table.ious, table.ious >= 0.5)
        pairs += [(int(true[i]), int(own[j])) for j, i in matched.tolist()]
        excused |= set(own[table.excused].tolist())
    return pairs, sorted(excused - {j for _, j in pairs})


def _precision(ranked: Sequence[coco.Ranked], weights: np.ndarray) -> float:
    """Return the AP of a split whose examples count so often."""
    return base.nan_of(coco.mean([coco.average_precision(each, weights) for each in ranked]))


def _counted(numbers: Int64[np.ndarray, " 4"]) -> dict[str, int]:
    return dict(zip(("truth", "crowds", "found", "left_out"), numbers.tolist(), strict=True))


def _value(result: Mapping[str, Any], name: str) -> float | None:
    """Return a number of the result; of `ap_at/0.5` that under `ap_at`."""
    outer, _, inner = name.partition("/")
    return result[outer][inner] if inner else result[outer]
