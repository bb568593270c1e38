"""Borders by erosion step by step and by all pairs of pixels, as the papers have them."""

import numpy as np
import pytest
from scipy import ndimage

from segjax.metrics import boundary
from tests.metrics import scenes


def eroded(mask, times):
    """Return a mask after erosions by 3 x 3 (x 3) pixels, one after the other; outside is empty."""
    block = np.ones((3,) * mask.ndim, bool)
    return ndimage.binary_erosion(mask, block, iterations=times, border_value=0)


@pytest.mark.parametrize("shape", [(23, 31), (8, 9, 10), (40,)], ids=str)
@pytest.mark.parametrize("ratio", [0.01, 0.05, 0.2])
def test_boundary_iou_equals_erosion(shape, ratio):
    label, pred = scenes.maps(5, shape, void=0.0, right=0.9)
    width = max(1, int(round(ratio * np.linalg.norm(shape))))
    found = boundary.BoundaryIou(ratio=ratio)(scenes.seen(label, pred))
    for number in (1, 2, 3):
        rims = [mask & ~eroded(mask, width) for mask in (label == number, pred == number)]
        expected = np.sum(rims[0] & rims[1]) / np.sum(rims[0] | rims[1])
        assert found[number] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("shape", [(23, 31), (8, 9, 10), (40,)], ids=str)
@pytest.mark.parametrize("ratio", [0.01, 0.05])
def test_boundary_f1_equals_all_pairs(shape, ratio):
    label, pred = scenes.maps(6, shape, void=0.0, right=0.9)
    found = boundary.BoundaryF1(ratio=ratio)(scenes.seen(label, pred))
    limit = ratio * np.linalg.norm(shape)
    cross = ndimage.generate_binary_structure(len(shape), 1)
    for number in (1, 2, 3):
        masks = (label == number, pred == number)
        truth, guess = (
            np.argwhere(m & ~ndimage.binary_erosion(m, cross, border_value=0)) for m in masks
        )
        apart = np.linalg.norm(truth[:, None] - guess[None], axis=-1)
        recall, precision = (np.mean(apart.min(axis=axis) <= limit) for axis in (1, 0))
        f1 = 2 * precision * recall / (precision + recall)
        assert found[number] == pytest.approx(f1, rel=1e-12)


@pytest.mark.parametrize("metric", [boundary.BoundaryIou(), boundary.BoundaryF1()], ids=repr)
def test_void_and_perfect_predictions_and_single_pixels(metric):
    label, pred = scenes.maps(3, void=0.2)
    expected = metric(scenes.seen(label, pred))
    for other in range(4):
        changed = np.where(label == 255, other, pred)
        np.testing.assert_array_equal(metric(scenes.seen(label, changed)), expected)
    np.testing.assert_array_equal(metric(scenes.seen(label, label)), [np.nan, 1, 1, 1])
    far, one = np.zeros((9, 9)), np.zeros((9, 9))
    far[8, 8], one[0, 0] = 1, 1
    assert metric(scenes.seen(one, far, 2))[1] == 0 and metric(scenes.seen(one, one, 2))[1] == 1
