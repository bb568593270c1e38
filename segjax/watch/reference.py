"""What the images of a training looked like and what was predicted of them: `watch.json`."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

from segjax.config import rules, schema
from segjax.data import core, dealing, folds
from segjax.errors import ConfigError, DataError
from segjax.evaluators.report import Scored
from segjax.inference.predictor import Prediction
from segjax.runs import live
from segjax.runs import run as run_lib
from segjax.runs.run import Run
from segjax.runtime import distributed, files, reading
from segjax.structs import IGNORE_LABEL
from segjax.watch import drift, statistics
from segjax.watch.drift import Limits

FILE = "watch.json"
AGREEMENT = "quality/agreement"
"""The share of judged pixels that are predicted rightly."""
FORMAT = 1
_NUMBER = rules.number(-1e300, 1e300)
_NUMBERS = rules.each(_NUMBER, "a list of numbers")


@dataclasses.dataclass(frozen=True)
class Reference:
    """What a stream is compared with.

    Attributes:
        limits: Of each statistic.
        class_names: Of the model.
        window: Images that are compared at once.
        about: The run, its step, the splits and how many images of how many groups there were.
    """

    limits: Mapping[str, Limits]
    class_names: tuple[str, ...]
    window: int
    about: Mapping[str, Any]

    @classmethod
    def load(cls, path: pathlib.Path) -> Self:
        """Return what a file holds.

        Raises:
            DataError: It is not there, or not what `save` writes.
        """
        try:
            found = reading.read_json(path, limit=reading.TEXT_BYTES)
        except FileNotFoundError:
            raise DataError(
                f"{path}: not there. Make it: --mode=watch --workdir=<run> --reference."
            ) from None
        if not _is_one(found):
            raise DataError(
                f"{path}: is not what --mode=watch --reference writes. Make it again, or move it "
                "away."
            )
        limits = {name: Limits(**each) for name, each in found["statistics"].items()}
        return cls(limits, tuple(found["class_names"]), found["window"], found["about"])

    def describe(self, path: pathlib.Path) -> str:
        """Return in one line what it is made of, and where it was written."""
        about = self.about
        return (
            f"reference: {about['images']} images of {', '.join(about['splits'])} in "
            f"{about['groups']} groups, {len(self.limits)} statistics; written to {path}"
        )

    def save(self, path: pathlib.Path) -> None:
        """Write it as JSON.

        Raises:
            UserError: The disk is full or cannot be written.
        """
        plain = {name: limits._asdict() for name, limits in self.limits.items()}
        about = {"about": dict(self.about), "class_names": list(self.class_names)}
        content = {"format": FORMAT, "window": self.window, **about, "statistics": plain}
        files.write_json(path, content)


def _is_one(found: Any) -> bool:
    """Say whether JSON is what `Reference.save` writes."""
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        return False
    shape = {"format": int, "window": int, "about": dict, "class_names": list, "statistics": dict}
    if set(found) != set(shape) or any(type(found[key]) is not kind for key, kind in shape.items()):
        return False
    names = all(isinstance(name, str) for name in found["class_names"])
    return names and found["window"] > 0 and all(map(_is_limits, found["statistics"].values()))


def _is_limits(found: Any) -> bool:
    if not isinstance(found, dict) or set(found) != set(Limits._fields):
        return False
    lists = [found[name] for name in ("edges", "shares", "sample")]
    if not all(isinstance(each, list) and _NUMBERS.holds(each) for each in lists):
        return False
    edges, shares, sample = lists
    sound = len(edges) > 1 and edges == sorted(edges) and len(shares) == len(edges) + 1
    return (
        sound and len(sample) > 0 and min(shares) > 0
        and _NUMBER.holds(found["psi"]) and _NUMBER.holds(found["ks"]) and found["psi"] > 0
    )  # fmt: skip


def open_splits(
    run: Run, *, splits: Sequence[str] = (), examples: int = 1000
) -> dict[str, core.Source]:
    """Return the splits of a run's data set that a reference is made of.

    Args:
        run: The run.
        splits: Empty: `config.input.split`, and `val` where an evaluation is of it.
        examples: The most of each split, evenly spread.

    Raises:
        UserError: No such split.
    """
    section = run.config["input"]["source"]
    return {
        split: core.spread(folds.open_split(section, split), examples)
        for split in splits or _usual_splits(run.config)
    }


def make(
    run: Run,
    sources: Mapping[str, core.Source],
    *,
    groups: str = "",
    window: int = drift.WINDOW,
    tell: Callable[[int], None] = lambda done: None,
) -> Reference:
    """Return the reference of a run.

    The model has seen the training images, and is surer of them than of others. Limits allow for
    that where another split is among the references: it is left out in turn as all groups are.

    Args:
        run: The run.
        sources: See `open_splits`.
        groups: What in an example's name says whose it is, a regular expression; empty: what the
            data set knows, else what `drift.group_of` guesses.
        window: Images that are compared at once.
        tell: Told how many images are done.

    Raises:
        UserError: A file that cannot be read, too few images.
    """
    rows: list[dict[str, float]] = []
    owners: list[str] = []
    predictor = run.predictor()
    class_names = run.parts.classes.class_names
    for split, source in sources.items():
        owners += [f"{split}/{name}" for name in _owners(source, split, groups)]
        for number in range(len(source)):
            example = source[number]
            image, label = np.asarray(example["image"]), np.asarray(example["label"])
            prediction, row = describe(predictor, image, class_names)
            if prediction is not None and prediction.classes.shape == label.shape:
                row |= agreement(label, prediction.classes)
            rows.append(row)
            tell(len(rows))
    about = {
        "run": str(run.path), "step": run.step, "splits": list(sources), "images": len(rows),
        "groups": len(set(drift.tell_apart(owners))),
    }  # fmt: skip
    return Reference(
        drift.learn(table(rows), drift.tell_apart(owners), window=window),
        tuple(class_names),
        window,
        about,
    )


def _owners(source: core.Source, split: str, pattern: str) -> Sequence[str]:
    """Return whose each example is."""
    names = core.names_of(source, split)
    if pattern:
        return dealing.groups_of(names, pattern)
    return core.groups_of(source) or [drift.group_of(name) for name in names]


def after_training(path: pathlib.Path, config: Mapping[str, Any]) -> list[str]:
    """Make the references that a finished training asks for, and return a line for each.

    Args:
        path: The run's folder; trials in it have one each.
        config: What was trained; `config.watch.reference` says whether.

    Raises:
        UserError: As `make`.
    """
    filled = schema.fill(config)
    if not filled["watch"]["reference"]:
        return []
    lines = []
    for folder in live.folders(filled, path):
        run = run_lib.open_run(folder, trust_code=True)  # the caller gave the config
        made = make(run, open_splits(run))
        if distributed.is_first():
            made.save(folder / FILE)
        lines.append(made.describe(folder / FILE))
    return lines


def describe(
    predictor: Scored | None, image: Any, class_names: Sequence[str]
) -> tuple[Prediction | None, dict[str, float]]:
    """Return what is predicted of an image, and what describes both.

    The network runs once: classes are the likeliest, before any post-processing. Of what finds
    objects only the image is described.
    """
    seen = np.asarray(image)
    row = statistics.of_image(seen)
    if predictor is None or not hasattr(predictor, "tiles"):
        return None, row
    parts: Iterator[Any] = predictor.tiles(image, probabilities=True)
    found = np.empty((*seen.shape[:-1], len(class_names)), np.float32)
    for region, part in parts:
        found[region] = part
    several = not math.isclose(float(found[(0,) * (seen.ndim - 1)].sum()), 1, abs_tol=1e-3)
    classes = (found > 0.5) if several else found.argmax(axis=-1)
    prediction = Prediction(classes.astype(np.uint8), lambda: found)
    row |= statistics.of_classes(prediction.classes, class_names)
    return prediction, row | statistics.of_probabilities(found)


def agreement(label: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """Return the share of judged pixels that are right; nothing where none is judged."""
    judged = label != IGNORE_LABEL
    return {AGREEMENT: float((label == classes)[judged].mean())} if judged.any() else {}


def table(rows: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Return the values of each statistic over rows; NaN where a row has none."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}


def _usual_splits(config: Mapping[str, Any]) -> list[str]:
    found = [config["input"]["split"]]
    scored = [section["split"] for section in config["evals"].values()]
    if not found[0]:
        raise ConfigError("config.input.split: is empty. Name the splits: --splits=train,val.")
    return found + [split for split in ("val", "validation") if split in scored]
