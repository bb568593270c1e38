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

    Arguments and what is logged of each class are those of `semantic.Evaluator`, but `metrics`,
    which are of class maps. Means are over the
    classes that occur in label or prediction, see `confusion.summarize_binary`; there is no
    background to leave out.
    """

    headlines = HEADLINES
    shown: Mapping[str, str] = {"mIoU": "miou", "Dice": "dice"}
    kind: Kind = "labels"
    parts: tuple[str, ...] = confusion.BINARY_MARGINS
    counted = "num_answers"

    def margins(self, counts: np.ndarray) -> np.ndarray:
        """Return what the scores of some counts are made of, see `confusion.binary_margins`."""
        return confusion.binary_margins(counts)

    def summarize(self, counted: semantic.Counted) -> dict[str, Any]:
        """Return the scores of a split, see `summarize_binary` and `binary_image_means`."""
        found = confusion.summarize_binary(counted.total, class_names=self.classes.class_names)
        return found | confusion.binary_image_means(counted.margins)

    def _scores_logged(self) -> list[str]:
        return list(self.headlines)

    def _drawn(self, rows: list[examples.Row]) -> Callable[[pathlib.Path], None]:
        pairs, palette, legend = overlaps.flatten(
            [(row["label"], row["pred"]) for row in rows],
            self.classes.palette,
            self.classes.class_names,
        )
        flat: list[examples.Row] = [
            {**row, "label": label, "pred": pred}
            for row, (label, pred) in zip(rows, pairs, strict=True)
        ]
        return functools.partial(examples.draw, rows=flat, palette=palette, legend=legend)

    def _figures(
        self, result: dict[str, Any], predictor: Predictor, scores: np.ndarray
    ) -> dict[str, Callable[[pathlib.Path], None]]:
        return {
            "class_iou": functools.partial(figures.class_iou, result=result),
            "class_answers": functools.partial(figures.class_answers, result=result),
            "examples": self._drawn(self.examples(predictor, scores)),
        }
