"""What an evaluation of objects says of a split, each chosen by name: `boundary_AP`, `aji_plus`.

A score keeps something of each class in one example, and makes its numbers of what was kept of all
examples. What several scores need of an example or of a split is computed once, and what none needs
not at all.
"""

import abc
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from jaxtyping import Float, Int64

from segjax.config import kinds, rules
from segjax.metrics import aji as index_lib
from segjax.metrics import coco, matching, overlap, panoptic
from segjax.metrics.base import Said, nan_of
from segjax.metrics.base import number as number_of
from segjax.metrics.intervals import Score


@dataclasses.dataclass(frozen=True)
class Scene:
    """The objects of one example, compared.

    Attributes:
        compared: Them; their borders only where a score asks for those.
        least_score: From which score on an object counts as found, where scores have no other use.
    """

    compared: overlap.Compared
    least_score: float
    memo: dict[int, matching.Table] = dataclasses.field(default_factory=dict, repr=False)

    def table(self, number: int) -> matching.Table:
        """Return the objects of class `number` that are sure, to be matched one to one."""
        if number not in self.memo:
            self.memo[number] = matching.table_of(
                self.compared, number, least_score=self.least_score
            )
        return self.memo[number]


@dataclasses.dataclass(frozen=True)
class Split:
    """What scores kept of all examples.

    Attributes:
        kept: Of each example, by the numbers of the classes in it, by the names of the scores.
        things: The numbers of the classes whose objects are counted.
        names: Of the scores.
    """

    kept: Sequence[Mapping[int, Mapping[str, Any]]]
    things: Sequence[int]
    names: Sequence[str]
    memo: dict[str, list[coco.Ranked]] = dataclasses.field(default_factory=dict, repr=False)

    def of(self, name: str) -> list[list[Any]]:
        """Return what a score kept of each thing [k] in each example [n]; None: it is not there."""
        return [
            [classes[k][name] if k in classes else None for classes in self.kept]
            for k in self.things
        ]

    def sums(self, name: str, start: np.ndarray) -> np.ndarray:
        """Return the sum over examples of what a score kept of each thing, and of `start`."""
        found = (sum((each for each in own if each is not None), start) for own in self.of(name))
        return np.stack([*found])

    def single(self, name: str, start: np.ndarray) -> np.ndarray:
        """Return what a score kept [n k …], `start` where a class is not there."""
        own = [[start if each is None else each for each in one] for one in self.of(name)]
        return np.array(own, start.dtype).reshape(len(self.things), -1, *start.shape).swapaxes(0, 1)

    def ranked(self, name: str) -> list[coco.Ranked]:
        """Return the matches of each thing, which an average precision kept, in one order."""
        if name not in self.memo:
            self.memo[name] = [coco.rank(own) for own in self.of(name)]
        return self.memo[name]


class OfObjects(abc.ABC):
    """A score of the objects of a split.

    Attributes:
        called: Its name, in a config too.
        borders: It asks for the borders of objects.
    """

    called: ClassVar[str]
    borders: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def names(self) -> tuple[str, ...]:
        """Return what is logged of its numbers of the split; `ap_at/0.5` is that under `ap_at`."""

    @abc.abstractmethod
    def __call__(self, scene: Scene, number: int) -> Any:
        """Return what is kept of class `number` in one example, which can be pickled."""

    @abc.abstractmethod
    def summarize(self, split: Split) -> Said:
        """Return the numbers of a split."""

    def resampled(self, split: Split) -> tuple[dict[str, Score], dict[str, np.ndarray]]:
        """Return the scores that get intervals, and values [n k] of each example, by name."""
        return {}, {}


class _Precision(OfObjects):
    """What average precisions share: COCO's numbers of all sizes together, see `coco`."""

    kind: ClassVar[str]
    logs: ClassVar[tuple[str, ...]] = ("AP", "AP50", "AP75")

    @property
    def names(self) -> tuple[str, ...]:
        """Return what is logged."""
        return tuple(f"{self.kind}{name}" for name in self.logs)

    def __call__(self, scene: Scene, number: int) -> coco.Matches:
        """Return what became of the found objects."""
        return coco.match_class(scene.compared, number, self.kind)

    def summarize(self, split: Split) -> Said:
        """Return the numbers of the split and of each class."""
        return _precisions(split, self.called, self.kind, areas=("",))

    def resampled(self, split: Split) -> tuple[dict[str, Score], dict[str, np.ndarray]]:
        """Return the AP."""
        return {self.called: functools.partial(_average, split.ranked(self.called))}, {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ap(_Precision):
    """COCO's average precision and recall of masks; every report of objects has it."""

    called = "AP"
    kind = ""
    logs = ("AP", "AP50", "AP75", *(f"AR{n}" for n in coco.LIMITS))


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoxAp(_Precision):
    """COCO's average precision and recall of boxes."""

    called = "box_AP"
    kind = "box_"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoundaryAp(_Precision):
    """The same of borders (Cheng et al. 2021): the border of each object that is near one."""

    called = "boundary_AP"
    kind = "boundary_"
    borders = True
    logs = ("AP",)


PRECISIONS = {each.called: each.kind for each in (Ap, BoxAp, BoundaryAp)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes(OfObjects):
    """The average precisions and recalls that were chosen, of small, medium and large objects."""

    called = "sizes"

    @property
    def names(self) -> tuple[str, ...]:
        """Return what is logged: of masks."""
        return tuple(f"{score}{area}" for score in ("AP", "AR") for area in "sml")

    def __call__(self, scene: Scene, number: int) -> None:
        """Keep nothing: the matches of all sizes have those of each."""

    def summarize(self, split: Split) -> Said:
        """Return the numbers of the split and of each class."""
        areas = [area for area in coco.RANGES if area]
        own = [
            _precisions(split, name, kind, areas=areas)
            for name, kind in PRECISIONS.items()
            if name in split.names
        ]
        return Said(_merged([each.whole for each in own]), [
            _merged(each) for each in zip(*(each.per_class for each in own), strict=True)
        ])  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class ApAt(OfObjects):
    """TP / (TP + FP + FN) at several IoUs, see `matching`.

    Attributes:
        thresholds: The IoUs; the first one's score gets an interval.
    """

    called = "ap_at"

    thresholds: Annotated[
        Sequence[Annotated[kinds.Real, rules.number(0, 1, open_ends="low")]], rules.length(1, 100)
    ] = matching.THRESHOLDS

    @property
    def names(self) -> tuple[str, ...]:
        """Return what is logged."""
        return tuple(f"ap_at/{least:g}" for least in self.thresholds)

    def __call__(self, scene: Scene, number: int) -> Int64[np.ndarray, "t 3"]:
        """Return TP, FP and FN at each threshold."""
        return matching.counts(scene.table(number), self.thresholds)

    def summarize(self, split: Split) -> Said:
        """Return the scores of the split and of each class."""
        counts = split.sums(self.called, self._none)
        per_class = [{"ap_at": matching.ap_at(own, self.thresholds)} for own in counts]
        return Said({"ap_at": matching.ap_at(counts.sum(axis=0), self.thresholds)}, per_class)

    def resampled(self, split: Split) -> tuple[dict[str, Score], dict[str, np.ndarray]]:
        """Return the score at the first threshold."""
        counts = split.single(self.called, self._none)[:, :, 0].sum(axis=1)

        def score(weights: np.ndarray) -> float:
            right, wrong, missed = weights @ counts
            every = right + wrong + missed
            return float(right / every) if every else float("nan")

        return {self.names[0]: score}, {}

    @property
    def _none(self) -> Int64[np.ndarray, "t 3"]:
        return np.zeros((len(self.thresholds), 3), np.int64)


class _Index(OfObjects):
    """What aggregated Jaccard indices share: a mean over images, see `metrics.aji`."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return what is logged."""
        return (self.called,)

    def summarize(self, split: Split) -> Said:
        """Return the mean over the images that have one; a class alone has none."""
        values = [number_of(value) for value in self._values(split).tolist()]
        return Said({self.called: coco.mean(values)}, [{} for _ in split.things])

    def resampled(self, split: Split) -> tuple[dict[str, Score], dict[str, np.ndarray]]:
        """Return the index of each example."""
        return {}, {self.called: self._values(split)[:, None]}

    def _values(self, split: Split) -> Float[np.ndarray, " n"]:
        own = ([classes[k][self.called] for k in classes] for classes in split.kept)
        return np.array([index_lib.value(pixels) for pixels in own], np.float64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Aji(_Index):
    """The aggregated Jaccard index (Kumar et al. 2017)."""

    called = "aji"

    def __call__(self, scene: Scene, number: int) -> index_lib.Pixels:
        """Return the pixels in common, and all of them."""
        return index_lib.aji(scene.table(number))


@dataclasses.dataclass(frozen=True, kw_only=True)
class AjiPlus(_Index):
    """The same with pairs of one each (Graham et al. 2019): the best assignment of all objects."""

    called = "aji_plus"

    def __call__(self, scene: Scene, number: int) -> index_lib.Pixels:
        """Return the pixels in common, and all of them."""
        return index_lib.aji_plus(scene.table(number))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pq(OfObjects):
    """Panoptic quality of the objects, see `matching.quality`."""

    called = "PQ"

    @property
    def names(self) -> tuple[str, ...]:
        """Return what is logged."""
        return panoptic.NAMES

    def __call__(self, scene: Scene, number: int) -> Float[np.ndarray, " 4"]:
        """Return the sum of IoUs, TP, FP and FN."""
        iou, counts = matching.quality(scene.table(number))
        return np.array([iou, *counts.tolist()])

    def summarize(self, split: Split) -> Said:
        """Return PQ, SQ and RQ of the split and of each class."""
        quality = split.sums(self.called, np.zeros(4))
        return Said(panoptic.means(quality), [panoptic.scores(own) for own in quality])

    def resampled(self, split: Split) -> tuple[dict[str, Score], dict[str, np.ndarray]]:
        """Return the PQ."""
        quality = split.single(self.called, np.zeros(4))

        def score(weights: np.ndarray) -> float:
            total = np.tensordot(weights.astype(np.float64), quality, 1)
            return nan_of(panoptic.means(total)["PQ"])

        return {"PQ": score}, {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerClass(OfObjects):
    """Say all that is chosen of each class too, under `per_class`, in the log and as bars."""

    called = "per_class"

    @property
    def names(self) -> tuple[str, ...]:
        """Return what is logged of the split: nothing."""
        return ()

    def __call__(self, scene: Scene, number: int) -> None:
        """Keep nothing: every score is made of those of classes."""

    def summarize(self, split: Split) -> Said:
        """Say nothing of its own."""
        return Said({}, [{} for _ in split.things])


EVERY = ("sizes", "box_AP", "boundary_AP", "ap_at", "aji", "aji_plus", "PQ", "per_class")
"""What is said of objects where nothing is chosen."""


def _precisions(split: Split, name: str, kind: str, *, areas: Sequence[str]) -> Said:
    """Return COCO's numbers of some ranges of area, of the matches of one kind."""
    own = [coco.scores(each, areas=areas) for each in split.ranked(name)]
    whole, *per_class = (
        {f"{kind}{key}": value for key, value in each.items()} for each in (coco.means(own), *own)
    )
    return Said(whole, per_class)


def _average(ranked: Sequence[coco.Ranked], weights: np.ndarray) -> float:
    """Return the AP of a split whose examples count so often; NaN where it has none."""
    return nan_of(coco.mean([coco.average_precision(each, weights) for each in ranked]))


def _merged(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {key: value for part in parts for key, value in part.items()}
