"""What all metrics promise, and that docs/metrics.md says the same."""

import re

import numpy as np
import pytest

from segjax.config import lookup
from segjax.data import lazy
from segjax.metrics import confusion
from segjax.metrics.base import PerExample, Seen
from tests import program
from tests.metrics import scenes
from tests.metrics.test_matrix import PAGE

NAMES = ("a", "b")
METRICS = {
    name: lookup.build("metrics", {"type": type_}, where="x", takes=("seen",))
    for name, type_ in scenes.short_names().items()
}
LISTED = re.findall(r"^\| `(\w+)` \| `(\w+:\w+)` \| .* \| (\w+) \|$", PAGE, re.M)
TABLE = PAGE.partition("## Where a class is missing")[2].partition("## Whose")[0]
EMPTY = {
    name: dict(zip(("truth", "prediction", "both"), row[1:], strict=True))
    for row in re.findall(r"^\| (`[^|]+`) \| (\w+) \| (\w+) \| (\w+) \|$", TABLE, re.M)
    for name in re.findall(r"`(\w+)`", row[0])
}


def test_the_table_of_metrics_has_all_of_them():
    assert {name: type_ for name, type_, _ in LISTED} == scenes.short_names()
    assert len(LISTED) == len(METRICS) == 17
    assert f"and {len(METRICS) - 3} more" in (program.ROOT / "README.md").read_text()
    assert {"hd95", "assd", "surface_dice", "boundary_iou", "boundary_f1", "ece", "brier", "auroc",
            "specificity", "kappa", "mcc"} < set(METRICS)  # fmt: skip


@pytest.mark.parametrize(("name", "_type", "sees"), LISTED)
def test_each_asks_for_what_the_table_says_it_sees(name, _type, sees):
    """So nobody pays for a prediction that no metric needs: it is the whole cost."""
    label, pred = scenes.maps(0)
    whole, asked = scenes.seen(label, pred), []

    def read():
        asked.append("labels")
        return whole.example

    def predict(image):
        asked.append("classes")
        classes, probabilities = whole.predict(image)
        return classes, lambda: asked.append("probabilities") or probabilities()

    METRICS[name](Seen(whole.margins, read, predict))
    costs = ["labels", "classes", "probabilities"]
    assert asked == costs[: ["counts", *costs].index(sees)]


def masks(empty):
    """Return label and prediction of 4 x 4 pixels, of which class 1 has four, two, or none."""
    label, pred = np.zeros((4, 4)), np.zeros((4, 4))
    if empty == "prediction":
        label[1, :] = 1
    elif empty == "truth":
        pred[1:3, 1:3] = 1
    return label, pred


def test_every_metric_says_what_it_does_where_a_class_is_missing():
    of_matrix = {"iou", "dice", "f1", "precision", "recall"}
    assert set(EMPTY) == of_matrix | set(METRICS) - {"temperature"}


@pytest.mark.parametrize("empty", ["truth", "prediction", "both"])
@pytest.mark.parametrize("name", EMPTY)
def test_where_a_class_is_missing(name, empty):
    """The table's cell is what the metric gives for class b."""
    cell, seen = EMPTY[name][empty], scenes.seen(*masks(empty), 2)
    infinite = 0
    if name in METRICS:
        metric = METRICS[name]
        summary = metric.summarize([metric(seen)], class_names=NAMES)
        value = summary.detail["per_class"].get("b") if name != "size_recall" else summary.value
        infinite = summary.detail.get("infinite", {}).get("b", 0)
        if isinstance(metric, PerExample):
            assert summary.value == value
    else:
        label, pred = masks(empty)
        counts = confusion.counts_of(pred.astype(int), label.astype(int), num_classes=2)
        value = confusion.summarize(counts, class_names=NAMES)["per_class"]["b"][name]
    assert infinite == (cell == "infinite")
    if cell == "counted":
        assert 0 < value < 1
    else:
        assert value == {"none": None, "infinite": None, "0": 0, "1": 1}[cell]


@pytest.mark.parametrize("name", METRICS)
def test_what_is_reported_is_json_and_void_images_say_nothing(name):
    """Of an image of nothing but void every metric has statistics, and no value."""
    import json

    metric = METRICS[name]
    void = metric(scenes.seen(np.full((5, 6), 255), np.ones((5, 6)), 4))
    names = ("a", "b", "c", "d")
    summary = metric.summarize([void], class_names=names)
    assert summary.value is None
    json.dumps(dict(summary.detail), allow_nan=False)
    label, pred = scenes.maps(0, absent=(2,))
    own = metric(scenes.seen(label, pred))
    alone = metric.summarize([own], class_names=names)
    both = metric.summarize([own, void], class_names=names)
    json.dumps(dict(both.detail), allow_nan=False)
    assert alone.value is not None and both.value == alone.value


@pytest.mark.parametrize("shape", [(60,), (5, 6, 7)], ids=str)
@pytest.mark.parametrize("name", METRICS)
def test_signals_and_volumes_are_measured_too(name, shape):
    metric = METRICS[name]
    label, pred = scenes.maps(4, shape)
    summary = metric.summarize([metric(scenes.seen(label, pred))], class_names=tuple("abcd"))
    assert summary.value is not None and np.isfinite(summary.value)


@pytest.mark.parametrize("name", METRICS)
def test_labels_that_are_read_a_part_at_a_time_are_read_whole(name):
    """A source gives those of large files so; each metric says the same of them."""
    metric = METRICS[name]
    label, pred = scenes.maps(2)
    whole = scenes.seen(label, pred)
    example = whole.example | {
        "label": lazy.Lazy(label.shape, "uint8", label.__getitem__, name="x")
    }
    parts = Seen(whole.margins, lambda: example, whole.predict)
    ours, theirs = (
        metric.summarize([metric(each)], class_names=tuple("abcd")) for each in (parts, whole)
    )
    assert ours.value == theirs.value is not None and ours.detail == theirs.detail
