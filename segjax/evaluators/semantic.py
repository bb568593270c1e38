"""Score class maps over a whole split: integers until the last division."""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from segjax.data import core, fit, pipeline
from segjax.evaluators.report import Report
from segjax.inference.predictor import Predictor
from segjax.metrics import confusion
from segjax.runtime import sharding
from segjax.structs import Batch, Classes, Schema
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
        canvas: What images and labels are fitted to.
        schema: The fields of a batch.
        mesh: Over which batches are split.

    Raises:
        ConfigError: The mesh cannot split such a batch.
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
        canvas: fit.Canvas,
        schema: Schema,
        mesh: Mesh,
    ):
        sharding.check_divides(batch_size, canvas.size[0], mesh, where=f"config.evals.{name}")
        self.split, self.batch_size, self.every_steps = split, batch_size, every_steps
        self.threads, self.name, self.source, self.classes = threads, name, source, classes
        self.canvas, self.schema, self.mesh = canvas, schema, mesh

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
        total, scores, losses, done = np.zeros((k, k), np.int64), [], Losses(), 0
        for _, measured in self._measured(self.source, predictor):
            valid = np.asarray(jax.device_get(measured["mask"]))
            counts = np.asarray(measured["counts"], np.int64)
            total += counts.sum(axis=0)
            scores.append(confusion.example_miou(counts)[valid])
            losses.add(jax.device_get(measured.get("loss", {})))
            done += int(valid.sum())
            progress.update(done)
        result = confusion.summarize(total, class_names=self.classes.class_names)
        loss = {"loss": losses.mean()} if losses.terms else {}
        about = {"num_examples": len(self.source), "split": self.split, "step": step}
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
            self._figures(result, predictor, np.concatenate(scores)) if draw else {},
        )

    def examples(self, predictor: Predictor, scores: np.ndarray) -> list[examples.Row]:
        """Return the best, median and worst example with image, truth and prediction.

        Args:
            predictor: Predicts them once more.
            scores: mIoU of each example, in order; NaN where it holds no valid pixel.
        """
        order = np.argsort(np.nan_to_num(scores, nan=np.inf))[: np.isfinite(scores).sum()]
        if not len(order):
            return []
        picks = {"best": order[-1], "median": order[len(order) // 2], "worst": order[0]}
        chosen = core.Subset(self.source, [int(i) for i in picks.values()])
        rows: list[examples.Row] = []
        for batch, measured in self._measured(chosen, predictor):
            arrays = {"image": batch["image"], "label": batch["label"], "pred": measured["pred"]}
            arrays = sharding.fetch(arrays)
            for row in range(min(len(picks) - len(rows), self.batch_size)):
                title = list(picks)[len(rows)]
                index = int(picks[title])
                rows.append(
                    examples.Row(
                        title=title,
                        name=self.source[index]["name"],
                        miou=float(scores[index]),
                        **{key: value[row] for key, value in arrays.items()},
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

    def _measured(
        self, source: core.Source, predictor: Predictor
    ) -> Iterator[tuple[Batch, Mapping[str, Any]]]:
        """Yield each batch with its measures, one late: the device works on the next meanwhile."""
        block, blocks = sharding.row_block(self.mesh)
        batches = pipeline.eval_batches(
            source,
            schema=self.schema,
            batch_size=self.batch_size,
            size=self.canvas.size,
            fit=self.canvas.fit,
            pad_value=self.canvas.pad_value,
            process_index=block,
            process_count=blocks,
            threads=self.threads,
        )
        previous = None
        with contextlib.closing(batches):
            for batch in sharding.to_device(batches, self.mesh, self.schema):
                measured = predictor.measure(batch)
                if previous is not None:
                    yield previous
                previous = batch, measured
        if previous is not None:
            yield previous


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
