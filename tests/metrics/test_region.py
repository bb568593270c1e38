"""Sizes and the objects that are found, by hand and by counting."""

import numpy as np
import pytest

from segjax.metrics import region
from tests.metrics import scenes


def test_volumes_are_counted_in_the_spacings_unit():
    """12 voxels of 0.5 x 2 x 3 are 36; three quarters of them are predicted."""
    label, pred = np.zeros((2, 4, 6)), np.zeros((2, 4, 6))
    label[0, :3, :4] = pred[0, :3, 1:4] = 1
    label[1, 0, 0] = 255
    pred[1, 0, 0] = 1  # void has no volume
    metric = region.Volume(spacing=(0.5, 2.0, 3.0))
    found = metric.summarize([metric(scenes.seen(label, pred, 2))] * 2, class_names=("a", "b"))
    assert found.value == pytest.approx(0.25)
    assert found.detail["signed"] == {"a": None, "b": pytest.approx(-0.25)}
    assert found.detail["true"] == {"b": [36.0, 36.0]}
    assert found.detail["predicted"] == {"b": [27.0, 27.0]}


def test_signed_errors_may_cancel_but_the_value_does_not():
    small, large = np.zeros((4, 4)), np.zeros((4, 4))
    small[0, :2], large[0, :] = 1, 1
    metric = region.Volume()
    pairs = [(small, large), (large, small)]
    found = metric.summarize(
        [metric(scenes.seen(*pair, 2)) for pair in pairs], class_names=("a", "b")
    )
    assert found.value == pytest.approx((1 + 0.5) / 2)
    assert found.detail["signed"]["b"] == pytest.approx((1 - 0.5) / 2)


def test_objects_are_found_by_size():
    """Of size 1 one of two, of size 4 half (found), of size 12 a third (missed)."""
    label, pred = np.zeros((9, 12)), np.zeros((9, 12))
    label[0, 0] = label[2, 2] = pred[0, 0] = 1
    label[4:6, 0:2], pred[4, 0:2] = 1, 1
    label[4:7, 5:9], pred[4, 5:9] = 2, 2
    label[8, 11] = 255
    metric = region.SizeRecall(bounds=(2, 10))
    statistics = metric(scenes.seen(label, pred, 3))
    found = metric.summarize([statistics], class_names=("a", "b", "c"))
    sizes = found.detail["sizes"]
    assert {name: (each["objects"], each["recall"]) for name, each in sizes.items()} == {
        "1-1": (2, 0.5), "2-9": (1, 1.0), "10-": (1, 0.0),
    }  # fmt: skip
    assert sizes["10-"]["pixel_recall"] == pytest.approx(1 / 3)
    assert found.value == pytest.approx(0.5) and set(found.detail["per_class"]) == {"b", "c"}
    again = metric.summarize([statistics, statistics], class_names=("a", "b", "c"))
    assert again.detail["sizes"]["1-1"]["objects"] == 4 and again.value == found.value


def test_void_cuts_objects_and_diagonals_do_not_join_them():
    label = np.array([[1, 1, 255, 1, 0], [0, 0, 0, 0, 1]])
    counts = region.SizeRecall(bounds=(2,))(scenes.seen(label, label, 2))
    assert counts[1, :, 0].tolist() == [2, 1]
