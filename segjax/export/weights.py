"""Export: a checkpoint as a safetensors file, for PyTorch or for another run."""

import json
import pathlib
from collections.abc import Iterable

import jax
import numpy as np
import safetensors.numpy

from segjax.config import lookup
from segjax.pretrained import convert, tables
from segjax.runs import evaluate
from segjax.runtime import files, sharding


def run(
    path: pathlib.Path,
    *,
    output: pathlib.Path,
    publisher: str,
    which: str = "",
    overrides: Iterable[str] = (),
) -> int:
    """Write the weights of a checkpoint (averaged where it has averages) to the file `output`.

    Args:
        path: The run's folder.
        output: The file; it is complete or not there.
        publisher: Whose names the arrays get: those of 'torchvision', 'smp', … make a state dict
            that the model there loads, 'segjax' keeps our paths for `config.model.pretrained`.
        which: 'best', 'latest' or a step; empty as in evaluation.
        overrides: Assignments such as `mesh.data=1`.

    Raises:
        UserError: That publisher has no such model, or the file cannot be written.
    """
    lookup.choose(publisher, tables.PUBLISHERS, what="--publisher")
    config, parts, variables, step = evaluate.load(path, which=which, overrides=overrides)
    model = {key: value for key, value in config["model"].items() if key != "pretrained"}
    rules, *_ = tables.rules_of(publisher, "model", model, parts.model)
    state = convert.to_torch(sharding.fetch(variables), rules)
    if jax.process_index() == 0:
        about = {"step": step, "model": model, "class_names": parts.classes["class_names"]}
        save(output, state, about={name: json.dumps(value) for name, value in about.items()})
        count = sum(array.size for array in state.values())
        print(f"step {step}: {len(state)} arrays, {count / 1e6:.2f} M numbers → {output}")
    return 0


def save(path: pathlib.Path, state: convert.State, *, about: dict[str, str]) -> None:
    """Write arrays to a safetensors file; `about` goes to its metadata.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    # It writes an array's memory as it lies. (`ascontiguousarray` would give a scalar an axis.)
    whole = {name: np.asarray(array, order="C") for name, array in state.items()}
    with files.replacing(path) as temporary:
        data = safetensors.numpy.save(whole, metadata={"format": "pt", **about})
        temporary.write_bytes(data)
