"""Events of every kind, which cannot be told apart by the value of a sample."""

import numpy as np
import pytest

from segjax.data import signals, synthetic
from tests.data import tones


@pytest.fixture(scope="module")
def drawn():
    return tones.read(synthetic.Source(split="train", dims=1), 600)


def test_every_class_occurs_often_and_background_does_not_drown_it(drawn):
    _, label = drawn
    shares = np.array([(label == k).mean() for k in range(5)])
    assert 0.4 < shares[0] < 0.7 and shares[1:].min() > 0.06


@pytest.mark.parametrize("length", [64, 333, 2048])
def test_any_length_renders(length):
    source = synthetic.Source(split="val", dims=1, size=(length,))
    found = [source[i]["instance"].max() for i in range(20)]
    assert max(found) > 0 and (length < 300 or min(found) > 0)


def test_values_alone_tell_no_classes_apart(drawn):
    held_out = tones.read(synthetic.Source(split="val", dims=1), 200)
    for balanced in (False, True):
        assert tones.miou_by_value(drawn, held_out, classes=5, balanced=balanced) < 0.3


def test_events_are_as_long_as_they_are_said_to_be(drawn):
    _, label = drawn
    found = []
    for line in label:
        edges = np.flatnonzero(np.diff((line == 0).astype(int))) + 1
        starts, stops = edges[::2], edges[1::2]
        assert (starts[1:] - stops[:-1] >= signals.GAP).all()
        found += (stops - starts).tolist()
    assert 2 * signals.HALVES[0] <= min(found) and max(found) < 2 * signals.HALVES[1]


@pytest.mark.parametrize("kind", signals.KINDS)
def test_a_course_reaches_one(kind):
    course = np.stack([kind(np.random.default_rng(i), 40) for i in range(50)])
    assert 0.85 < np.abs(course).max(axis=1).mean() <= 1 and np.abs(course).max() <= 1
