"""A mixture of two sources: shares, every example, the same batches on any number of processes."""

import collections
import itertools

import numpy as np
import pytest

from segjax.data import core, folds, mixture, pipeline
from segjax.errors import ConfigError, DataError

SIZE = (32, 32)


def section(seed: int, examples: int, **changes) -> dict:
    return {
        "type": "synthetic", "seed": seed, "num_examples": examples, "size": SIZE, **changes
    }  # fmt: skip


def make(split: str = "train", **changes) -> mixture.Source:
    given = {"source": section(0, 30), "more": section(1, 7), "share": 0.4} | changes
    return mixture.Source(split=split, **given)


@pytest.mark.parametrize("share, sizes", [(0.4, (30, 7)), (0.5, (3, 50)), (0.9, (10, 10))])
def test_an_epoch_has_the_shares_and_every_example(share, sizes):
    source = make(source=section(0, sizes[0]), more=section(1, sizes[1]), share=share)
    owners = collections.Counter(source._find(i) for i in range(len(source)))
    of_more = sum(count for (own, _), count in owners.items() if own is source.sources[1])
    assert abs(of_more / len(source) - share) <= 1 / len(source)
    assert len(owners) == sum(sizes), "every example of both is there"
    for part in source.sources:
        counts = [count for (own, _), count in owners.items() if own is part]
        assert max(counts) - min(counts) <= 1, "and none more often than another"


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_out_the_same_batches(processes):
    def batches(index: int, count: int, start: int) -> list[dict]:
        source = make()
        found = pipeline.train_batches(
            source, schema=core.choose_fields(source.schema, ("image", "label")), batch_size=8,
            size=SIZE, seed=3, start_step=start, process_index=index, process_count=count,
            threads=0,
        )  # fmt: skip
        return list(itertools.islice(found, 5 - start))

    whole = batches(0, 1, 0)
    for start in (0, 3):
        parts = [batches(index, processes, start) for index in range(processes)]
        for step, batch in enumerate(whole[start:]):
            joined = np.concatenate([part[step]["image"] for part in parts])
            np.testing.assert_array_equal(joined, batch["image"])
            places = np.concatenate([part[step]["index"] for part in parts])
            np.testing.assert_array_equal(places, batch["index"])


def test_other_splits_are_of_one_source_each_example_once():
    assert len(make("val")) == 30 and len(make("more_val")) == 7
    np.testing.assert_array_equal(
        make("more_val")[3]["image"], folds.open_split(section(1, 7), "val")[3]["image"]
    )
    assert make("val").example_names()[0].startswith("synthetic/val")


def test_what_does_not_go_together_is_said():
    with pytest.raises(DataError, match="mixture: image is .*Expected the same|has the classes"):
        make(more={"type": "synthetic", "dims": 1, "num_examples": 4})
    with pytest.raises(ConfigError, match="synthetic has no such split"):
        make("more_none")
    with pytest.raises(IndexError):
        make()[1000]
