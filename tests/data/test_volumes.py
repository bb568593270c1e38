"""Solids of every kind, which cannot be told apart by brightness."""

import numpy as np
import pytest

from segjax.data import synthetic
from segjax.structs import IGNORE_LABEL
from tests.data import tones


@pytest.fixture(scope="module")
def drawn():
    return tones.read(synthetic.Source(split="train", dims=3), 80)


def test_every_class_occurs_often_and_background_does_not_drown_it(drawn):
    _, label = drawn
    shares = np.array([(label == k).mean() for k in range(5)])
    assert 0.6 < shares[0] < 0.9 and shares[1:].min() > 0.005
    assert min((label == k).any(axis=(1, 2, 3)).mean() for k in range(1, 5)) > 0.4


@pytest.mark.parametrize("size", [(16, 16, 16), (16, 40, 33), (40, 24, 20)])
def test_any_size_renders(size):
    source = synthetic.Source(split="val", dims=3, size=size)
    for i in range(10):
        example = source[i]
        assert example["label"].shape == size and (example["instance"] > 0).any()


def test_brightness_alone_tells_no_classes_apart(drawn):
    held_out = tones.read(synthetic.Source(split="val", dims=3), 40)
    for balanced in (False, True):
        assert tones.miou_by_value(drawn, held_out, classes=5, balanced=balanced) < 0.3


def test_solids_are_solid(drawn):
    """A ball's label has the volume of a ball: the largest is near four thirds pi radius cubed."""
    _, label = drawn
    volumes = (label == 1).sum(axis=(1, 2, 3))
    largest = 4 / 3 * np.pi * (0.42 * 32) ** 3
    assert 0.4 * largest < volumes.max() < 3 * largest
    assert ((label != IGNORE_LABEL) & (label > 4)).sum() == 0
