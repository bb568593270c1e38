"""What does retraining on feedback do: with 40 corrected scenes of a new kind, with poison?

    python run.py --config=configs/quickstart.py --workdir=runs/quickstart
    python -m experiments.feedback.study --workdir=runs/quickstart

The run is copied for each case, so it stays as it is. A case is a kind of scenes and what becomes
of their masks; `poisoned` says what poison there is. One line a case goes to results.jsonl.
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
SEED = 7
"""Of the scenes, unless --seed says otherwise."""
KINDS = ("weave", "usual", "night", "fog")
"""`weave` is a ground that training has not; `night` and `fog` change usual scenes."""
CHANGED = ("night", "fog")
TESTED, UNSEEN = 128, 11
"""Scenes that neither training nor gate sees, and their seed."""
POISON = (
    "noise", "exchanged", "squares", "moved", "moved apart", "classes exchanged",
    "classes rotated", "one class", "one class each", "mirrored",
)  # fmt: skip
TESTED_BY = "IoU of an image, bootstrap"
"""What the gate asks of single images now; earlier records say what it asked then."""
GOOD = ("weave", "weave, half judged", "night", "fog")
CASES = (*GOOD, *(f"weave, {each}" for each in POISON))


def kind_of(case: str) -> str:
    """Return the kind of a case's scenes."""
    kind = case.partition(", ")[0]
    return kind if kind in KINDS else "weave"


def seen(image: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Return the image of a usual scene as it is at night or in fog."""
    if kind == "night":
        dark = 0.25 * image + rng.normal(0, 6, image.shape)
        return np.clip(dark, 0, 255).astype(np.uint8)
    if kind == "fog":
        return (0.35 * image + 0.65 * 210).astype(np.uint8)
    return image


def masks(case: str, labels: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Return the masks of a case."""
    if case == "half judged":
        found = [label.copy() for label in labels]
        for label in found:
            label[:, rng.integers(0, 2) * 64 :][:, :64] = 255
        return found
    return poisoned(case, labels, rng) if case else labels


def poisoned(case: str, labels: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Return masks that are wrong.

    Each pixel a class at random; each mask that of another image; squares of a class at random; all
    moved by the same way, or each by its own; two classes exchanged, or each class called by the
    next one's name; the ground everywhere, or one class everywhere, another in each image; each
    mask turned round.
    """
    sides, classes = labels[0].shape, 8
    if case == "noise":
        return [rng.integers(0, classes, sides) for _ in labels]
    if case == "exchanged":
        return labels[1:] + labels[:1]
    if case == "squares":
        blocks = [rng.integers(0, classes, (8, 8)) for _ in labels]
        return [np.kron(block, np.ones((16, 16), int)) for block in blocks]
    if case == "moved":
        return [np.roll(label, (12, 16), (0, 1)) for label in labels]
    if case == "moved apart":
        return [np.roll(label, rng.integers(-24, 25, 2), (0, 1)) for label in labels]
    if case in ("classes exchanged", "classes rotated"):
        names = np.arange(256)
        if case == "classes exchanged":
            names[[1, 2]] = 2, 1
        else:
            names[:classes] = np.roll(np.arange(classes), 1)
        return [names[label] for label in labels]
    if case == "mirrored":
        return [label[:, ::-1] for label in labels]
    each = rng.integers(0, classes, len(labels)) if case == "one class each" else [0] * len(labels)
    return [np.full(sides, number) for number in each]


def fill(
    root: pathlib.Path, case: str, seed: int, *, split: str = "train", count: int = SCENES
) -> None:
    """Add the scenes of a case to a folder of feedback."""
    import io

    from PIL import Image

    from segjax.data import synthetic
    from segjax.feedback.store import Store

    kind, _, wrong = case.partition(", ")
    ground = "weave" if kind == "weave" else ""
    source = synthetic.Source(split=split, num_examples=count, ground=ground, seed=seed)
    examples: list[Any] = [source[number] for number in range(count)]
    rng = np.random.default_rng(seed)
    labels = masks(wrong, [np.asarray(each["label"]) for each in examples], rng)
    store = Store.open(root)
    for example, label in zip(examples, labels, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(seen(example["image"], kind, rng)).save(buffer, "PNG")
        store.add(
            buffer.getvalue(), suffix=".png", label=label, prediction=None, model="quickstart",
            flagged=False, note="", request=example["name"],
        )  # fmt: skip


def scored(run: Any, kind: str) -> float:
    """Return the mIoU of a run on 128 new scenes of a kind, in no way of the training's."""
    import dataclasses

    with tempfile.TemporaryDirectory() as folder:
        ground = "weave" if kind == "weave" else ""
        source = {
            "type": "synthetic", "num_examples": TESTED, "ground": ground,
            "seed": UNSEEN if ground else 0,
        }  # fmt: skip
        if kind in CHANGED:
            root = pathlib.Path(folder)
            fill(root, kind, UNSEEN, split="test", count=TESTED)
            known = run.config["resolved"]
            source = {
                "type": "folder", "root": str(root), "images": "images", "labels": "labels",
                "split_file": "*", "ignore_index": 255, "class_names": known["class_names"],
                "palette": known["palette"],
            }  # fmt: skip
        evals = {"test": {**next(iter(run.config["evals"].values())), "split": "test"}}
        config = {**run.config, "input": {**run.config["input"], "source": source}, "evals": evals}
        return dataclasses.replace(run, config=config).evaluate("test")[0].result["miou"]


def by_image(old: Any, new: Any) -> list[list[float]]:
    """Return the IoU of both versions on each held correction."""
    import dataclasses

    from segjax.feedback import retrain

    data = {"source": new.config["input"]["source"]}
    config = {
        **old.config, "input": {**old.config["input"], **data}, "evals": new.config["evals"],
    }  # fmt: skip
    scores = []
    for run in (dataclasses.replace(old, config=config), new):
        result = run.evaluate(retrain.FEEDBACK)[0].result
        values = retrain.by_image(result)["per_example"]["values"][retrain.IMAGE_IOU]
        scores.append([round(value, 4) for (value,) in values])
    return [*map(list, zip(*scores, strict=True))]


def study(workdir: pathlib.Path, case: str, *, steps: int, seed: int) -> dict[str, Any]:
    """Do a case, and return what came of it."""
    from segjax.feedback import gate, retrain
    from segjax.runs import run, versions
    from segjax.runtime import reading

    with tempfile.TemporaryDirectory() as folder:
        path, root = pathlib.Path(folder, "run"), pathlib.Path(folder, "feedback")
        shutil.copytree(workdir, path)
        fill(root, case, seed)
        wishes = retrain.Wishes(steps=steps)
        retrain.retrain(path, root, wishes, gate.Bounds(), print)
        verdict = reading.read_json(path / "versions" / "v0001" / versions.GATE)
        old, new = run.open_run(path), run.open_run(path / "versions" / "v0001")
        row = {
            "case": case, "seed": seed, "run": old.config["resolved"]["total_steps"],
            "steps": verdict["steps"], "trained": verdict["trained"], "tested": verdict["tested"],
            "promoted": verdict["promoted"], "tested_by": TESTED_BY, "doubts": verdict["doubts"],
        }  # fmt: skip
        for name in ("holdout", "feedback", "images"):
            found = verdict[name]
            row |= {f"{name}_{key}": round(found[key], 4) for key in ("first", "second", "p_value")}
        row["by_image"] = by_image(old, new)
        for kind in dict.fromkeys(("usual", "weave", kind_of(case))):
            row |= {f"{kind}_old": round(scored(old, kind), 4)}
            row |= {f"{kind}_new": round(scored(new, kind), 4)}
        reasons = [] if verdict["promoted"] else verdict["reasons"]
        return row | {"refused_because": reasons}


def main() -> None:
    """Do the cases, and append what came of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="A quickstart run.")
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES)
    parser.add_argument("--steps", type=int, default=0, help="Of each retraining; 0: the usual.")
    parser.add_argument("--seed", type=int, default=SEED, help="Of the scenes.")
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "results.jsonl")
    values = parser.parse_args()
    from absl import logging

    from segjax.runtime import xla

    logging.set_verbosity(logging.FATAL)
    xla.prepare()
    for case in values.cases:
        row = study(values.workdir, case, steps=values.steps, seed=values.seed)
        print(row, flush=True)
        with values.results.open("a") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
