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


def reading_of_prepared(path: pathlib.Path, split: str) -> dict[str, Any]:
    """Return the arguments by which the files of a prepared split were read, as its run has it.

    Only those that are of the type that they must have.
    """
    before = workdir.load_facts(path).get("data")
    about = before.get(split) if isinstance(before, dict) else None
    found = about.get("reading") if isinstance(about, dict) else None
    types = {"exif": bool, "dtype": str, "label_suffix": str}
    found = found if isinstance(found, dict) else {}
    return {name: found[name] for name in types if isinstance(found.get(name), types[name])}
