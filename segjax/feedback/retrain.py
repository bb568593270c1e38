"""Train a run on to a new version with what people corrected, and keep it only if it is better."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from segjax.assemble import parts as parts_lib
from segjax.baselines import base as baselines
from segjax.config import sections
from segjax.data import core, decode, mixture
from segjax.errors import ConfigError, DataError
from segjax.feedback import doubts as doubts_lib
from segjax.feedback import gate
from segjax.feedback.store import Row, Store
from segjax.metrics import confusion, intervals
from segjax.runs import run as run_lib
from segjax.runs import train, versions, workdir
from segjax.runs.run import Run
from segjax.runtime import files, reading
from segjax.structs import IGNORE_LABEL
from segjax.tasks.base import GroupingTask, ObjectTask

REQUEST, SPLITS = "request.json", "splits"
FEEDBACK = "feedback"
"""The evaluation of a version on corrections that it was not trained on."""
LEAST_TRAINED, LEAST_HELD = 8, 5
"""Corrections to train on, and to test on, without which nothing is done."""
RESAMPLES = 2000
IMAGE_IOU = "image_iou"
DOUBTED = 200
"""Corrections of each split that the model in use is asked about."""
Say = Callable[[str], None]


class Wishes(NamedTuple):
    """How to train on.

    Attributes:
        share: Of the examples of a batch, those that are corrections.
        held: Of the corrections, those that only test; which, their images decide for ever.
        steps: How many; 0: half of the run's, at least 50.
        lr_factor: Of the run's learning rate.
        holdout: The key of `config.evals` whose split is the frozen hold-out.
        metric: What is compared, see `intervals.compare`.
    """

    share: float = 0.5
    held: float = 0.4
    steps: int = 0
    lr_factor: float = 0.25
    holdout: str = "val"
    metric: str = "miou"


class Parts(NamedTuple):
    """Which corrections are for what.

    Attributes:
        found: Rows of the store.
        train: Ids to train on.
        held: Ids to test on.
        skipped: Why others are not used, by id.
    """

    found: int
    train: list[str]
    held: list[str]
    skipped: dict[str, str]

    def describe(self) -> str:
        """Return how many there are in one line."""
        used = len(self.train) + len(self.held)
        reasons = ", ".join(
            f"{list(self.skipped.values()).count(reason)} {reason}"
            for reason in dict.fromkeys(self.skipped.values())
        )
        return (
            f"feedback: {self.found} images found, {used} used ({len(self.train)} to train, "
            f"{len(self.held)} to test), {len(self.skipped)} skipped"
            + (f" ({reasons})" if reasons else "")
        )


def retrain(path: pathlib.Path, root: pathlib.Path, wishes: Wishes, bounds: gate.Bounds, say: Say,
            *, trust_code: bool = False) -> int:  # fmt: skip
    """Train the version in use on, compare both, promote the new one if it is better.

    The same call again goes on with a version that was not finished.

    Args:
        path: The run's folder.
        root: The folder of feedback.
        wishes: How to train on.
        bounds: What the new version must reach.
        say: Told what is done.
        trust_code: See `run.open_run`.

    Returns:
        0, or the exit code of a training that a signal ended.

    Raises:
        UserError: No run, no or too few corrections, or another process retrains.
    """
    store = Store.open(root, create=False)
    first = run_lib.open_run(path, trust_code=trust_code)
    check(first, wishes)
    with files.locked(path / versions.FOLDER / workdir.LOCK, what=f"versions of {path}"):
        folder, request = begin(path, store, first, wishes, say)
        old = run_lib.open_run(path / request["from"], trust_code=trust_code)
        config = config_of(first.config, old.path, folder, store, request)
        code = train.run(folder, config)
        if code:
            return code
        new = run_lib.open_run(folder, trust_code=trust_code)
        verdict = judge(old, new, request, bounds, say)
        files.write_json(folder / versions.GATE, {**request, **verdict.as_json()})
        action = "promoted" if verdict.promoted else "refused"
        versions.record(path, folder.name, action, "; ".join(verdict.reasons))
        now = versions.load(path)["current"]
        for line in (*verdict.reasons, f"{folder.name} is {action}; in use: {now}"):
            say(line)
    return 0


def check(run: Run, wishes: Wishes) -> None:
    """Refuse a run that cannot be trained on, before anything is written.

    Raises:
        ConfigError: It is a classical method, finds objects, or has no such hold-out.
    """
    baselines.check_network(run.parts.model)
    if isinstance(run.parts.task, (ObjectTask, GroupingTask)) or run.parts.multilabel:
        raise ConfigError(
            "--mode=retrain learns from corrected class maps, and the task of this run is another."
        )
    if wishes.holdout not in run.config["evals"]:
        known = ", ".join(run.config["evals"]) or "none"
        raise ConfigError(
            f"--holdout={wishes.holdout}: no such key of config.evals. It has: {known}."
        )


def begin(
    path: pathlib.Path, store: Store, run: Run, wishes: Wishes, say: Say
) -> tuple[pathlib.Path, dict[str, Any]]:
    """Return the folder of the version to train, and what it is trained on: new, or unfinished."""
    names = versions.known(path)
    last = versions.folder_of(path, names[-1])
    unfinished = names[-1] != versions.FIRST and not (last / versions.GATE).exists()
    if unfinished and reading.is_file(last / REQUEST):
        say(f"{names[-1]} was not finished: going on with it")
        return last, _request(last / REQUEST)
    folder = last if unfinished else versions.folder_of(path, versions.name_of(len(names)))
    parts = choose(store, len(run.parts.classes.class_names), held=wishes.held)
    say(parts.describe())
    if len(parts.train) < LEAST_TRAINED or len(parts.held) < LEAST_HELD:
        raise DataError(
            f"{store.root}: {len(parts.train)} corrections to train on and {len(parts.held)} to "
            f"test on, expected at least {LEAST_TRAINED} and {LEAST_HELD}. Collect more."
        )
    for split, ids in (("train", parts.train), ("held", parts.held)):
        with files.replacing(folder / SPLITS / f"{split}.txt") as temporary:
            temporary.write_text("\n".join(ids) + "\n")
    steps = wishes.steps or max(50, run.config["resolved"]["total_steps"] // 2)
    request = {
        **wishes._asdict(), "steps": steps, "from": os.path.relpath(versions.current(path), path),
        "feedback_version": store.version(), "trained": len(parts.train),
        "tested": len(parts.held),
    }  # fmt: skip
    files.write_json(folder / REQUEST, request)
    return folder, request


def _request(path: pathlib.Path) -> dict[str, Any]:
    found = reading.read_json(path)
    expected = {*Wishes._fields, "from", "feedback_version", "trained", "tested"}
    if not isinstance(found, dict) or set(found) != expected:
        raise DataError(f"{path}: is not what --mode=retrain writes. Remove {path.parent}.")
    return found


def choose(store: Store, num_classes: int, *, held: float) -> Parts:
    """Deal corrections to training and test, by their images' hashes.

    Of several corrections of one image the last counts. A share of all images is held out, and an
    image that once is stays so in every later version.
    """
    rows, skipped = store.rows(), {}
    latest: dict[str, Row] = {}
    for row in rows:
        if not row.labelled:
            skipped[row.id] = "without a mask"
        elif why := _unfit(store, row, num_classes):
            skipped[row.id] = why
        else:
            if row.image_sha256 in latest:
                skipped[latest[row.image_sha256].id] = "corrected again later"
            latest[row.image_sha256] = row
    parts: dict[bool, list[str]] = {True: [], False: []}
    for row in latest.values():
        parts[int(row.image_sha256[:8], 16) < held * 2**32].append(row.id)
    return Parts(len(rows), parts[False], parts[True], skipped)


def _unfit(store: Store, row: Row, num_classes: int) -> str:
    """Return why a correction cannot be used; empty: it can."""
    try:
        label = decode.read_label(store.label_of(row.id), name=row.id)
    except DataError:
        return "whose mask cannot be read"
    judged = label[label != IGNORE_LABEL]
    if not store.image_of(row.id, row.suffix).is_file():
        return "whose image is gone"
    if not judged.size:
        return "void everywhere"
    return "of a class that the run has not" if judged.max() >= num_classes else ""


def config_of(
    first: Mapping[str, Any], old: pathlib.Path, folder: pathlib.Path, store: Store,
    request: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Return the config of a version: the run's own, shorter, from old weights, on a mixture."""
    config = sections.plain({name: each for name, each in first.items() if name != "resolved"})
    config = {name: each for name, each in config.items() if not name.startswith("total_")}
    config["total_steps"] = request["steps"]
    resolved, source = first["resolved"], first["input"]["source"]
    reading_of = {
        name: value
        for name, value in sections.innermost(source).items()
        if name in ("exif", "dtype")
    }
    more = {
        "type": "folder", "root": str(store.root.resolve()), "images": "images",
        "labels": "labels", "split_file": str((folder / SPLITS).resolve() / "{split}.txt"),
        "class_names": resolved["class_names"], "palette": resolved["palette"],
        "ignore_index": IGNORE_LABEL, "channels": resolved["channels"], "dims": 2, **reading_of,
    }  # fmt: skip
    mixed = {
        "type": "mixture", "source": source, "more": more, "share": request["share"],
        "mixed": [config["input"]["split"]],
    }  # fmt: skip
    config["input"] = {**config["input"], "source": mixed}
    model = {**config["model"], "pretrained": {"weights": str(old.resolve()), "part": "model"}}
    optimizer = {**config["optimizer"]}
    optimizer["lr"] = optimizer["lr"] * request["lr_factor"]
    scored = first["evals"][request["holdout"]]
    scored = {key: each for key, each in scored.items() if not key.startswith("every_")}
    scored |= {"every_steps": 0, "intervals": 100, "examples": 0}
    config["evals"] = {
        request["holdout"]: scored,
        FEEDBACK: {**scored, "split": f"{mixture.MORE}held"},
    }
    config["checkpoint"] = {**config["checkpoint"], "keep_best": "", "root": ""}
    config["early_stopping"] = {**config["early_stopping"], "metric": ""}
    config["trials"] = {"seed": [], "lr": []}
    return {**config, "model": model, "optimizer": optimizer}


def judge(
    old: Run, new: Run, request: Mapping[str, Any], bounds: gate.Bounds, say: Say
) -> gate.Verdict:
    """Score both versions on hold-out and held feedback, and decide."""
    data = {"source": new.config["input"]["source"]}
    same = {
        **old.config, "input": {**old.config["input"], **data}, "evals": new.config["evals"],
    }  # fmt: skip
    runs = [dataclasses.replace(old, config=same), new]
    results = {
        name: [run.evaluate(name, shown=True)[0].result for run in runs]
        for name in (request["holdout"], FEEDBACK)
    }
    found = {
        name: intervals.compare(*pair, metric=request["metric"], resamples=RESAMPLES)
        for name, pair in results.items()
    }
    scored = [*map(by_image, results[FEEDBACK])]
    images = intervals.compare(*scored, metric=IMAGE_IOU, resamples=RESAMPLES)
    images = images._replace(p_value=gate.better(*map(values_of, scored)))
    for name, each in [*found.items(), (FEEDBACK, images)]:
        say(f"{name}: {intervals.describe(each)}")
    doubts = doubts_lib.doubt(pairs_of(old, new), old.parts.classes.class_names)
    return gate.decide(found[request["holdout"]], found[FEEDBACK], images, doubts, bounds)


def pairs_of(old: Run, new: Run) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield mask and prediction by the model in use of corrections, at most `DOUBTED` a split."""
    predict: Any = old.predictor()
    for split in ("train", "held"):
        source = parts_lib.make_source(new.config, f"{mixture.MORE}{split}")
        source = core.spread(source, DOUBTED)
        for number in range(len(source)):
            example = source[number]
            yield np.asarray(example["label"]), predict(np.asarray(example["image"])).classes


def values_of(result: Mapping[str, Any]) -> np.ndarray:
    """Return the IoU of each example [n] of what `by_image` gives."""
    return np.asarray(result["per_example"]["values"][IMAGE_IOU], np.float64)[:, 0]


def by_image(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report's table of examples with an IoU of each: over the sums of its classes.

    A class of a few pixels decides the mean over classes of one image; here it weighs what it
    covers.
    """
    table = result["per_example"]
    hit, label, pred = (np.asarray(table[name], np.float64).sum(1) for name in confusion.MARGINS)
    union = label + pred - hit
    scores = np.divide(hit, union, out=np.full(hit.shape, np.nan), where=union > 0)
    return {"per_example": {**table, "values": {IMAGE_IOU: scores[:, None].tolist()}}}
