"""What a cross-validation has found, made of files alone: the content of its `crossval.json`."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from segjax.config import load
from segjax.errors import UserError
from segjax.runs import workdir
from segjax.runtime import reading
from segjax.studies import scores

DONE = "fold.json"
"""In a fold's folder, once it is trained and scored."""
RESULT = "crossval.json"


def read(root: pathlib.Path) -> dict[str, Any]:
    """Return the content of `folds.json`, which is there.

    Raises:
        UserError: It is not.
    """
    found = workdir.load_folds(root)
    if found is None:
        raise UserError(f"{root}: holds no cross-validation. Run --mode=crossval there.")
    return found


def collect(root: pathlib.Path) -> dict[str, Any]:
    """Return the content of `crossval.json`, made of files alone: reports, folds, their configs.

    Raises:
        UserError: One is missing or cannot be read.
    """
    dealt = read(root)
    found: list[dict[str, Any]] = []
    for fold in range(dealt["settings"]["folds"]):
        folder = workdir.fold_folder(root, fold)
        config = load.recorded(folder / "config.json")
        names = config["resolved"]["class_names"]
        about = reading.read_json(folder / DONE)
        found.append(about | {"scores": _scores(folder, [*config["evals"]], names)})
    held = [path.stem for path in sorted((root / "eval").glob("*.json"))]
    mean, std = scores.means(each["scores"] for each in found)
    return {
        "folds": found,
        "mean": mean,
        "std": std,
        "out_of_fold": _scores(root, held, dealt["class_names"]),
        "examples": len(dealt["names"]),
        "assignment": dict(zip(dealt["names"], dealt["fold"], strict=True)),
        **{key: dealt[key] for key in ("settings", "fingerprint", "data")},
    }


def _scores(folder: pathlib.Path, evals: Sequence[str], names: Sequence[str]) -> scores.Scores:
    found: scores.Scores = {}
    for name in evals:
        found |= scores.of_result(name, reading.read_json(folder / "eval" / f"{name}.json"), names)
    return found


def describe(result: Mapping[str, Any], shown: Sequence[str]) -> list[str]:
    """Return what to show of a `crossval.json`: some scores of each fold, and of all."""
    lines = []
    for name in shown:
        own = [each["scores"].get(name) for each in result["folds"]]
        folds_ = ", ".join("-" if value is None else f"{value:.4f}" for value in own)
        line = f"{name}: folds {folds_}"
        if name in result["mean"]:
            line += f"; mean {result['mean'][name]:.4f}"
        if name in result["std"]:
            line += f", std {result['std'][name]:.4f}"
        if name in result["out_of_fold"]:
            line += f"; out of fold {result['out_of_fold'][name]:.4f}"
        lines.append(line)
    return lines
