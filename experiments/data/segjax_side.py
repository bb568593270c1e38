"""Our side: a source, and the batches of training."""

import hashlib
import pathlib
from typing import Any

import grain
import numpy as np

from experiments.data.works import BATCH, Work
from segjax.data import core, fit, folder, pipeline, prepared, windows
from segjax.structs import Batch

SEED, THREADS = 0, 2


def source_of(root: pathlib.Path, work: str) -> core.Source:
    """Return the data set of a work."""
    if work.startswith("prepared"):
        return prepared.Source(split="train", root=str(root / "prepared"))
    return folder.Source(split="train", root=str(root))


def rows(root: pathlib.Path, work: str, about: Work, count: int) -> list[list]:
    """Return example and corner of each row of the stream, for the other side."""
    source = source_of(root, work)
    order = grain.MapDataset.range(len(source)).seed(SEED).shuffle().repeat()
    draw = windows.Windows(
        source, schema=core.choose_fields(source.schema), size=about.size, pad_value=0, seed=SEED,
        sampling=windows.PLAIN,
    )  # fmt: skip
    sides: dict[int, tuple[int, ...]] = {}
    found = []
    for position in range(count):
        number = int(order[position])
        if number not in sides:
            example = source[number]
            sides[number] = tuple(example["label"].shape)
        whole: Any = {}
        found.append([number, draw._draw(number, position, whole, sides[number])])
    return found


def batches(root: pathlib.Path, work: str, about: Work) -> pipeline.Batches:
    """Return the batches of a training."""
    source = source_of(root, work)
    how: fit.Fit = "window" if about.window else "pad"
    return pipeline.train_batches(
        source, schema=core.choose_fields(source.schema), batch_size=BATCH, size=about.size,
        fit=how, seed=SEED, threads=THREADS,
    )  # fmt: skip


def digest(batch: Batch) -> str:
    """Return a hash of a batch's bits."""
    parts = (np.asarray(batch[name]).tobytes() for name in ("image", "label"))
    return hashlib.sha256(b"".join(parts)).hexdigest()
