"""What was saved as each checkpoint: its digests, outside of it, kept when it is gone.

A checkpoint holds digests of itself, which find damage. They cannot tell another whole checkpoint
in its place, and they go with it. `checkpoints.json` of the run's folder has those of every step
that was ever saved. Never imports jax.
"""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from segjax.config import rules
from segjax.errors import DataError
from segjax.runs import workdir
from segjax.runtime import files, reading

FILE = "checkpoints.json"
BYTES = 64 << 20
"""Of that file: some hundred thousand checkpoints."""


class Saved(NamedTuple):
    """One checkpoint.

    Attributes:
        digests: Of each branch of its tree, see `runs.digest`.
        fingerprint: Of the config that it is of; empty: not known.
    """

    digests: dict[str, int]
    fingerprint: str


def load(path: pathlib.Path) -> dict[int, Saved]:
    """Return what was saved in the run in `path`, by step; empty where nothing says it."""
    try:
        found = reading.read_json(path / FILE, limit=BYTES)
    except (OSError, DataError):
        return {}
    found = found if isinstance(found, dict) else {}
    return {
        int(step): Saved(each["digests"], str(each.get("fingerprint", "")))
        for step, each in found.items()
        if workdir.is_step(step) and _is_sound(each)
    }


def note(path: pathlib.Path, digests: Mapping[int, dict[str, int]]) -> None:
    """Add checkpoints, by step, to those of the run in `path`, or replace them."""
    fingerprint = str(workdir.load_facts(path).get("fingerprint", ""))
    new = {step: Saved(each, fingerprint) for step, each in digests.items() if each}
    everything = load(path) | new
    content = {str(step): everything[step]._asdict() for step in sorted(everything)}
    files.write_json(path / FILE, content)


def _is_sound(found: Any) -> bool:
    digests = found.get("digests") if isinstance(found, dict) else None
    return isinstance(digests, dict) and all(map(rules.is_int, digests.values()))
