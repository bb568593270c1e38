"""What does retraining on feedback do: with 40 corrected scenes on a new ground, with poison?

    python run.py --config=configs/quickstart.py --config.total_steps=300 --workdir=runs/quick300
    python -m experiments.feedback.study --workdir=runs/quick300

The run is copied for each case, so it stays as it is. The scenes have the ground `weave`, which
training has not. Poison: masks of noise, each mask of another image, masks of squares at random.
One line a case goes to results.jsonl.
"""

import argparse
import json
import pathlib
import shutil
import tempfile
from typing import Any

import numpy as np

HERE = pathlib.Path(__file__).parent
SCENES = 40
CASES = ("corrected", "noise", "exchanged", "squares")


def poisoned(case: str, labels: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Return the masks of a case."""
    if case == "noise":
        return [rng.integers(0, 8, label.shape) for label in labels]
    if case == "exchanged":
        return labels[1:] + labels[:1]
    if case == "squares":
        blocks = [rng.integers(0, 8, (8, 8)) for _ in labels]
        return [np.kron(block, np.ones((16, 16), int)) for block in blocks]
    return labels


def fill(root: pathlib.Path, case: str) -> None:
    """Add the scenes of a case to a folder of feedback."""
    import io

    from PIL import Image

    from segjax.data import synthetic
    from segjax.feedback.store import Store

    source = synthetic.Source(split="train", num_examples=SCENES, ground="weave", seed=7)
    examples: list[Any] = [source[number] for number in range(SCENES)]
    labels = poisoned(case, [each["label"] for each in examples], np.random.default_rng(0))
    store = Store.open(root)
    for example, label in zip(examples, labels, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(example["image"]).save(buffer, "PNG")
        store.add(
            buffer.getvalue(), suffix=".png", label=label, prediction=None, model="quickstart",
            flagged=False, note="", request=example["name"],
        )  # fmt: skip


def scored(run: Any, ground: str) -> float:
    """Return the mIoU of a run on 128 new scenes of a ground, in no way of the training's."""
    import dataclasses

    source = {
        "type": "synthetic",
        "num_examples": 128,
        "ground": ground,
        "seed": 11 if ground else 0,
    }
    evals = {"test": {**next(iter(run.config["evals"].values())), "split": "test"}}
    config = {**run.config, "input": {**run.config["input"], "source": source}, "evals": evals}
    return dataclasses.replace(run, config=config).evaluate("test")[0].result["miou"]


def study(workdir: pathlib.Path, case: str, steps: int) -> dict[str, Any]:
    """Do a case, and return what came of it."""
    from segjax.feedback import gate, retrain
    from segjax.runs import run, versions
    from segjax.runtime import reading

    with tempfile.TemporaryDirectory() as folder:
        path, root = pathlib.Path(folder, "run"), pathlib.Path(folder, "feedback")
        shutil.copytree(workdir, path)
        fill(root, case)
        wishes = retrain.Wishes(steps=steps)
        retrain.retrain(path, root, wishes, gate.Bounds(), print)
        verdict = reading.read_json(path / "versions" / "v0001" / versions.GATE)
        old, new = run.open_run(path), run.open_run(path / "versions" / "v0001")
        row = {
            "case": case, "steps": steps, "trained": verdict["trained"],
            "tested": verdict["tested"], "promoted": verdict["promoted"],
            "tested_by": "IoU of an image",
        }  # fmt: skip
        for name in ("holdout", "feedback", "images"):
            found = verdict[name]
            row |= {f"{name}_{key}": round(found[key], 4) for key in ("first", "second", "p_value")}
        for name, ground in (("usual", ""), ("weave", "weave")):
            row |= {f"{name}_old": round(scored(old, ground), 4)}
            row |= {f"{name}_new": round(scored(new, ground), 4)}
        reasons = [] if verdict["promoted"] else verdict["reasons"]
        return row | {"refused_because": reasons}


def main() -> None:
    """Do the cases, and append what came of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="A quickstart run.")
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES)
    parser.add_argument("--steps", type=int, default=100, help="Of each retraining.")
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "results.jsonl")
    values = parser.parse_args()
    from absl import logging

    from segjax.runtime import xla

    logging.set_verbosity(logging.FATAL)
    xla.prepare(keep_memory=True)
    for case in values.cases:
        row = study(values.workdir, case, values.steps)
        print(row, flush=True)
        with values.results.open("a") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
