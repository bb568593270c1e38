"""Masks that a run is sure are otherwise."""

import numpy as np
import pytest

from segjax.audit import disagreement
from segjax.errors import DataError


def example(seed, wrong=0.0):
    """Return probabilities of a run that knows the truth, and labels of which some are wrong."""
    chance = np.random.default_rng(seed)
    truth = chance.integers(0, 3, (20, 30))
    probabilities = chance.uniform(0, 0.2, (20, 30, 3)).astype(np.float32)
    np.put_along_axis(probabilities, truth[..., None], 0.8, -1)
    probabilities /= probabilities.sum(-1, keepdims=True)
    label = truth.astype(np.uint8)
    changed = chance.random(label.shape) < wrong
    label[changed] = (label[changed] + 1) % 3
    return probabilities, label


def test_the_masks_with_the_most_wrong_pixels_come_first():
    wrong = [0.02] * 20
    wrong[7], wrong[13] = 0.5, 0.3
    rows = [example(seed, share) for seed, share in enumerate(wrong)]
    told = []
    shares = disagreement.rank(20, rows.__getitem__, tell=told.append)
    assert np.argsort(shares)[::-1][:2].tolist() == [7, 13] and told == list(range(1, 21))
    assert disagreement.standing_out(shares).tolist() == [7, 13]
    assert (
        0.2 < shares[7] < 0.55 and max(s for i, s in enumerate(shares) if i not in (7, 13)) < 0.04
    )


def test_thresholds_are_mean_probabilities_of_what_is_labelled_so():
    probabilities = np.array([[0.9, 0.1, 0.0], [0.5, 0.5, 0.0], [0.2, 0.8, 0.0]], np.float32)
    label = np.array([0, 0, 255], np.uint8)
    found = disagreement.thresholds([(probabilities, label)])
    assert found == pytest.approx([0.7, 1.0, 1.0])


def test_void_and_what_cannot_be_read_do_not_count():
    def read(number):
        if number == 1:
            raise DataError("x: cannot be read.")
        probabilities, label = example(0)
        return probabilities, np.full_like(label, 255) if number == 2 else label

    shares = disagreement.rank(3, read, tell=lambda _: None)
    assert shares[1] is None and shares[2] == 0.0 and shares[0] == 0.0
