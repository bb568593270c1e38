"""Score a semantic model over a whole split: integers until the last division."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from segjax.data import core, pipeline
from segjax.metrics import confusion
from segjax.runtime import sharding
from segjax.structs import Batch

HEADLINES = ("miou", "dice", "pixel_accuracy", "mean_accuracy", "precision", "recall", "f1")


@dataclasses.dataclass(frozen=True)
class Report:
    """One evaluation.

    Attributes:
        scalars: `<name>/loss`, `<name>/miou`, …: what goes to the log.
        result: The content of `eval/<name>.json`.
        scores: mIoU of each example, in order; NaN where it holds no valid pixel.
    """

    scalars: dict[str, float]
    result: dict[str, Any]
    scores: np.ndarray


class Evaluator:
    """Run a model over every example of a split exactly once.

    Args:
        split: The split's name, for the report.
        batch_size: Images in a global batch; the last one is padded and masked.
        every_steps: How often training calls it; 0: only at the end.
        threads: Threads that read and decode.
        name: Its key in `config.evals`: prefix of its scalars and name of its file.
        source: The opened split.
        parts: Model, task, mesh, canvas (`assemble.Parts`).
    """

    def __init__(
        self,
        *,
        split: str,
        batch_size: int,
        every_steps: int = 0,
        threads: int = 2,
        name: str,
        source: Any,
        parts: Any,
    ):
        sharding.check_divides(
            batch_size, parts.canvas.size[0], parts.mesh, where=f"config.evals.{name}"
        )
        self.split, self.batch_size, self.every_steps = split, batch_size, every_steps
        self.threads, self.name, self.source, self.parts = threads, name, source, parts

    def metrics(self) -> list[str]:
        """Return the names of what it logs."""
        return [f"{self.name}/{name}" for name in ("loss", *HEADLINES)]

    def run(self, variables: Any, *, step: int, progress: Any) -> Report:
        """Evaluate `variables`, reporting to `progress` after every batch."""
        k = self.parts.task.num_classes
        total, scores, losses, done = np.zeros((k, k), np.int64), [], {}, 0
        for _, measured in self._measured(self.source, variables):
            valid = np.asarray(jax.device_get(measured["mask"]))
            counts = np.asarray(measured["counts"], np.int64)
            total += counts.sum(axis=0)
            scores.append(confusion.example_miou(counts)[valid])
            for name, term in jax.device_get(measured["loss"]).items():
                factor, value, weight = map(float, term)
                _, values, weights = losses.get(name, (factor, 0.0, 0.0))
                losses[name] = (factor, values + value, weights + weight)
            done += int(valid.sum())
            progress.update(done)
        result = confusion.summarize(total, class_names=self.parts.classes["class_names"])
        terms = {name: value / max(weight, 1e-8) for name, (_, value, weight) in losses.items()}
        loss = sum(losses[name][0] * mean for name, mean in terms.items())
        result |= {
            "loss": loss,
            "num_examples": len(self.source),
            "split": self.split,
            "step": step,
        }
        scalars = {"loss": loss} | {name: result[name] for name in HEADLINES}
        prefixed = {f"{self.name}/{name}": float(value) for name, value in scalars.items()}
        return Report(prefixed, result, np.concatenate(scores))

    def examples(self, variables: Any, scores: np.ndarray) -> list[dict[str, Any]]:
        """Return the best, median and worst example with image, truth and prediction."""
        order = np.argsort(np.nan_to_num(scores, nan=np.inf))[: np.isfinite(scores).sum()]
        if not len(order):
            return []
        picks = {"best": order[-1], "median": order[len(order) // 2], "worst": order[0]}
        chosen = core.Subset(self.source, [int(i) for i in picks.values()])
        rows = []
        for batch, measured in self._measured(chosen, variables):
            arrays = {"image": batch["image"], "label": batch["label"], "pred": measured["pred"]}
            arrays = sharding.fetch(arrays)
            for row in range(min(len(picks) - len(rows), self.batch_size)):
                title = list(picks)[len(rows)]
                index = int(picks[title])
                name = self.source[index]["name"]
                rows.append(
                    {"title": title, "name": name, "miou": float(scores[index])}
                    | {key: value[row] for key, value in arrays.items()}
                )
        return rows

    def _measured(self, source: Any, variables: Any) -> Iterator[tuple[Batch, Mapping[str, Any]]]:
        """Yield each batch with its measures, one late: the device works on the next meanwhile."""
        canvas, (block, blocks) = self.parts.canvas, sharding.row_block(self.parts.mesh)
        batches = pipeline.eval_batches(
            source,
            schema=self.parts.schema,
            batch_size=self.batch_size,
            size=canvas.size,
            fit=canvas.fit,
            pad_value=canvas.pad_value,
            process_index=block,
            process_count=blocks,
            threads=self.threads,
        )
        previous = None
        with contextlib.closing(batches):
            for batch in sharding.to_device(batches, self.parts.mesh, self.parts.schema):
                measured = self.parts.eval_step(variables, batch)
                if previous is not None:
                    yield previous
                previous = batch, measured
        if previous is not None:
            yield previous
