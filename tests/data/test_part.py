"""A part of a training split: how many, which, and what stays as it is."""

import pickle

import numpy as np
import pytest

from segjax.data import core, part
from segjax.errors import ConfigError

SECTION = {"type": "synthetic", "size": (32, 32), "num_examples": 20}


def opened(split, **fields):
    return part.Source(split=split, source=SECTION, **fields)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(1.0, [*range(20)]), (0.3, [0, 3, 6, 10, 13, 16]), (0.1, [0, 10]), (0.001, [0])],
)
def test_a_share_is_spread_over_the_split(share, expected):
    whole, source = core_of("train"), opened("train", share=share)
    assert len(source) == len(expected)
    for place, index in enumerate(expected):
        np.testing.assert_array_equal(source[place]["image"], whole[index]["image"])
    names = core.names_of(whole, "train")
    assert source.example_names() == [names[index] for index in expected]


def core_of(split):
    return opened(split, share=1.0).source


def test_other_splits_are_whole():
    assert len(opened("val", share=0.1)) == len(core_of("val"))
    assert len(opened("val", share=0.5, splits=("val",))) == round(0.5 * len(core_of("val")))
    assert len(opened("train", share=0.1, splits=("val",))) == 20


def test_it_is_a_source_that_workers_get_a_copy_of():
    source = pickle.loads(pickle.dumps(opened("train", share=0.3)))
    assert source.class_names == core_of("train").class_names and len(source) == 6
    assert source.made_of()[0].schema == source.schema


def test_no_share_is_refused():
    from segjax.config import lookup

    with pytest.raises(ConfigError, match="share=0"):
        lookup.build(
            "data", {"type": "part", "source": SECTION, "share": 0}, where="config", split="train"
        )
