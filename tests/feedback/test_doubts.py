"""Masks that were moved or renamed are told from right ones that are predicted badly."""

import numpy as np
import pytest

from segjax.feedback import doubts, gate

NAMES = ("ground", "disc", "ring", "bar")


def scenes(count=12, sides=(96, 80), seed=0):
    """Return masks of rectangles of three classes."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        label = np.zeros(sides, np.uint8)
        for number in (1, 2, 3):
            y, x = (int(rng.integers(0, side - 24)) for side in sides)
            label[y : y + int(rng.integers(12, 24)), x : x + int(rng.integers(12, 24))] = number
        found.append(label)
    return found


def predicted(label, seed=0, wrong=0.3):
    """Return a bad prediction: a share of the pixels is noise, and bars are not seen."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 4, label.shape).astype(np.uint8)
    pred = np.where(rng.random(label.shape) < wrong, noise, label)
    return np.where(pred == 3, 0, pred).astype(np.uint8)


def doubt(change):
    return doubts.doubt(
        [(change(label).astype(np.uint8), predicted(label, n)) for n, label in enumerate(scenes())],
        NAMES,
    )


def test_right_masks_raise_none():
    def void(label):
        label = label.copy()
        label[:, :40] = 255
        return label

    for change in (lambda label: label, void):
        found = doubt(change)
        assert found.classes == 4 and found.moved <= 0.1 and found.renamed < 0.02, found
    nothing = doubts.doubt([], NAMES)
    assert nothing.classes == 0 and np.isnan(nothing.moved) and nothing.renamed == 0


@pytest.mark.parametrize("move", [(5, 0), (0, -7), (12, 9), (-15, 4)])
def test_moved_masks_are_seen(move):
    found = doubt(lambda label: np.roll(label, move, (0, 1)))
    assert found.moved >= 0.9
    np.testing.assert_allclose(found.move, move, atol=1)


def test_predictions_that_mean_nothing_move_no_mask():
    """Where each mask fits best is chance then, and of the names none is better."""
    labels = scenes()
    noise = [predicted(label, n, wrong=0.98) for n, label in enumerate(labels)]
    others = [*labels[1:], labels[0]]
    for preds in (noise, others, [np.zeros_like(label) for label in labels]):
        found = doubts.doubt(zip(labels, preds, strict=True), NAMES)
        assert not found.moved > 0.3 and found.renamed < 0.3, found


def test_exchanged_names_are_seen():
    names = np.arange(256)
    names[[1, 2]] = 2, 1
    found = doubt(lambda label: names[label])
    assert found.renamed > 0.6 and {*found.names} == {("disc", "ring"), ("ring", "disc")}
    names[:4] = 1, 2, 3, 0
    assert doubt(lambda label: names[label]).renamed > gate.Bounds().most_renamed


def test_one_class_is_counted():
    assert doubt(np.zeros_like).classes == 1


def test_the_best_move_is_that_of_trying_all():
    label = np.zeros((20, 24), np.uint8)
    label[4:9, 6:15], label[12:18, 2:9], label[0] = 1, 2, 255
    pred = np.roll(label, (-2, 3), (0, 1)) % 255
    best, gain = doubts.best_move(label, pred, 3)
    tried = {}
    for y in range(-5, 6):
        for x in range(-6, 7):
            a = label[max(0, -y) : 20 - max(0, y), max(0, -x) : 24 - max(0, x)]
            b = pred[max(0, y) : 20 + min(0, y), max(0, x) : 24 + min(0, x)]
            tried[y, x] = float((a == b)[a != 255].mean())
    assert tried[best] == pytest.approx(max(tried.values()))
    assert gain == pytest.approx(max(tried.values()) - tried[0, 0], abs=1e-5)
