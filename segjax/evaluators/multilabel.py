"""Score multi-label maps over a whole split, each class by itself: integers until the end."""

import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from segjax.evaluators import semantic
from segjax.inference.predictor import Predictor
from segjax.metrics import confusion
from segjax.structs import Kind
from segjax.views import examples, figures, overlaps

HEADLINES = ("miou", "dice", "accuracy", "label_accuracy", "precision", "recall", "f1")


class Evaluator(semantic.Evaluator):
    """Compare a predictor of multi-label maps with every example of a split exactly once.

    Arguments and what is logged of each class are those of `semantic.Evaluator`. Means are over the
    classes that occur in label or prediction, see `confusion.summarize_binary`; there is no
    background to leave out.
    """

    headlines = HEADLINES
    shown: Mapping[str, str] = {"mIoU": "miou", "Dice": "dice"}
    kind: Kind = "labels"
    counted = "num_answers"

    def summarize(self, total: np.ndarray) -> dict[str, Any]:
        """Return the scores of a split from its counts, see `confusion.summarize_binary`."""
        return confusion.summarize_binary(total, class_names=self.classes.class_names)

    def score(self, counts: np.ndarray) -> float:
        """Return the mean IoU of one example; NaN where no class is in label or prediction."""
        return float(confusion.binary_example_miou(counts[None])[0])

    def _scores_logged(self) -> list[str]:
        return list(self.headlines)

    def _figures(
        self, result: dict[str, Any], predictor: Predictor, scores: np.ndarray
    ) -> dict[str, Callable[[pathlib.Path], None]]:
        rows = self.examples(predictor, scores)
        pairs, palette, legend = overlaps.flatten(
            [(row["label"], row["pred"]) for row in rows],
            self.classes.palette,
            self.classes.class_names,
        )
        flat: list[examples.Row] = [
            {**row, "label": label, "pred": pred}
            for row, (label, pred) in zip(rows, pairs, strict=True)
        ]
        return {
            "class_iou": functools.partial(figures.class_iou, result=result),
            "class_answers": functools.partial(figures.class_answers, result=result),
            "examples": functools.partial(examples.draw, rows=flat, palette=palette, legend=legend),
        }
