"""How many pixels of each class every example has: counted once, and kept for the next time."""

import contextlib
import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int64

from segjax.config import rules
from segjax.data import core, folds, hashes
from segjax.errors import DataError, UserError
from segjax.runtime import files, reading, xla
from segjax.structs import Amounts

BYTES = 1 << 30
"""Of a file of counts."""


def of_source(
    source: core.Source,
    section: Mapping[str, Any],
    split: str,
    *,
    threads: int = 2,
    tell: Callable[[int], None] = lambda done: None,
) -> Int64[np.ndarray, "n k"]:
    """Return the pixels of each class in every example; all labels are read, once.

    They are kept in `xla.cache_dir()` under a hash of the data's own (its manifest's, or that of
    names, sizes and times of its files) and of the section that says what masks mean. Of data
    without a hash they are counted each time.

    Args:
        source: The split, opened.
        section: `config.input.source`.
        split: Its name.
        threads: That read.
        tell: Called with the number of examples that are done, after each.

    Raises:
        DataError: A label cannot be used.
    """
    path = place_of(source, section, split)
    if path and (found := _load(path, source)) is not None:
        return found
    found = folds.count_pixels(source, threads=threads, tell=tell)
    if path:
        with contextlib.suppress(UserError):  # what cannot be kept is counted again
            files.write_json(path, found.tolist(), indent=None)
    return found


def place_of(source: core.Source, section: Mapping[str, Any], split: str) -> pathlib.Path | None:
    """Return the file that the counts of a split are kept in; None: the data has no hash."""
    about = hashes.of_source(source)
    if not about["hash"]:
        return None
    told = json.dumps([about, dict(section), split, list(source.class_names)], sort_keys=True)
    name = hashlib.sha256(told.encode()).hexdigest()[:24]
    return xla.cache_dir() / "counts" / f"{name}.json"


def _load(path: pathlib.Path, source: core.Source) -> np.ndarray | None:
    """Return what a file holds; None where that is not what is written into it."""
    try:
        found = reading.read_json(path, limit=BYTES)
    except (OSError, DataError):
        return None
    shape = (len(source), len(source.class_names))
    rows = found if isinstance(found, list) else []
    right = len(rows) == shape[0] and all(
        isinstance(row, list) and len(row) == shape[1] and all(map(rules.is_int, row))
        for row in rows
    )
    return np.array(rows, np.int64).reshape(shape) if right else None


def amounts(pixels: Int64[np.ndarray, "n k"]) -> Amounts:
    """Return how much there is of each class in all examples together."""
    has = pixels > 0
    around = (has * pixels.sum(axis=1, keepdims=True)).sum(axis=0)
    return Amounts(
        tuple(pixels.sum(axis=0).tolist()),
        tuple(around.tolist()),
        tuple(has.sum(axis=0).tolist()),
        len(pixels),
    )
