"""Which data a run is of: written into `run.json`, compared when it goes on or is scored."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from segjax.data import core, hashes
from segjax.evaluators.report import Evaluator
from segjax.runs import workdir


def of_splits(
    split: str, source: core.Source, evaluators: Sequence[Evaluator]
) -> dict[str, dict[str, Any]]:
    """Return what `run.json` says of the data of training and evaluators, by split."""
    sources = {each.split: each.source for each in evaluators} | {split: source}
    return {name: hashes.of_source(each) for name, each in sources.items()}


def changes(path: pathlib.Path, now: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a line for each split that is another than when the run in `path` was last trained.

    None where there is no run, or one that recorded nothing.
    """
    before = workdir.load_facts(path).get("data")
    if not isinstance(before, dict):
        return []
    return [
        line
        for split, found in now.items()
        for line in hashes.compare(before.get(split), found, split=split)
    ]
