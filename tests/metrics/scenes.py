"""Examples with a prediction, as metrics see them."""

import numpy as np

from segjax.evaluators.chosen import short_names
from segjax.metrics import confusion
from segjax.metrics.base import Seen

__all__ = ["maps", "seen", "short_names"]


def maps(seed, shape=(11, 13), num_classes=4, absent=(), void=0.1, right=0.7):
    """Return label and prediction in blobs, uint8, without some classes, with some void."""
    random = np.random.default_rng(seed)
    classes = np.setdiff1d(np.arange(num_classes), absent)
    coarse = random.choice(classes, [-(-side // 3) for side in shape])
    label = coarse
    for axis in range(len(shape)):
        label = np.repeat(label, 3, axis)
    label = label[tuple(map(slice, shape))].astype(np.uint8)
    noise = random.choice(classes, shape).astype(np.uint8)
    pred = np.where(random.random(shape) < right, label, noise)
    label = np.where(random.random(shape) < void, 255, label)
    return label.astype(np.uint8), pred.astype(np.uint8)


def seen(label, pred, num_classes=4, probabilities=None, **fields):
    """Return what a metric is given; `probabilities` defaults to 0.9 for the prediction."""
    label, pred = np.asarray(label, np.uint8), np.asarray(pred, np.uint8)

    def probs():
        if probabilities is not None:
            return probabilities
        rest = np.full(num_classes, 0.1 / max(num_classes - 1, 1), np.float32)
        return np.where(np.arange(num_classes) == pred[..., None], np.float32(0.9), rest)

    counts = confusion.counts_of(pred, label, num_classes=num_classes)
    example = {"image": pred[..., None], "label": label, "name": "x", **fields}
    return Seen(confusion.margins(counts), lambda: example, lambda image: (pred, probs))
