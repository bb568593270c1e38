"""Examples that come more often: how often, in which order, whatever reads them."""

import itertools
import json

import numpy as np
import pytest

from segjax.data import counts, pipeline, sampling
from segjax.runtime import xla
from tests.data.test_pipeline import Numbered, take

HAS = np.zeros((100, 3), bool)
HAS[:, 0], HAS[:50, 1], HAS[:4, 2] = True, True, True
"""A class in all of a hundred examples, one in half of them, one in four."""


def test_repeat_factors_are_those_of_lvis():
    """By hand: sqrt(0.25 / 0.04) = 2.5 for those with the rare class, once for the others."""
    due = sampling.repeat_factors(HAS, threshold=0.25)
    assert due[:4].tolist() == [2.5] * 4 and due[4:].tolist() == [1.0] * 96
    assert sampling.repeat_factors(HAS, threshold=0.001).tolist() == [1.0] * 100


def test_class_balanced_draws_classes_alike():
    """Of all draws, those meant for each class are a third; by hand of the first example."""
    due = sampling.class_balanced(HAS)
    assert due[0] == pytest.approx(100 / 3 * (1 / 100 + 1 / 50 + 1 / 4))
    assert due.sum() == pytest.approx(100)
    without = np.zeros((4, 2), bool)
    without[:2, 0] = True
    assert sampling.class_balanced(without).tolist() == [2.0, 2.0, 0.0, 0.0]


@pytest.mark.parametrize("by", ["repeat_factor", "class_balanced"])
def test_an_epoch_has_each_example_as_often_as_it_is_due(by):
    """In each epoch the next whole number below or above; over many, what is due."""
    due = sampling.times(HAS[::5], {"by": by, "threshold": 0.25})
    length = round(float(due.sum()))
    due = due * (length / due.sum())
    order = sampling.order(due, seed=3)
    epochs = np.array([order[i] for i in range(60 * length)]).reshape(60, length)
    found = np.array([np.bincount(epoch, minlength=20) for epoch in epochs])
    assert (found >= np.floor(due - 1e-9)).all() and (found <= np.ceil(due + 1e-9)).all()
    spread = np.sqrt(np.maximum((due % 1) * (1 - due % 1), 1e-12) / 60)
    assert (np.abs(found.mean(axis=0) - due) < 5 * spread + 1e-6).all()
    assert len({tuple(epoch) for epoch in epochs}) == 60


def test_uniform_is_the_order_without():
    assert sampling.times(HAS, {"by": "uniform", "threshold": 0.1}) is None


DUE = np.array([3.0, 0.4, 0.4, 1.2, 0, 2, 1, 1, 0.5, 0.5])


def test_the_same_batches_for_any_process_threads_and_start():
    """The data order's contract, with examples that come more often."""
    whole = take(12, Numbered(), due=DUE)
    assert whole[0]["number"] != take(1, Numbered())[0]["number"]
    assert sorted({n for batch in whole for n in batch["number"]}) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    for options in ({"threads": 0}, {"threads": 3}):
        again = take(12, Numbered(), due=DUE, **options)
        assert [b["number"] for b in again] == [b["number"] for b in whole]
    parts = [take(12, Numbered(), due=DUE, process_index=p, process_count=2) for p in range(2)]
    for t, batch in enumerate(whole):
        assert [n for part in parts for n in part[t]["number"]] == batch["number"]
        assert pipeline.examples_of_step(10, 1, 4, t + 1, DUE) == batch["number"]
    late = take(3, Numbered(), due=DUE, start_step=9)
    assert [b["number"] for b in late] == [b["number"] for b in whole[9:]]
    assert [b["index"].tolist() for b in late] == [b["index"].tolist() for b in whole[9:]]


def test_other_seeds_give_other_orders():
    first, other = (list(itertools.islice(sampling.order(DUE, seed), 40)) for seed in (1, 2))
    assert first != other


def test_pixels_are_counted_once(tmp_path, monkeypatch):
    """And again where the data, or what its masks mean, is another."""
    monkeypatch.setattr(xla, "cache_dir", lambda: tmp_path)

    class Hashed(Numbered):
        manifest_hash, reads = "abc", 0

        def __getitem__(self, index):
            type(self).reads += 1
            return super().__getitem__(index)

    section = {"type": "prepared"}
    first = counts.of_source(Hashed(4), section, "train")
    assert first.tolist() == [[32 * 48, 0], [0, 32 * 48]] * 2 and Hashed.reads == 4
    assert counts.of_source(Hashed(4), section, "train").tolist() == first.tolist()
    assert Hashed.reads == 4
    counts.of_source(Hashed(4), section | {"label_map": {"0": 1}}, "train")
    assert Hashed.reads == 8
    Hashed.manifest_hash = "abd"
    counts.of_source(Hashed(4), section, "train")
    assert Hashed.reads == 12
    for path in (tmp_path / "counts").iterdir():
        path.write_text(json.dumps([[1, 2]]))
    assert counts.of_source(Hashed(4), section, "train").tolist() == first.tolist()
    assert counts.amounts(first)._asdict() == {
        "pixels": (3072, 3072), "around": (3072, 3072), "images": (2, 2), "examples": 4
    }  # fmt: skip
