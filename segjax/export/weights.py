"""Export: a checkpoint as a file of weights, for PyTorch or for another run."""

import json
import pathlib
import pickle

import jax
import numpy as np
import safetensors.numpy

from segjax.config import lookup
from segjax.pretrained import convert, tables
from segjax.runs.run import Run
from segjax.runtime import files, sharding


def write(run: Run, output: pathlib.Path, *, publisher: str) -> str:
    """Write a run's weights (averaged where it has averages) to a file, see `save`.

    Args:
        run: Opened.
        output: The file; it is complete or not there.
        publisher: Whose names the arrays get: those of 'torchvision', 'smp', … make a state dict
            that the model there loads, 'segjax' keeps our paths for `config.model.pretrained`.

    Returns:
        One line on what was written.

    Raises:
        UserError: That publisher has no such model, or the file cannot be written.
    """
    lookup.choose(publisher, tables.PUBLISHERS, what="--publisher")
    model = {key: value for key, value in run.config["model"].items() if key != "pretrained"}
    rules, *_ = tables.rules_of(publisher, "model", model, run.parts.model)
    state = convert.to_torch(sharding.fetch(run.variables), rules)
    if jax.process_index() == 0:
        about = {"step": run.step, "model": model, "class_names": run.parts.classes.class_names}
        save(output, state, about={name: json.dumps(value) for name, value in about.items()})
    count = sum(array.size for array in state.values())
    return f"step {run.step}: {len(state)} arrays, {count / 1e6:.2f} M numbers → {output}"


def save(path: pathlib.Path, state: convert.State, *, about: dict[str, str]) -> None:
    """Write arrays to a safetensors file, or to a pickle as detectron2 reads it, by the suffix.

    Args:
        path: `….pkl` is a pickle of `{"model": arrays}`; any other is of safetensors.
        state: The arrays by their names.
        about: What goes beside them.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    # It writes an array's memory as it lies. (`ascontiguousarray` would give a scalar an axis.)
    whole = {name: np.asarray(array, order="C") for name, array in state.items()}
    with files.replacing(path) as temporary:
        if path.suffix == ".pkl":
            with temporary.open("wb") as file:
                content = {"model": whole, "__author__": "segjax", **about}
                pickle.dump(content, file, protocol=4)
        else:
            data = safetensors.numpy.save(whole, metadata={"format": "pt", **about})
            temporary.write_bytes(data)
