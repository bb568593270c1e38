"""Scores of the matrix alone, and the table of conventions, against others' formulas."""

import functools
import re

import numpy as np
import pytest
from sklearn import metrics as sklearn

from segjax.metrics import confusion, matrix
from tests import program
from tests.metrics import scenes

PAGE = (program.ROOT / "docs" / "metrics.md").read_text()
NAMES = ("a", "b", "c", "d")


def split(absent=(), images=3):
    """Return pixels of some images, void left out: label and prediction of each."""
    pairs = [scenes.maps(seed, absent=absent) for seed in range(images)]
    return [(label[label != 255].astype(int), pred[label != 255].astype(int))
            for label, pred in pairs]  # fmt: skip


def margins(pairs, k=4):
    counts = [confusion.counts_of(pred, label, num_classes=k) for label, pred in pairs]
    return np.stack([confusion.margins(each) for each in counts], axis=1)


def summary(metric, pairs):
    """Return what a metric says of some images."""
    return metric.summarize(list(margins(pairs).transpose(1, 0, 2)), class_names=NAMES)


def specificity(label, pred):
    """Return the recall of what is not of the class."""
    return sklearn.recall_score(~label, ~pred)


@pytest.mark.parametrize("absent", [(), (3,), (0, 2)], ids=str)
def test_scores_equal_scikit_learn(absent):
    """With classes that never occur: each score, that of each class against all others, that of
    all these decisions together, and the mean over images."""
    pairs = split(absent)
    y, p = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    here = [i for i in range(4) if i not in absent]
    oracles = {
        matrix.Kappa(): (sklearn.cohen_kappa_score, sklearn.cohen_kappa_score),
        matrix.Mcc(): (sklearn.matthews_corrcoef, sklearn.matthews_corrcoef),
        matrix.Specificity(): (
            specificity,
            lambda a, b: np.mean([specificity(a == i, b == i) for i in np.union1d(a, b)]),
        ),
        matrix.Fbeta(beta=0.5): (
            functools.partial(sklearn.fbeta_score, beta=0.5),
            functools.partial(sklearn.fbeta_score, beta=0.5, average="macro"),
        ),
        matrix.Fbeta(beta=3): (
            functools.partial(sklearn.fbeta_score, beta=3),
            functools.partial(sklearn.fbeta_score, beta=3, average="macro"),
        ),
    }
    for metric, (of_class, whole) in oracles.items():
        found = summary(metric, pairs)
        assert found.value == pytest.approx(whole(y, p), rel=1e-12), metric
        images = np.mean([whole(*pair) for pair in pairs])
        assert found.detail["per_image"] == pytest.approx(images, rel=1e-12), metric
        decisions = [(each[:, None] == range(4)).ravel() for each in (y, p)]
        assert found.detail["micro"] == pytest.approx(of_class(*decisions), rel=1e-12)
        for i, name in enumerate(NAMES):
            expected = of_class(y == i, p == i) if i in here else None
            got = found.detail["per_class"][name]
            assert got == (None if expected is None else pytest.approx(expected, rel=1e-12)), metric


def mean(values):
    return float(np.mean(values))


def of_table(score):
    """Return a toolkit's mean IoU made of (tp, fp, fn) of each class, over all images."""

    def found(pairs):
        hit, label, pred = margins(pairs).sum(axis=1).astype(float)
        return score(hit, pred - hit, label - hit)

    return found


def of_pixels(score):
    """Return a score of scikit-learn."""

    def found(pairs):
        return score(*(np.concatenate(parts) for parts in zip(*pairs, strict=True)))

    return found


def of_images(score):
    """Return a score of (tp, fp, fn), each [images classes]."""

    def found(pairs):
        hit, label, pred = margins(pairs).astype(float)
        return score(hit, pred - hit, label - hit)

    return found


def quiet(function):
    """Return a function that divides by 0 in silence, as the toolkits do."""

    def run(*arguments):
        with np.errstate(invalid="ignore", divide="ignore"):
            return function(*arguments)

    return run


def detectron2(tp, fp, fn):
    """Return acc, iou and the label's share of each class, and which of them are in the label."""
    valid = tp + fn > 0
    acc, iou = np.full(len(tp), np.nan), np.full(len(tp), np.nan)
    acc[valid] = tp[valid] / (tp + fn)[valid]
    iou[valid] = tp[valid] / (tp + fp + fn)[valid]
    return acc, iou, (tp + fn) / (tp + fn).sum(), valid


def smp_iou(tp, fp, fn):
    """Return `iou_score` before its mean: 0/0 is 1, its `zero_division`."""
    score = tp / (tp + fp + fn)
    return np.where(np.isnan(score), 1.0, score)


def keras(tp, fp, fn):
    """Return the sum of IoUs over the number of classes whose denominator is above 1e-9."""
    denominator = tp + fp + fn
    return np.nan_to_num(tp / denominator).sum() / (denominator > 1e-9).sum()


CONVENTIONS = {
    ("mmsegmentation", "aAcc"): of_table(lambda tp, fp, fn: tp.sum() / (tp + fn).sum()),
    ("mmsegmentation", "mAcc"): of_table(lambda tp, fp, fn: np.nanmean(tp / (tp + fn))),
    ("mmsegmentation", "mIoU"): of_table(lambda tp, fp, fn: np.nanmean(tp / (tp + fp + fn))),
    ("mmsegmentation", "mDice"): of_table(
        lambda tp, fp, fn: np.nanmean(2 * tp / (2 * tp + fp + fn))
    ),
    ("mmsegmentation", "mPrecision"): of_table(lambda tp, fp, fn: np.nanmean(tp / (tp + fp))),
    ("mmsegmentation", "mRecall"): of_table(lambda tp, fp, fn: np.nanmean(tp / (tp + fn))),
    ("mmsegmentation", "mIoU, nan_to_num=0"): of_table(
        lambda tp, fp, fn: mean(np.nan_to_num(tp / (tp + fp + fn), nan=0))
    ),
    ("Cityscapes", "IoU class"): of_table(
        lambda tp, fp, fn: mean([x for x in tp / (tp + fp + fn) if not np.isnan(x)])
    ),
    ("detectron2", "mIoU"): of_table(lambda *c: np.nanmean(detectron2(*c)[1])),
    ("detectron2", "fwIoU"): of_table(
        lambda *c: np.nansum(detectron2(*c)[1] * detectron2(*c)[2])
    ),
    ("detectron2", "mACC"): of_table(lambda *c: np.nanmean(detectron2(*c)[0])),
    ("detectron2", "pACC"): of_table(lambda tp, fp, fn: tp.sum() / (tp + fn).sum()),
    ("torchvision", "mean IoU"): of_table(lambda tp, fp, fn: mean(tp / (tp + fp + fn))),
    ("torchvision", "global correct"): of_table(lambda tp, fp, fn: tp.sum() / (tp + fn).sum()),
    ("PASCAL VOC", "average accuracy"): of_table(lambda tp, fp, fn: mean(tp / (tp + fp + fn))),
    ("smp", "iou_score, macro"): of_table(lambda *counts: mean(smp_iou(*counts))),
    ("smp", "iou_score, micro"): of_table(
        lambda tp, fp, fn: tp.sum() / (tp.sum() + fp.sum() + fn.sum())
    ),
    ("smp", "iou_score, macro-imagewise"): of_images(lambda *counts: mean(smp_iou(*counts))),
    ("smp", "iou_score, micro-imagewise"): of_images(
        lambda *counts: mean(smp_iou(*(each.sum(axis=1) for each in counts)))
    ),
    ("Ultralytics", "mIoU"): of_table(
        lambda tp, fp, fn: mean(np.where(tp + fp + fn > 0, tp / (tp + fp + fn), 0))
    ),
    ("Keras", "MeanIoU, until April 2026"): of_table(keras),
    ("Keras", "MeanIoU, since May 2026"): of_table(
        lambda tp, fp, fn: mean(np.where(tp + fp + fn > 0, tp / (tp + fp + fn), 1))
    ),
    ("scikit-learn", "jaccard_score, macro"): of_pixels(
        lambda y, p: sklearn.jaccard_score(y, p, average="macro")
    ),
    ("scikit-learn", "jaccard_score, macro, labels"): of_pixels(
        lambda y, p: sklearn.jaccard_score(
            y, p, average="macro", labels=range(4), zero_division=0
        )
    ),
    ("scikit-learn", "jaccard_score, micro"): of_pixels(
        lambda y, p: sklearn.jaccard_score(y, p, average="micro")
    ),
    ("scikit-learn", "jaccard_score, weighted"): of_pixels(
        lambda y, p: sklearn.jaccard_score(y, p, average="weighted")
    ),
    ("scikit-learn", "balanced_accuracy_score"): of_pixels(sklearn.balanced_accuracy_score),
}  # fmt: skip
"""Each toolkit's own formula in a few lines, on the pixels that are not void."""
NO_ABSENT = {("torchvision", "mean IoU"), ("PASCAL VOC", "average accuracy")}
"""A class that never occurs makes them NaN."""
ROWS = {
    (toolkit, name.strip("`")): ours
    for toolkit, name, ours in re.findall(r"^\| ([\w -]+) \| (`[^|]+`) \| `(\w+)` \|", PAGE, re.M)
}


def test_the_table_of_conventions_has_all_of_them():
    assert set(ROWS) == set(CONVENTIONS) and len(ROWS) == 27


@pytest.mark.parametrize("absent", [(), (3,), (0, 2)], ids=str)
@pytest.mark.parametrize("row", CONVENTIONS, ids=" ".join)
def test_each_convention_is_the_toolkits_own(row, absent):
    """With a class that occurs nowhere, one in the prediction alone and one in the label alone."""
    pairs = split(absent)
    pairs[0][1][0] = 3 if 3 not in absent else 1
    if not absent:  # class 2 is never predicted
        pairs = [(label, np.where(pred == 2, 1, pred)) for label, pred in pairs]
        pairs = [(np.where(label == 3, 0, label), pred) for label, pred in pairs]
    counts = margins(pairs)
    total = sum(confusion.counts_of(pred, label, num_classes=4) for label, pred in pairs)
    result = confusion.summarize(total, class_names=NAMES) | confusion.image_means(counts)
    theirs = quiet(CONVENTIONS[row])(pairs)
    if row in NO_ABSENT and absent:
        assert np.isnan(theirs)
    else:
        assert result[ROWS[row]] == pytest.approx(theirs, rel=1e-12)


def test_scores_of_each_image_are_scikit_learns():
    """Macro over the classes of an image, then over images; one of nothing but void is left out."""
    pairs = [*split((1,)), (np.zeros(0, int), np.zeros(0, int))]
    found = confusion.image_means(margins(pairs))
    macro = {"average": "macro", "zero_division": 0}
    expected = {
        "iou": sklearn.jaccard_score, "dice": sklearn.f1_score, "f1": sklearn.f1_score,
        "precision": sklearn.precision_score, "recall": sklearn.recall_score,
    }  # fmt: skip
    for name, score in expected.items():
        value = np.mean([score(y, p, **macro) for y, p in pairs[:3]])
        assert found["per_image"][name] == pytest.approx(value, rel=1e-12), name
    accuracy = np.mean([np.mean(y == p) for y, p in pairs[:3]])
    assert found["per_image"]["accuracy"] == pytest.approx(accuracy, rel=1e-12)
    assert found["miou_per_image"] == found["per_image"]["iou"]


@pytest.mark.parametrize("metric", [matrix.Kappa(), matrix.Mcc()])
def test_one_class_alone_says_nothing(metric):
    found = metric.summarize([np.array([[7, 0]] * 3)], class_names=("a", "b"))
    assert found.value is None and found.detail["per_class"] == {"a": None, "b": None}


def test_billions_of_pixels_do_not_overflow():
    """Counts as a split of volumes has them: their products are beyond 64 bits."""
    small = np.array([[40, 30], [50, 60], [60, 50]])
    for metric in (matrix.Kappa(), matrix.Mcc(), matrix.Specificity(), matrix.Fbeta()):
        assert metric.score(small * 10**12) == pytest.approx(metric.score(small), rel=1e-12)
