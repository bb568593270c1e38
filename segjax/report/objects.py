"""Look at examples object by object, or segment by segment."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from segjax.evaluators import base, instance, panoptic
from segjax.evaluators.report import Scored
from segjax.inference import preview
from segjax.metrics import coco, intervals, overlap
from segjax.metrics import panoptic as quality_lib
from segjax.metrics.base import nan_of, number
from segjax.report import show
from segjax.report.dense import counted, thinned
from segjax.report.seen import Region, Seen, about, case_of, groups, no_levels
from segjax.structs import IGNORE_LABEL, Mask, Objects
from segjax.views import colour, instances, outlines, segments
from segjax.views.page import pages

RESAMPLES = 200
"""Of scores that are ranked anew each time."""
FEW = 20
"""Classes, at most, whose average precision gets intervals."""
MISSES, STRAYS = 10, 5
"""True objects of an example that are shown by themselves, and wrongly found ones."""
SMALLEST = 112
"""Pixels of the longer side that a single object is enlarged to, at least."""
FOUND: colour.Colour = (224, 123, 0)
UNSURE = 0.05
"""Objects with a lower score are not looked at when it is asked how sure a run is."""


class ObjectEye:
    """Looks at objects that are found one by one.

    Args:
        evaluator: Knows the true objects.
    """

    score = "AP"

    def __init__(self, evaluator: instance.Evaluator):
        self.evaluator = evaluator
        names = evaluator.classes.class_names
        self.class_names: Sequence[str] = [names[k] for k in evaluator.things]

    def __call__(self, place: int, example: Mapping[str, Any], predictor: Scored, /) -> Seen:
        """Return what there is to say of an example."""
        image, evaluator = example["image"], self.evaluator
        found = predictor(image)
        row, truth = evaluator.row(place, found), evaluator.known.objects(place)
        scores = found.objects.scores
        kept = overlap.take(found.objects, scores >= evaluator.least_score)
        shown = evaluator.row_of(place, example, found)
        every = overlap.compare(truth, found.objects, found.size, borders=False)
        matched = np.isin(np.arange(len(scores)), [j for _, j in instance.pairs_of(every)[0]])
        sure = scores[scores >= UNSURE]
        seen = {i for i, _ in shown.pairs}
        regions = [
            Region(int(mask.inside.sum()), float(i in seen))
            for i, mask in enumerate(truth.masks)
            if not truth.crowd[i]
        ]
        return Seen(
            place,
            shown.name,
            base.mean_of(row.precision),
            row.precision,
            float((1 - np.abs(2 * sure - 1)).mean()) if sure.size else math.nan,
            row,
            counted(scores, matched) if len(scores) else no_levels(),
            regions,
            thinned(class_map_of(kept, found.size), axes=len(found.size)),
            pictures_of(instances.panels(shown)[0]),
            case=case_of(example),
            parts=singles(shown, kept.scores.tolist()) if len(found.size) == 2 else (),
        )

    def whole(self, seen: Sequence[Seen], /) -> list[float | None]:
        """Return the 95 % interval of the mask AP."""
        return _whole(self.evaluator, seen, "AP")

    def legend(self) -> list[tuple[str, str]]:
        """Return what the colours of its pictures mean."""
        own = {"errors: matched": colour.CORRECT, "wrongly found": colour.WRONG}
        own |= {"missed": instances.MISSED}
        return [(name, colour.code(shade)) for name, shade in own.items()]

    def intervals(self, seen: Sequence[Seen], /) -> dict[str, list[float | None]]:
        """Return the 95 % interval of each class's AP; of many classes none."""
        if len(self.class_names) > FEW:
            return {}
        ranked = [
            coco.rank([
                own.matches if (own := one.kept.classes.get(k)) else None for one in seen
            ])
            for k in self.evaluator.things
        ]  # fmt: skip
        scores = {
            name: _precision(each) for name, each in zip(self.class_names, ranked, strict=True)
        }
        return intervals.bootstrap(scores, groups(seen), resamples=RESAMPLES)

    def table(self, seen: Sequence[Seen], /) -> Mapping[str, Any]:
        """Return a report's content of single examples."""
        return _table(seen, {"AP of an image": [one.per_class for one in seen]})

    def compared(self) -> Sequence[str]:
        """Return what runs are compared by."""
        return ["AP of an image"]


class SegmentEye:
    """Looks at whole images in segments.

    Args:
        evaluator: Knows the true segments.
    """

    score = "PQ"

    def __init__(self, evaluator: panoptic.Evaluator):
        self.evaluator = evaluator
        self.class_names: Sequence[str] = evaluator.classes.class_names
        self.palette = evaluator.classes.palette

    def __call__(self, place: int, example: Mapping[str, Any], predictor: Scored, /) -> Seen:
        """Return what there is to say of an example."""
        evaluator, image = self.evaluator, example["image"]
        detection = predictor(image)
        row = evaluator.row(place, detection)
        label, truth, crowd = evaluator.truth(place)
        found = panoptic.segments_of(detection, name=example["name"], size=label.shape)
        classes = panoptic.class_map(found, none=IGNORE_LABEL)
        dims, step = label.ndim, max(1, max(label.shape) // (2 * show.SIDE))
        maps = [
            segments.Map(
                preview.thinned(own.numbers, step, dims=dims),
                preview.thinned(panoptic.class_map(own, none=IGNORE_LABEL), step, dims=dims),
            )
            for own in (truth, found)
        ]
        pixels = preview.thinned(image, step, dims=dims)
        shown = segments.Row("", str(example["name"]), pixels, *maps, score="")
        void = colour.spare(self.palette)
        pictures = segments.panels(shown, self.palette, void)
        per_class = np.array(
            [nan_of(quality_lib.scores(own)["PQ"]) for own in row.quality], np.float64
        )
        true = panoptic.class_map(truth, none=IGNORE_LABEL)
        sizes = np.bincount(truth.numbers.ravel(), minlength=len(crowd) + 1)[1:]
        hits = np.bincount(truth.numbers[classes == true], minlength=len(crowd) + 1)[1:]
        regions = [
            Region(int(size), float(hit / size))
            for size, hit, many in zip(sizes, hits, crowd, strict=True)
            if size and not many
        ]
        return Seen(
            place,
            shown.name,
            nan_of(quality_lib.means(row.quality)["PQ"]),
            per_class,
            math.nan,
            row,
            no_levels(),
            regions,
            thinned(classes.astype(np.uint8), axes=dims),
            pictures_of({name: colour.hatch(each, void) for name, each in pictures.items()}),
            case=case_of(example),
        )

    def whole(self, seen: Sequence[Seen], /) -> list[float | None]:
        """Return the 95 % interval of the panoptic quality."""
        return _whole(self.evaluator, seen, "PQ")

    def legend(self) -> list[tuple[str, str]]:
        """Return what the colours of its pictures mean."""
        own = dict(zip(self.class_names, self.palette, strict=True))
        own |= {"wrong classes: right": colour.CORRECT, "wrong": colour.WRONG}
        return [(name, colour.code(shade)) for name, shade in own.items()]

    def intervals(self, seen: Sequence[Seen], /) -> dict[str, list[float | None]]:
        """Return the 95 % interval of each class's PQ."""
        sums = np.stack([one.kept.quality for one in seen]).transpose(2, 0, 1)  # parts n k

        def score(total: np.ndarray) -> Float[np.ndarray, " k"]:
            iou, hit, wrong, missed = total
            every = hit + (wrong + missed) / 2
            return np.where(every > 0, iou / np.maximum(every, 0.5), np.nan)

        found = intervals.of_classes(sums, score, resamples=RESAMPLES, groups=groups(seen))
        return dict(zip(self.class_names, found, strict=True))

    def table(self, seen: Sequence[Seen], /) -> Mapping[str, Any]:
        """Return a report's content of single examples."""
        return _table(seen, {"PQ of an image": [one.per_class for one in seen]})

    def compared(self) -> Sequence[str]:
        """Return what runs are compared by."""
        return ["PQ of an image"]


def singles(row: instances.Row, scores: Sequence[float]) -> list[tuple[str, str]]:
    """Return pictures of single objects of a picture: the worst of the true ones, and strays.

    The truth is outlined in blue, what was found in orange.
    """
    partner = dict(row.pairs)
    overlaps = {i: _iou(row.truth[i], row.found[j]) for i, j in row.pairs}
    true = [i for i, crowd in enumerate(row.crowd) if not crowd and row.truth[i][1].any()]
    worst = sorted(true, key=lambda i: overlaps.get(i, 0.0))[:MISSES]
    used = {*partner.values(), *row.excused}
    strays = [j for j, one in enumerate(row.found) if j not in used and one[1].any()][:STRAYS]
    picture = colour.displayable(row.image)
    shown = []
    for i in worst:
        own = [row.truth[i], *([row.found[partner[i]]] if i in partner else [])]
        text = f"{i + 1}: IoU {overlaps[i]:.2f}" if i in partner else f"{i + 1}: missed"
        shown.append((text, _crop(picture, own, [instances.MISSED, FOUND][: len(own)])))
    for j in strays:
        text = f"wrongly found, score {scores[j]:.2f}"
        shown.append((text, _crop(picture, [row.found[j]], [FOUND])))
    return shown


def _crop(
    picture: np.ndarray, regions: Sequence[outlines.Region], shades: Sequence[colour.Colour]
) -> str:
    """Return the part of a picture around some regions, enlarged, with their outlines."""
    low = np.min([corner for corner, _ in regions], axis=0)
    high = np.max([np.add(corner, inside.shape) for corner, inside in regions], axis=0)
    room = np.maximum(4, (high - low) // 3)
    low, high = np.maximum(low - room, 0), np.minimum(high + room, picture.shape[:2])
    factor = max(1, math.ceil(SMALLEST / int((high - low).max())))
    part = picture[low[0] : high[0], low[1] : high[1]].repeat(factor, 0).repeat(factor, 1)
    moved = [
        outlines.scaled((tuple(np.subtract(corner, low).tolist()), inside), (factor, factor))
        for corner, inside in regions
    ]
    width = max(2, round(max(part.shape[:2]) / 60))
    for region, shade in zip(moved, shades, strict=True):
        part = outlines.paint(part, [region], [shade], alpha=0.0, width=width)
    return pages.picture(part, side=2 * SMALLEST)


def class_map_of(objects: Objects, size: Sequence[int]) -> np.ndarray:
    """Return the class of the object of every pixel, counted from 1; 0 where none is."""
    numbers = outlines.numbers(objects.masks, size)
    return np.concatenate([[0], objects.classes + 1]).astype(np.uint8)[numbers]


def pictures_of(panels: Mapping[str, np.ndarray]) -> list[tuple[str, str]]:
    """Return pictures as a page shows them."""
    return [(name, pages.picture(each, side=show.SIDE)) for name, each in panels.items()]


def _iou(one: outlines.Region, other: outlines.Region) -> float:
    both = overlap.common(Mask(*one), Mask(*other))
    return both / max(1, np.count_nonzero(one[1]) + np.count_nonzero(other[1]) - both)


def _precision(ranked: coco.Ranked) -> intervals.Score:
    return lambda weights: nan_of(coco.average_precision(ranked, weights))


def _whole(evaluator: base.Evaluator[Any], seen: Sequence[Seen], name: str) -> list[float | None]:
    scores = {name: evaluator.resampled([one.kept for one in seen])[0][name]}
    return intervals.bootstrap(scores, groups(seen), resamples=RESAMPLES)[name]


def _table(seen: Sequence[Seen], values: Mapping[str, Sequence[np.ndarray]]) -> Mapping[str, Any]:
    rows = {name: [[number(x) for x in own] for own in each] for name, each in values.items()}
    return {"per_example": {**about(seen), "values": rows}}
