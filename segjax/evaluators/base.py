"""What evaluations of objects share: each process compares its own examples, all hear of all.

An example is compared where it was predicted, and becomes a row of numbers. Rows of all processes
come together in the order of examples, so that no number of processes and no batch size moves a
score.
"""

import dataclasses
import functools
import math
import pathlib
import pickle
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float

from segjax.config import kinds, rules
from segjax.data import core
from segjax.errors import ConfigError
from segjax.evaluators import chosen
from segjax.evaluators.report import Report
from segjax.evaluators.semantic import Losses, log_names
from segjax.inference.predictor import Detection, ObjectPredictor
from segjax.metrics import intervals
from segjax.metrics.intervals import Score
from segjax.runtime import distributed, quirks
from segjax.structs import Classes, Mask
from segjax.views.outlines import Region
from segjax.views.progress import Progress

R = TypeVar("R")


class About(NamedTuple):
    """What an example is called and belongs to, where that is kept.

    Attributes:
        name: Of the example.
        case: Its field 'case'; empty: it has none.
    """

    name: str
    case: tuple[Any, ...] = ()


@dataclasses.dataclass(frozen=True)
class Measured(Generic[R]):
    """What is known of a split.

    Attributes:
        rows: Of each example, in order.
        abouts: Of each example, in order; empty: not kept.
        losses: Of the batches.
    """

    rows: list[R]
    abouts: list[About]
    losses: Losses


class Found(NamedTuple):
    """What an evaluation makes of its rows.

    Attributes:
        result: For the JSON.
        scalars: For the log, without the evaluation's name.
        headline: For a person, by its names in prose.
        scores: Of each example, by which the best and the worst are chosen; NaN: it has none.
        figures: Draw one picture each at a path, given the whole result, by the end of its name.
    """

    result: dict[str, Any]
    scalars: Mapping[str, float | None]
    headline: Mapping[str, float | None]
    scores: Float[np.ndarray, " n"]
    figures: Mapping[str, Callable[[pathlib.Path, Mapping[str, Any]], None]]


class Evaluator(Generic[R]):
    """Compare what a predictor finds with the objects of every example exactly once.

    Args:
        split: The split's name, for the report.
        batch_size: Images in a global batch.
        every_steps: How often training calls it; 0: only at the end.
        threads: Threads that read and decode.
        least_score: From which score on an object counts as found, where scores have no other use.
        metrics: What is scored beside the headline, each by name ('boundary_AP') or as a section
            with arguments (`dict(type='ap_at', thresholds=(0.5, 0.7))`); 'all': all there is.
        intervals: Resamples of the 95 % bootstrap intervals; 0: none.
        name: Its key in `config.evals`: prefix of its scalars and name of its file.
        source: The opened split.
        classes: Of the training data.

    Attributes:
        known: The split, which knows its objects.
        chosen: What is scored, by what it is called.

    Raises:
        ConfigError: The split has no objects.
    """

    headline: ClassVar[tuple[str, str]]
    sort: ClassVar[chosen.Sort]
    """Of the metrics that it takes."""
    always: ClassVar[Mapping[str, Any]] = {}
    """The metrics that it has in any case."""

    def __init__(
        self,
        *,
        split: str,
        batch_size: Annotated[int, rules.whole(1)],
        every_steps: kinds.Count = 0,
        threads: kinds.Threads = 2,
        least_score: kinds.Probability = 0.5,
        metrics: Annotated[Sequence[str | kinds.Section], rules.length(0, 100)] = (chosen.ALL,),
        intervals: Annotated[int, rules.whole(0, 100_000)] = 0,
        name: str,
        source: core.Source,
        classes: Classes,
    ):
        counted = isinstance(source, core.ObjectSource) and source.things and classes.things
        if not isinstance(source, core.ObjectSource) or not counted:
            raise ConfigError(
                f"config.evals.{name}: scores objects, and those of config.input.source are not "
                "known. Set config.input.source.objects, or type='semantic' here."
            )
        self.split, self.batch_size, self.every_steps = split, batch_size, every_steps
        self.threads, self.least_score, self.intervals = threads, float(least_score), intervals
        self.name, self.source, self.classes = name, source, classes
        self.known: core.ObjectSource = source
        self.things = tuple(classes.things)
        self.log_names = log_names(classes.class_names)
        self.chosen = chosen.built_once(
            metrics, where=f"config.evals.{name}.metrics", sort=self.sort, always=self.always
        )

    def __len__(self) -> int:
        return len(self.source)

    def metrics(self) -> list[str]:
        """Return the names of what it logs; what has no value in the split is not logged."""
        return [f"{self.name}/{name}" for name in ("loss", *self.logged())]

    def logged(self) -> list[str]:
        """Return the names of what it logs, without its own and the loss."""
        raise NotImplementedError

    def row(self, place: int, found: Detection) -> R:
        """Return what is kept of example number `place`."""
        raise NotImplementedError

    def summarize(self, rows: Sequence[R]) -> Found:
        """Return what there is to say of all rows."""
        raise NotImplementedError

    def resampled(self, rows: Sequence[R]) -> tuple[dict[str, Score], dict[str, np.ndarray]]:
        """Return the scores that get intervals, and values [n k] of each example, by name."""
        raise NotImplementedError

    def evaluate(
        self, predictor: ObjectPredictor, *, step: int, progress: Progress, draw: bool
    ) -> Report:
        """Return the scores of a predictor; the loss as well where it measures one."""
        measured = self._measure(predictor, progress)
        found = self.summarize(measured.rows)
        losses = measured.losses
        loss = {"loss": losses.mean()} if losses.terms else {}
        about = {"num_examples": len(self.source), "split": self.split, "step": step}
        result: dict[str, Any] = found.result | self._more(measured) | loss | about
        scalars = {**loss, **found.scalars}
        figures: dict[str, Callable[[pathlib.Path], None]] = {}
        if draw:
            figures = {
                end: functools.partial(_drawn, one, result) for end, one in found.figures.items()
            }
            picks = [*self.picks(found.scores).items()]
            figures["examples"] = self.examples(predictor, picks, found.scores)
        return Report(
            self.name,
            step,
            {title: value for title, value in found.headline.items() if value is not None} | loss,
            {f"{self.name}/{name}": float(x) for name, x in scalars.items() if x is not None},
            result,
            [
                f"{self.name}: class {absent!r} occurs neither in truth nor in predictions"
                for absent in result["absent_classes"]
            ],
            figures,
        )

    def _measure(self, predictor: ObjectPredictor, progress: Progress) -> Measured[R]:
        """Compare this process's examples, and gather what all processes found."""
        own: dict[int, tuple[R, About | None]] = {}
        losses, done, (_, _, processes) = Losses(), 0, quirks.job_client()
        for found, loss in predictor.detect(
            self.source, batch_size=self.batch_size, threads=self.threads
        ):
            for number, each in found.items():
                own[number] = self.row(number, each), self._about(number)
            losses.add(loss)
            done += len(found)
            progress.update(min(len(self.source), done * processes))
        every: dict[int, tuple[R, About | None]] = {}
        for part in distributed.bytes_of_all(zlib.compress(pickle.dumps(own), 1)):
            every |= pickle.loads(zlib.decompress(part))
        in_order = [every[number] for number in range(len(self.source))]
        abouts = [about for _, about in in_order if about is not None]
        return Measured([row for row, _ in in_order], abouts, losses)

    def _about(self, number: int) -> About | None:
        """Return what an example is called, where that is kept."""
        if not self.intervals:
            return None
        example: Mapping[str, Any] = self.source[number]
        if "case" not in example:
            return About(example["name"])
        return About(example["name"], tuple(np.ravel(example["case"]).tolist()))

    def _more(self, measured: Measured[R]) -> dict[str, Any]:
        """Return the values of single examples, and intervals."""
        if not self.intervals:
            return {}
        scores, values = self.resampled(measured.rows)
        cases = [about.case for about in measured.abouts if about.case]
        names = [about.name for about in measured.abouts]
        table = chosen.per_example(chosen.Gathered({}, names, cases), values)
        scores |= {name: intervals.of_values(each) for name, each in values.items()}
        found = chosen.bootstrap(scores, table, resamples=self.intervals)
        return {"per_example": table, "intervals": found}

    def examples(
        self,
        predictor: ObjectPredictor,
        picks: Sequence[tuple[str, int]],
        scores: Float[np.ndarray, " n"],
    ) -> Callable[[pathlib.Path], None]:
        """Return what draws some examples, predicted once more.

        Args:
            predictor: Predicts them.
            picks: What each is called, and its number.
            scores: Of each example, in order; NaN: not known.
        """
        raise NotImplementedError

    def drawn(
        self, predictor: ObjectPredictor, picks: Sequence[tuple[str, int]]
    ) -> Callable[[pathlib.Path], None]:
        """Return what draws some examples whose scores are not known, see `examples`."""
        return self.examples(predictor, picks, np.full(len(self), np.nan))

    def picks(self, scores: Float[np.ndarray, " n"]) -> dict[str, int]:
        """Return the numbers of the best, median and worst example; none where none has a score."""
        order = np.argsort(np.nan_to_num(scores, nan=np.inf), kind="stable")
        order = order[: int(np.isfinite(scores).sum())].tolist()
        if not order:
            return {}
        return {"best": order[-1], "median": order[len(order) // 2], "worst": order[0]}


def thinned(masks: Sequence[Mask], step: int) -> list[Region]:
    """Return masks as they are in every `step`-th pixel; those that have none there are empty."""
    found: list[Region] = []
    for corner, inside in masks:
        first = [-(-a // step) for a in corner]
        starts = [a * step - b for a, b in zip(first, corner, strict=True)]
        found.append((tuple(first), inside[tuple(slice(a, None, step) for a in starts)]))
    return found


def _drawn(draw: Callable[..., None], result: Mapping[str, Any], path: pathlib.Path) -> None:
    draw(path, result)


def scored(name: str, value: float) -> str:
    """Return an example's score in words; empty: it is not known."""
    return "" if math.isnan(value) else f"{name} {value:.2f}"


def mean_of(values: Float[np.ndarray, " k"]) -> float:
    """Return the mean of what is not NaN; NaN of nothing."""
    finite = values[~np.isnan(values)]
    return float(finite.mean()) if finite.size else math.nan
