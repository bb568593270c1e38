"""The confusion matrix, and every number that segjax reports from it.

Counting happens on the device in int32 (at most 2^31 pixels a call); the sum over a split is kept
on the host in int64, where merging is addition: no batch size, padding or process count can move an
integer. `summarize` divides once, at the end.

Per-example scatter-add, because it is exact, needs no one-hot in memory, and partitions along batch
and rows with an all-reduce of matrices alone (`jnp.bincount` over the batch gathers all labels).
On CPU it takes 4 ms for 8 x 360 x 480 pixels of 11 classes, a float32 one-hot contraction 16 to 40;
for 2 images of 150 classes 1 ms against 110 to 430.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int, Int32, Int64, Integer

from segjax.errors import DataError
from segjax.structs import IGNORE_LABEL, Label

Counts = Int[np.ndarray, "... k"]


def counts_per_example(
    pred: Int[Array, "b *space"], label: Label, *, num_classes: int
) -> Int32[Array, "b k k"]:
    """Count the pixels of each example by true class (row) and predicted class (column).

    Void pixels are left out, and so is every pixel whose label or prediction is outside 0..K-1.
    """

    def count(pred: Array, label: Array) -> Array:
        valid = (label >= 0) & (label < num_classes) & (label != IGNORE_LABEL) & (pred >= 0)
        row = jnp.where(valid, label, num_classes)  # out of bounds, therefore dropped
        matrix = jnp.zeros((num_classes, num_classes), jnp.int32)
        return matrix.at[row, pred].add(1, mode="drop")

    return jax.vmap(count)(pred.astype(jnp.int32), label.astype(jnp.int32))


def counts_of(
    pred: Integer[np.ndarray, "*space"], label: Integer[np.ndarray, "*space"], *, num_classes: int
) -> Int64[np.ndarray, "k k"]:
    """Count one example on the host, as `counts_per_example` does on the device."""
    pred, label = pred.astype(np.int64), label.astype(np.int64)
    valid = (label < num_classes) & (label != IGNORE_LABEL) & (label >= 0)
    valid &= (pred >= 0) & (pred < num_classes)
    cells = np.bincount(label[valid] * num_classes + pred[valid], minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def example_miou(counts: Int[np.ndarray, "b k k"]) -> Float32[np.ndarray, " b"]:
    """Return each example's mean IoU over the classes in prediction or label; NaN if all void."""
    hit, label, pred = margins(counts)
    union = label + pred - hit
    present = np.sum(union > 0, axis=1)
    mean = np.sum(_divide(hit, union), axis=1) / np.maximum(present, 1)
    return np.where(present > 0, mean, np.nan).astype(np.float32)


def summarize(confusion: Int64[np.ndarray, "k k"], *, class_names: Sequence[str]) -> dict[str, Any]:
    """Return the scores of a whole split, ready for JSON: fractions of 1, from void-free counts.

    A class in neither label nor prediction is *absent*: listed in `absent_classes`, `None` in
    `per_class`, and in no mean. A class in only one of the two scores 0 in each of `iou`, `dice`,
    `precision`, `recall` and `f1`, also where its precision or recall alone is 0/0.

    - `miou`, `dice`, `precision`, `recall`, `f1`: means over the classes that are not absent. Dice
      and F1 of a class are one number, 2 TP / (2 TP + FP + FN), under the two names in use.
    - `pixel_accuracy`: correct pixels over all. `mean_accuracy`: mean recall of the classes that
      occur in the label.

    Mean IoU as other toolkits define it, from the same matrix, each under a name of its own:

    - `miou`: also mmsegmentation (`mIoU`), scikit-learn (`jaccard_score`, macro, no `labels`).
    - `miou_label_present`: over the classes in the label: detectron2 (`mIoU`).
    - `miou_absent_zero`: over all K, an absent class scoring 0: scikit-learn with all K `labels`,
      mmsegmentation with `nan_to_num=0`.
    - `miou_absent_one`: over all K, an absent class scoring 1: segmentation_models.pytorch
      (`iou_score`, reduction 'macro', its default `zero_division`).
    - `miou_micro`: TP, FP and FN summed over the classes first: the same with reduction 'micro'.
    - `miou_frequency_weighted`: weighted by the label's pixels: detectron2 (`fwIoU`).
    - `miou_foreground`: `miou` without class 0; None if no other class occurs.
    - `precision_predicted`: mean precision of the classes that are predicted: mmsegmentation.

    torchvision's reference takes the mean over all K with 0/0 for an absent class, which is NaN;
    without absent classes it is `miou`. docs/metrics.md has the whole table.

    Raises:
        DataError: No valid pixel, or names that do not fit the matrix.
    """
    confusion = np.asarray(confusion, np.int64)
    _check_matrix(confusion, class_names)
    hit, label, pred = margins(confusion)
    scores, present = class_scores(hit, label, pred), label + pred > 0
    return {
        **means(hit, label, pred),
        "per_class": {
            name: {key: float(value[i]) if present[i] else None for key, value in scores.items()}
            | {"pixels": int(label[i]), "pixels_pred": int(pred[i])}
            for i, name in enumerate(class_names)
        },
        "absent_classes": [
            name for name, here in zip(class_names, present, strict=True) if not here
        ],
        "confusion_matrix": confusion.tolist(),
    }


def margins(confusion: Int[np.ndarray, "... k k"]) -> Int[np.ndarray, "3 ... k"]:
    """Return what scores are made of: pixels found, in the label, and predicted, of each class."""
    hit = np.diagonal(confusion, axis1=-2, axis2=-1)
    return np.stack([hit, confusion.sum(axis=-1), confusion.sum(axis=-2)])


def class_scores(hit: Counts, label: Counts, pred: Counts) -> dict[str, np.ndarray]:
    """Return the scores of each class, 0 where there is nothing to divide by."""
    return {
        "iou": _divide(hit, label + pred - hit),
        "dice": _divide(2 * hit, label + pred),
        "precision": _divide(hit, pred),
        "recall": _divide(hit, label),
        "f1": _divide(2 * hit, label + pred),
    }


def means(hit: Counts, label: Counts, pred: Counts) -> dict[str, float | None]:
    """Return all numbers of `summarize` that are of a whole split; None where there is none.

    At least one pixel must be in the label.
    """
    scores = class_scores(hit, label, pred)
    iou, union, total = scores["iou"], label + pred - hit, label.sum()
    present = union > 0
    foreground, predicted = iou[1:][present[1:]], scores["precision"][pred > 0]
    return {
        "miou": float(iou[present].mean()),
        "dice": float(scores["dice"][present].mean()),
        "pixel_accuracy": float(hit.sum() / total),
        "mean_accuracy": float(scores["recall"][label > 0].mean()),
        "precision": float(scores["precision"][present].mean()),
        "recall": float(scores["recall"][present].mean()),
        "f1": float(scores["f1"][present].mean()),
        "precision_predicted": float(predicted.mean()),
        "miou_label_present": float(iou[label > 0].mean()),
        "miou_absent_zero": float(iou.mean()),
        "miou_absent_one": float(np.where(present, iou, 1).mean()),
        "miou_micro": float(hit.sum() / union.sum()),
        "miou_frequency_weighted": float((iou * label).sum() / total),
        "miou_foreground": float(foreground.mean()) if foreground.size else None,
    }


def image_means(counts: Int[np.ndarray, "3 n k"]) -> dict[str, Any]:
    """Return means over the scores of examples; one of nothing but void does not count.

    - `miou_per_image`: of each example over the classes in its label or prediction.
    - `miou_absent_one_per_image`: over all K, an absent class scoring 1:
      segmentation_models.pytorch (`iou_score`, reduction 'macro-imagewise').
    - `miou_micro_per_image`: TP, FP and FN summed over the classes of an example: the same with
      reduction 'micro-imagewise'.
    - `per_image`: the first for every other score, `accuracy` being an example's correct pixels.

    Args:
        counts: `margins` of each example; at least one has a pixel.
    """
    hit, label, pred = counts[:, counts[1].any(axis=-1)]
    union, present = label + pred - hit, label + pred > 0
    scores = class_scores(hit, label, pred)

    def mean(values: np.ndarray) -> float:
        return float(np.mean(np.sum(values * present, axis=-1) / present.sum(axis=-1)))

    return {
        "miou_per_image": mean(scores["iou"]),
        "miou_absent_one_per_image": float(np.where(present, scores["iou"], 1).mean()),
        "miou_micro_per_image": float(np.mean(hit.sum(axis=-1) / union.sum(axis=-1))),
        "per_image": {name: mean(values) for name, values in scores.items()}
        | {"accuracy": float(np.mean(hit.sum(axis=-1) / label.sum(axis=-1)))},
    }


def _divide(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Divide counts, 0/0 being 0."""
    return above / np.maximum(below, 1)


def _check_matrix(confusion: np.ndarray, class_names: Sequence[str]) -> None:
    """Raise DataError unless the matrix holds pixels, and one name for each of its classes."""
    num_classes = len(class_names)
    if confusion.shape != (num_classes, num_classes):
        raise DataError(
            f"confusion matrix of shape {confusion.shape} for {num_classes} class names, expected"
            f" {(num_classes, num_classes)}. Give the class names of the data it was counted on."
        )
    if len(set(class_names)) != num_classes:
        twice = sorted({name for name in class_names if list(class_names).count(name) > 1})
        raise DataError(
            f"class names {', '.join(twice)} occur more than once, expected {num_classes} different"
            " ones: scores are reported by name. Rename them in the data set's class_names."
        )
    if not confusion.any():
        raise DataError(
            "no valid pixel in the split, expected at least one label that is not void (255)."
            " Check the split's labels and its ignore_index."
        )
