"""Score class maps over a whole split: integers until the last division."""

import functools
import itertools
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from segjax.config import kinds, rules
from segjax.data import core, resample
from segjax.errors import ConfigError
from segjax.evaluators import chosen
from segjax.evaluators.report import Report
from segjax.inference import preview
from segjax.inference.predictor import Predictor
from segjax.metrics import confusion
from segjax.metrics.base import PerExample, Summary
from segjax.structs import Classes, Kind
from segjax.views import examples, figures
from segjax.views.progress import Progress

HEADLINES = ("miou", "dice", "pixel_accuracy", "mean_accuracy", "precision", "recall", "f1")


class Evaluator:
    """Compare a predictor with every example of a split exactly once.

    Beside the means it logs the IoU of each class, `<name>/iou/<class>` with the class as
    `log_names` writes it, and `<name>/miou_foreground`, the mean over all classes but the first.
    What does not occur in the split, in label or prediction, is not logged.

    Args:
        split: The split's name, for the report.
        batch_size: Images in a global batch; the last one is padded and masked.
        every_steps: How often training calls it; 0: only at the end.
        threads: Threads that read and decode.
        metrics: More to score, each by name ('hd95') or as a section with arguments
            (`dict(type='surface:surface_dice', tolerance=2.0)`). Those that need more than counts
            have each example predicted once more.
        intervals: Resamples of the 95 % bootstrap intervals of all scores; 0: none.
        name: Its key in `config.evals`: prefix of its scalars and name of its file.
        source: The opened split.
        classes: Of the training data, in whose order predictions are.

    Raises:
        ConfigError: The labels are of another kind than it scores.
    """

    headline = ("miou", "Mean IoU")
    headlines: tuple[str, ...] = HEADLINES
    """What is logged of the result, beside the IoU of each class."""
    shown: Mapping[str, str] = {"mIoU": "miou", "pixel accuracy": "pixel_accuracy"}
    """What a person sees first, by its name in prose."""
    kind: Kind = "classes"
    """Of the labels that it scores."""
    parts: tuple[str, ...] = confusion.MARGINS
    """What `margins` returns."""
    counted = "num_pixels"
    """What the sum of all counts is called in the result."""

    def __init__(
        self,
        *,
        split: str,
        batch_size: Annotated[int, rules.whole(1)],
        every_steps: kinds.Count = 0,
        threads: kinds.Threads = 2,
        metrics: Annotated[Sequence[str | kinds.Section], rules.length(0, 100)] = (),
        intervals: Annotated[int, rules.whole(0, 100_000)] = 0,
        name: str,
        source: core.Source,
        classes: Classes,
    ):
        found = source.schema["label"].kind
        if found != self.kind:
            other = {"labels": "multilabel", "classes": "semantic"}.get(found, "another")
            raise ConfigError(
                f"config.evals.{name}: scores labels of kind {self.kind!r}, those of "
                f"config.input.source are {found!r}. Set type={other!r}."
            )
        self.split, self.batch_size, self.every_steps = split, batch_size, every_steps
        self.threads, self.name, self.source, self.classes = threads, name, source, classes
        self.log_names = log_names(classes.class_names)
        self.intervals = intervals
        self.chosen = chosen.build(metrics, where=f"config.evals.{name}.metrics", source=source)

    def __len__(self) -> int:
        return len(self.source)

    def metrics(self) -> list[str]:
        """Return the names of what it logs; of classes that do not occur it logs nothing."""
        own = [f"iou/{name}" for name in self.log_names]
        return [
            f"{self.name}/{name}" for name in ("loss", *self._scores_logged(), *self.chosen, *own)
        ]

    def _scores_logged(self) -> list[str]:
        """Return the names of what is logged of the whole result."""
        return [*self.headlines, *["miou_foreground"] * (len(self.log_names) > 1)]

    def margins(self, counts: np.ndarray) -> np.ndarray:
        """Return what the scores of some counts are made of, see `confusion.margins`."""
        return confusion.margins(counts)

    def summarize(self, counted: "Counted") -> dict[str, Any]:
        """Return the scores of a split, see `confusion.summarize` and `confusion.image_means`."""
        found = confusion.summarize(counted.total, class_names=self.classes.class_names)
        return found | confusion.image_means(counted.margins)

    def evaluate(
        self, predictor: Predictor, *, step: int, progress: Progress, draw: bool
    ) -> Report:
        """Return the scores of a predictor; the loss as well where it measures one."""
        counted = self._measure(predictor, progress)
        result = self.summarize(counted)
        summaries, more = self._more(predictor, counted.margins, progress)
        losses = counted.losses
        loss = {"loss": losses.mean()} if losses.terms else {}
        about = {"num_examples": len(self.source), "split": self.split, "step": step}
        about |= {self.counted: int(counted.total.sum())}
        scalars = loss | {name: result[name] for name in self._scores_logged()}
        scalars |= self._by_name(result) | {name: each.value for name, each in summaries.items()}
        scalars = {name: float(value) for name, value in scalars.items() if value is not None}
        result |= more | loss | about
        named = {title: result[name] for title, name in self.shown.items()}
        notes = [
            f"class {absent!r} occurs neither in labels nor in predictions"
            for absent in result["absent_classes"]
        ] + [f"{name}: {note}" for name, each in summaries.items() for note in each.notes]
        drawn = {
            f"{end}{''.join(name.partition('-')[1:])}": draw  # of `ece-2` a second one
            for name, each in summaries.items()
            for end, draw in each.figures.items()
        }
        return Report(
            self.name,
            step,
            {title: value for title, value in named.items() if value is not None} | loss,
            {f"{self.name}/{name}": value for name, value in scalars.items()},
            result,
            [f"{self.name}: {note}" for note in notes],
            self._figures(result, predictor, counted.scores) | drawn if draw else {},
        )

    def _measure(self, predictor: Predictor, progress: Progress) -> "Counted":
        total, losses, done = np.zeros((), np.int64), Losses(), 0
        shape = len(self.parts), len(self.source), len(self.classes.class_names)
        margins = np.zeros(shape, np.int64)
        for counts, loss in predictor.measure(
            self.source, batch_size=self.batch_size, threads=self.threads
        ):
            for number, own in counts.items():
                total = total + own
                margins[:, number] = self.margins(own)
            losses.add(loss)
            done += len(counts)
            progress.update(done // 2 if self.chosen else done)
        return Counted(total, margins, confusion.example_miou(margins), losses)

    def _more(
        self, predictor: Predictor, margins: np.ndarray, progress: Progress
    ) -> tuple[dict[str, Summary], dict[str, Any]]:
        """Return what the chosen metrics say, and all that it adds to the result."""
        names, half = self.classes.class_names, len(self.source) // 2
        keep = self.intervals > 0 or any(isinstance(m, PerExample) for m in self.chosen.values())
        if not self.chosen and not keep:
            return {}, {}

        def tell(done: int) -> None:
            if self.chosen:
                progress.update(half + (done + 1) // 2)

        gathered = chosen.gather(self.chosen, self.source, predictor, margins, keep=keep, tell=tell)
        summaries = {
            name: metric.summarize(gathered.found[name], class_names=names)
            for name, metric in self.chosen.items()
        }
        more: dict[str, Any] = {name: each.value for name, each in summaries.items()}
        more["metrics"] = {name: dict(each.detail) for name, each in summaries.items()}
        if keep:
            values = chosen.values_of(self.chosen, gathered.found, len(names))
            more["per_example"] = chosen.per_example(gathered, values)
        if self.intervals:
            parts = zip(self.parts, margins.tolist(), strict=True)
            more["per_example"] |= dict(parts)
            more["intervals"] = chosen.make_intervals(
                self.chosen,
                more["per_example"],
                margins,
                values,
                resamples=self.intervals,
                logged=self.headlines,
            )
        return summaries, more

    def _by_name(self, result: Mapping[str, Any]) -> dict[str, float | None]:
        """Return the IoU of each class."""
        return {
            f"iou/{logged}": result["per_class"][name]["iou"]
            for name, logged in zip(self.classes.class_names, self.log_names, strict=True)
        }

    def rows(
        self, predictor: Predictor, picks: Sequence[tuple[str, int]], scores: np.ndarray
    ) -> list[examples.Row]:
        """Return some examples with image, truth and prediction.

        Args:
            predictor: Predicts them, each at its own size.
            picks: What each is called, and its number.
            scores: mIoU of each example, in order; NaN: not known.
        """
        rows: list[examples.Row] = []
        for title, index in picks:
            example = resample.with_spacing(self.source[index])
            image, label = example["image"], example["label"]
            whole = image.shape[:-1]
            dims, step = len(whole), preview.step_of(whole)
            rows.append(
                examples.Row(
                    title=title,
                    name=example["name"],
                    image=preview.thinned(image, step, dims=dims),
                    label=preview.thinned(label, step, dims=dims),
                    pred=preview.thinned_tiles(predictor.tiles(image), whole, step),
                    miou=float(scores[index]),
                )
            )
        return rows

    def drawn(
        self, predictor: Predictor, picks: Sequence[tuple[str, int]]
    ) -> Callable[[pathlib.Path], None]:
        """Return what draws some examples, see `rows`."""
        return self._drawn(self.rows(predictor, picks, np.full(len(self), np.nan)))

    def _drawn(self, rows: list[examples.Row]) -> Callable[[pathlib.Path], None]:
        return functools.partial(
            examples.draw,
            rows=rows,
            palette=self.classes.palette,
            class_names=self.classes.class_names,
        )

    def examples(self, predictor: Predictor, scores: np.ndarray) -> list[examples.Row]:
        """Return the best, median and worst example with image, truth and prediction.

        Args:
            predictor: Predicts them once more, each at its own size.
            scores: mIoU of each example, in order; NaN where it holds no valid pixel.
        """
        order = np.argsort(np.nan_to_num(scores, nan=np.inf))[: np.isfinite(scores).sum()]
        if not len(order):
            return []
        picks = {"best": order[-1], "median": order[len(order) // 2], "worst": order[0]}
        return self.rows(predictor, [(title, int(place)) for title, place in picks.items()], scores)

    def _figures(
        self, result: dict[str, Any], predictor: Predictor, scores: np.ndarray
    ) -> dict[str, Callable[[pathlib.Path], None]]:
        return {
            "class_iou": functools.partial(figures.class_iou, result=result),
            "confusion_matrix": functools.partial(figures.confusion_matrix, result=result),
            "examples": self._drawn(self.examples(predictor, scores)),
        }


class Counted(NamedTuple):
    """What was counted of a split.

    Attributes:
        total: The confusion matrix; of multi-label maps one for each class, [k 2 2].
        margins: What the evaluator's `margins` returns of each example, [parts n k].
        scores: mIoU of each example; NaN where no class is in label or prediction.
        losses: Those of its batches.
    """

    total: Int64[np.ndarray, "k ..."]
    margins: Int64[np.ndarray, "parts n k"]
    scores: Float32[np.ndarray, " n"]
    losses: "Losses"


def log_names(class_names: Sequence[str]) -> list[str]:
    """Return the name under which each class is logged; no two classes have the same.

    Letters, digits, '-' and '.' of ASCII stay, each run of others becomes one '_' ("traffic light"
    is `traffic_light`), and a name without a letter or digit left becomes `class<number>`. Where
    that is another class's name already, the next free of `-2`, `-3`, … is appended; classes whose
    own name needs no change keep it.
    """
    made = [re.sub(r"[^A-Za-z0-9.-]+", "_", name) for name in class_names]
    made = [
        name if re.search("[A-Za-z0-9]", name) else f"class{number}"
        for number, name in enumerate(made)
    ]
    taken = {name for name, own in zip(made, class_names, strict=True) if name == own}
    for number, own in enumerate(class_names):
        first = made[number]
        if first != own:
            endings = itertools.chain([""], (f"-{count}" for count in itertools.count(2)))
            made[number] = next(first + end for end in endings if first + end not in taken)
            taken.add(made[number])
    return made


class Losses:
    """The terms of a loss, added up over batches; each is divided once, at the end."""

    def __init__(self) -> None:
        self.terms: dict[str, tuple[float, float, float]] = {}

    def add(self, terms: Mapping[str, Any]) -> None:
        """Add one batch's `tasks.base.Term`s, on the host."""
        for name, term in terms.items():
            _, total, weight = self.terms.get(name, (term.factor, 0.0, 0.0))
            self.terms[name] = (
                term.factor, total + float(term.total), weight + float(term.weight)
            )  # fmt: skip

    def mean(self) -> float:
        """Return the loss over all batches; a term of no weight is 0, as `Term.mean` has it."""
        return sum(
            factor * (total / weight) for factor, total, weight in self.terms.values() if weight
        )
