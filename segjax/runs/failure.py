"""What a run leaves that ended for a NaN: the batch of that step, and all that makes it again.

A batch is a function of seed and step, so nothing is kept while the run goes well: it is read once
more when the run has failed.
"""

import contextlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from segjax.assemble import program
from segjax.assemble.setup import Setup
from segjax.config import rules
from segjax.data import core, pipeline
from segjax.errors import DataError, NonFiniteError
from segjax.runs import digest, workdir
from segjax.runs.live import Live
from segjax.runtime import distributed, files, reading

FOLDER = "failure"
NAMED = 64
"""How many examples of a batch are named."""


@contextlib.contextmanager
def leaving(setup: Setup, source: core.Source, runs: Sequence[Live]) -> Iterator[None]:
    """Leave `<workdir>/failure` when a `NonFiniteError` ends what is done inside it.

    `failure.json` says step, quantities, keys and examples, and `batch.npz` holds the batch as it
    came to the device, of a job of one process. What cannot be written is said and left.
    """
    try:
        yield
    except NonFiniteError as error:
        run = next((run for run in runs if run.path == error.folder), runs[0])
        if distributed.is_first() and error.step:
            try:
                leave(setup, source, run, error)
            except Exception as other:  # whatever it is, the NaN is what ended the run
                distributed.say(f"{run.path / FOLDER}: could not be left: {other}")
            else:
                text = (
                    f"--mode=verify --workdir={run.path} --step={error.step} looks into that step."
                )
                error.args = (f"{error} {text}",)
        raise


def leave(setup: Setup, source: core.Source, run: Live, error: NonFiniteError) -> None:
    """Write what `leaving` says.

    Raises:
        UserError: The disk is full or cannot be written, or the data cannot be read.
    """
    folder, step, seed = run.path / FOLDER, error.step, setup.config["seed"]
    rows = setup.clock.batch_size
    numbers = pipeline.examples_of_step(len(source), seed, rows, step, setup.due)
    content: dict[str, Any] = {
        "step": step,
        "quantities": {name: repr(float(value)) for name, value in error.quantities.items()},
        "message": str(error),
        "fingerprint": workdir.load_facts(run.path).get("fingerprint", ""),
        "seed": seed,
        "step_key": key_data(run.step_key),
        "key": key_data(jax.random.fold_in(run.step_key, step - 1)),
        "examples": numbers,
        "names": [source[number]["name"] for number in numbers[:NAMED]],
    }
    if jax.process_count() == 1:
        with contextlib.closing(program.make_batches(setup, source, step - 1)) as batches:
            batch = next(batches)
        content["batch_hash"] = digest.of_arrays(batch)
        with files.replacing(folder / "batch.npz") as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **jax.device_get(dict(batch)))
    files.write_json(folder / "failure.json", content)


def load(path: pathlib.Path) -> dict[str, Any]:
    """Return what `failure.json` says of the run in `path`; empty where there is none."""
    try:
        found = reading.read_json(path / FOLDER / "failure.json")
    except (OSError, DataError):
        return {}
    return found if isinstance(found, dict) and rules.is_int(found.get("step")) else {}


def key_data(key: jax.Array) -> list[int]:
    """Return a key's numbers."""
    return np.asarray(jax.random.key_data(key)).ravel().tolist()
