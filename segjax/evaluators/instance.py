"""Score objects over a whole split: COCO's average precision, and objects matched one to one."""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float, Int64

from segjax.data import resample
from segjax.evaluators import base, chosen
from segjax.inference import preview
from segjax.inference.predictor import Detection, ObjectPredictor
from segjax.metrics import coco, matching, objects, overlap
from segjax.metrics.intervals import Score
from segjax.views import instances, object_figures


class Own(NamedTuple):
    """What is kept of one class in one example.

    Attributes:
        kept: By each metric, by what it is called.
        objects: How many there are: true, crowds, found, and of these beyond the best hundred.
    """

    kept: dict[str, Any]
    objects: Int64[np.ndarray, " 4"]

    @property
    def matches(self) -> coco.Matches:
        """Return the matches of masks."""
        return self.kept["AP"]


class Row(NamedTuple):
    """What is kept of one example.

    Attributes:
        classes: By number; of those that are in its truth or found.
        precision: The AP of each thing in it, see `coco.image_values`.
    """

    classes: dict[int, Own]
    precision: Float[np.ndarray, " k"]


class Evaluator(base.Evaluator[Row]):
    """Compare the objects that a predictor finds with those of every example exactly once.

    The headline is COCO's AP of masks. That and all that is named like it ('AP50', 'ARs', …; of
    boxes 'box_AP', …; of borders 'boundary_AP', …) sees all objects by their scores. AP at an IoU
    (`ap_at`), AJI and PQ see the objects of at least `least_score`. What there is to choose is in
    `metrics.objects`.

    The AP of one image, by which the best and the worst are chosen and which `image_AP` is, is that
    of a split of this image alone: the mean over the classes that have a value there, see
    `coco.image_values`.
    """

    headline = ("AP", "Mask AP")
    sort = chosen.OBJECTS
    always: ClassVar[Mapping[str, Any]] = {"AP": objects.Ap()}

    def logged(self) -> list[str]:
        """Return the names of what it logs, without its own and the loss."""
        own = [f"AP/{self.log_names[k]}" for k in self.things if "per_class" in self.chosen]
        return [*(name for metric in self.chosen.values() for name in metric.names), *own]

    def row(self, place: int, found: Detection) -> Row:
        """Return what is kept of one example."""
        truth = self.known.objects(place)
        borders = any(metric.borders for metric in self.chosen.values())
        compared = overlap.compare(truth, found.objects, found.size, borders=borders)
        scene = objects.Scene(compared, self.least_score)
        there = {*truth.classes.tolist(), *found.objects.classes.tolist()} & {*self.things}
        classes = {k: self._own(scene, k) for k in sorted(there)}
        matches = {k: own.matches for k, own in classes.items()}
        return Row(classes, coco.image_values(matches, self.things, least_score=self.least_score))

    def _own(self, scene: objects.Scene, k: int) -> Own:
        kept = {name: metric(scene, k) for name, metric in self.chosen.items()}
        true, crowd = scene.compared.truth.classes == k, scene.compared.truth.crowd
        crowds, found = int(crowd[true].sum()), int((scene.compared.found.classes == k).sum())
        left_out = found - len(kept["AP"].scores)
        return Own(kept, np.array([int(true.sum()) - crowds, crowds, found, left_out], np.int64))

    def summarize(self, rows: Sequence[Row]) -> base.Found:
        """Return the scores of a split, see the classes of `metrics.objects`."""
        names, split = [self.classes.class_names[k] for k in self.things], self._split(rows)
        said = [metric.summarize(split) for metric in self.chosen.values()]
        every = self._objects(rows)
        result: dict[str, Any] = {}
        for each in said:
            result |= each.whole
        scalars = {
            name: _value(result, name) for each in self.chosen.values() for name in each.names
        }
        result["least_score"] = self.least_score
        result["objects"] = _counted(every.sum(axis=0))
        if "per_class" in self.chosen:
            per_class = [dict[str, Any]() for _ in names]
            for i, own in enumerate(per_class):
                for each in said:
                    own |= each.per_class[i]
                own["objects"] = _counted(every[i])
            result["per_class"] = dict(zip(names, per_class, strict=True))
            scalars |= {
                f"AP/{self.log_names[k]}": own["AP"]
                for k, own in zip(self.things, per_class, strict=True)
            }
        result["absent_classes"] = [
            name for name, own in zip(names, every, strict=True) if not own.any()
        ]
        shown = {"mask AP": result["AP"], "AP50": result["AP50"]}
        shown |= {"box AP": result["box_AP"]} if "box_AP" in self.chosen else {}
        scores = np.array([base.mean_of(row.precision) for row in rows])
        return base.Found(result, scalars, shown, scores, self._figures(names, split.ranked("AP")))

    def _split(self, rows: Sequence[Row]) -> objects.Split:
        """Return what metrics kept of some examples."""
        kept = [{k: own.kept for k, own in row.classes.items()} for row in rows]
        return objects.Split(kept, self.things, [*self.chosen])

    def _objects(self, rows: Sequence[Row]) -> Int64[np.ndarray, "k 4"]:
        """Return how many objects of each thing there are."""
        start = np.zeros(4, np.int64)
        own = (sum((r.classes[k].objects for r in rows if k in r.classes), start)
               for k in self.things)  # fmt: skip
        return np.stack([*own])

    def resampled(self, rows: Sequence[Row]) -> tuple[dict[str, Score], dict[str, np.ndarray]]:
        """Return the scores as functions of weights, and values of each example, AP among them."""
        found: dict[str, Score] = {}
        precision = [row.precision for row in rows]
        values = {"image_AP": np.array(precision, np.float64).reshape(-1, len(self.things))}
        split = self._split(rows)
        for metric in self.chosen.values():
            scores, own = metric.resampled(split)
            found |= scores
            values |= own
        return found, values

    def _figures(
        self, names: Sequence[str], ranked: Sequence[coco.Ranked]
    ) -> dict[str, Callable[[pathlib.Path, Mapping[str, Any]], None]]:
        curves = {name: coco.curves(each) for name, each in zip(names, ranked, strict=True)}
        lines = {name: each.precision for name, each in curves.items() if each is not None}
        bars: dict[str, Callable[[pathlib.Path, Mapping[str, Any]], None]] = {}
        if "per_class" in self.chosen:
            bars["class_ap"] = object_figures.class_ap
            bars |= {"class_pq": object_figures.class_pq} if "PQ" in self.chosen else {}
        return bars | {
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
        pairs, excused = pairs_of(overlap.compare(truth, kept, found.size, borders=False))
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


def _counted(numbers: Int64[np.ndarray, " 4"]) -> dict[str, int]:
    return dict(zip(("truth", "crowds", "found", "left_out"), numbers.tolist(), strict=True))


def _value(result: Mapping[str, Any], name: str) -> float | None:
    """Return a number of the result; of `ap_at/0.5` that under `ap_at`."""
    outer, _, inner = name.partition("/")
    return result[outer][inner] if inner else result[outer]
