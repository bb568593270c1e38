"""Masks ranked by cleanlab's segmentation: how many pixels of each image have a wrong label."""

import functools

import numpy as np

from tests.golden.outside import theirs
from tests.outside import recorded

PACKAGES = ("cleanlab",)
CASES: theirs.Cases = {}
IMAGES, SIDE = 12, 16


def example(classes: int, sure: float) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities [n h w k] of a model that is so sure, and labels with planted faults.

    Of image `i` the first `i` rows have another class than the truth.
    """
    shape = (IMAGES, SIDE, SIDE)
    truth = np.floor((recorded.noise("truth", shape) / 3.47 + 0.5) * classes).astype(int)
    truth = np.clip(truth.repeat(4, 1).repeat(4, 2)[:, :SIDE, :SIDE], 0, classes - 1)
    logits = recorded.noise(f"logits {sure}", (*shape, classes))
    logits += sure * (truth[..., None] == np.arange(classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    label = truth.copy()
    for number in range(IMAGES):
        label[number, :number] = (label[number, :number] + 1) % classes
    return probabilities, label


def ranked(classes: int, sure: float) -> recorded.Case:
    """Return the case of a model that is so sure."""
    from cleanlab import count
    from cleanlab.segmentation import rank

    probabilities, label = example(classes, sure)
    flat = probabilities.reshape(-1, classes)
    thresholds = count.get_confident_thresholds(label.ravel(), flat)
    scores, _ = rank.get_label_quality_scores(
        label, np.moveaxis(probabilities, -1, 1), method="num_pixel_issues", verbose=False
    )
    about = {"classes": classes, "sure": sure}
    return theirs.function(about, thresholds=thresholds, wrong=1 - scores)


for classes, sure in ((2, 3.0), (3, 2.0), (5, 4.0)):
    CASES[f"ranked-{classes}-{sure:g}"] = functools.partial(ranked, classes, sure)
