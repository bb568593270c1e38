"""Score class maps over a whole split: integers until the last division."""

import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from segjax.data import core
from segjax.evaluators.report import Report
from segjax.inference.predictor import Predictor
from segjax.metrics import confusion
from segjax.structs import Classes
from segjax.views import examples, figures
from segjax.views.progress import Progress

HEADLINES = ("miou", "dice", "pixel_accuracy", "mean_accuracy", "precision", "recall", "f1")


class Evaluator:
    """Compare a predictor with every example of a split exactly once.

    Args:
        split: The split's name, for the report.
        batch_size: Images in a global batch; the last one is padded and masked.
        every_steps: How often training calls it; 0: only at the end.
        threads: Threads that read and decode.
        name: Its key in `config.evals`: prefix of its scalars and name of its file.
        source: The opened split.
        classes: Of the training data, in whose order predictions are.
    """

    headline = ("miou", "Mean IoU")

    def __init__(
        self,
        *,
        split: str,
        batch_size: int,
        every_steps: int = 0,
        threads: int = 2,
        name: str,
        source: core.Source,
        classes: Classes,
    ):
        self.split, self.batch_size, self.every_steps = split, batch_size, every_steps
        self.threads, self.name, self.source, self.classes = threads, name, source, classes

    def __len__(self) -> int:
        return len(self.source)

    def metrics(self) -> list[str]:
        """Return the names of what it logs."""
        return [f"{self.name}/{name}" for name in ("loss", *HEADLINES)]

    def evaluate(
        self, predictor: Predictor, *, step: int, progress: Progress, draw: bool
    ) -> Report:
        """Return the scores of a predictor; the loss as well where it measures one."""
        k = len(self.classes.class_names)
        total, losses = np.zeros((k, k), np.int64), Losses()
        scores = np.full(len(self.source), np.nan, np.float32)
        done = 0
        for counts, loss in predictor.measure(
            self.source, batch_size=self.batch_size, threads=self.threads
        ):
            for number, matrix in counts.items():
                total += matrix
                scores[number] = confusion.example_miou(matrix[None])[0]
            losses.add(loss)
            done += len(counts)
            progress.update(done)
        result = confusion.summarize(total, class_names=self.classes.class_names)
        loss = {"loss": losses.mean()} if losses.terms else {}
        about = {"num_examples": len(self.source), "split": self.split, "step": step}
        about |= {"num_pixels": int(total.sum())}
        scalars = loss | {name: float(result[name]) for name in HEADLINES}
        result |= loss | about
        named = {"mIoU": result["miou"], "pixel accuracy": result["pixel_accuracy"]}
        return Report(
            self.name,
            step,
            named | loss,
            {f"{self.name}/{name}": value for name, value in scalars.items()},
            result,
            [
                f"{self.name}: class {absent!r} occurs neither in labels nor in predictions"
                for absent in result["absent_classes"]
            ],
            self._figures(result, predictor, scores) if draw else {},
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
        rows: list[examples.Row] = []
        for title, index in picks.items():
            example = self.source[int(index)]
            rows.append(
                examples.Row(
                    title=title,
                    name=example["name"],
                    image=example["image"],
                    label=example["label"],
                    pred=predictor(example["image"]).classes,
                    miou=float(scores[index]),
                )
            )
        return rows

    def _figures(
        self, result: dict[str, Any], predictor: Predictor, scores: np.ndarray
    ) -> dict[str, Callable[[pathlib.Path], None]]:
        draw_examples = functools.partial(
            examples.draw,
            rows=self.examples(predictor, scores),
            palette=self.classes.palette,
            class_names=self.classes.class_names,
        )
        return {
            "class_iou": functools.partial(figures.class_iou, result=result),
            "confusion_matrix": functools.partial(figures.confusion_matrix, result=result),
            "examples": draw_examples,
        }


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
        """Return the loss over all batches."""
        return sum(
            factor * (total / max(weight, 1e-8)) for factor, total, weight in self.terms.values()
        )
