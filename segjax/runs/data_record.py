"""Which data a run is of: written into `run.json`, compared when it goes on or is scored."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from segjax.config import rules
from segjax.data import core, hashes
from segjax.errors import DataError
from segjax.evaluators.report import Evaluator
from segjax.runs import workdir
from segjax.runtime import files, reading

FILE = "data.json"
"""Of the run's folder: each file of each split, see `hashes.files_of`."""
BYTES = 64 << 20
"""Of that file."""


def of_splits(
    split: str, source: core.Source, evaluators: Sequence[Evaluator]
) -> dict[str, dict[str, Any]]:
    """Return what `run.json` says of the data of training and evaluators, by split."""
    sources = _by_split(split, source, evaluators)
    return {name: hashes.of_source(each) for name, each in sources.items()}


def files_of_splits(
    split: str, source: core.Source, evaluators: Sequence[Evaluator]
) -> dict[str, dict[str, list[Any]]]:
    """Return the files of the data of training and evaluators, by split, see `hashes.files_of`."""
    sources = _by_split(split, source, evaluators)
    return {name: hashes.files_of(each) for name, each in sources.items()}


def _by_split(
    split: str, source: core.Source, evaluators: Sequence[Evaluator]
) -> dict[str, core.Source]:
    return {each.split: each.source for each in evaluators} | {split: source}


def write_files(path: pathlib.Path, found: Mapping[str, Mapping[str, list[Any]]]) -> None:
    """Write the files of splits into a run's folder; nothing where no split has any."""
    if any(found.values()):
        files.write_json(path / FILE, found, indent=None)
    else:
        (path / FILE).unlink(missing_ok=True)


def load_files(path: pathlib.Path) -> dict[str, dict[str, list[Any]]]:
    """Return what `write_files` wrote; a split that is not as it writes it, or none, is empty."""
    try:
        found = reading.read_json(path / FILE, limit=BYTES)
    except (OSError, DataError):
        return {}
    found = found if isinstance(found, dict) else {}
    return {split: each for split, each in found.items() if _is_list_of_files(each)}


def _is_list_of_files(found: Any) -> bool:
    return isinstance(found, dict) and all(
        isinstance(each, list)
        and len(each) == 3
        and all(rules.is_int(value) or (value is None and i == 2) for i, value in enumerate(each))
        for each in found.values()
    )


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
