"""What a run has recorded of itself, in words: what was trained, how long, on which machine."""

import dataclasses
import json
import math
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from segjax.config import rules, schema, sections
from segjax.errors import DataError
from segjax.evaluators.report import Evaluator, Scored
from segjax.runs import workdir, writer
from segjax.runs.run import Run
from segjax.runtime import reading
from segjax.views import figures, progress

EVAL_BYTES = 512 << 20
MOST_PIXELS = 1 << 53
"""Of a cell of a confusion matrix: whole numbers up to here are exact as floats."""
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
Rows = list[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Subject:
    """A run that a page is of.

    Attributes:
        path: Its folder.
        name: What the page calls it.
        config: What made it, with `resolved`.
        step: Of its checkpoint.
        evaluators: Those of `config.evals`, open.
        predictor: Predicts with the checkpoint.
    """

    path: pathlib.Path
    name: str
    config: Mapping[str, Any]
    step: int
    evaluators: Sequence[Evaluator]
    predictor: Scored

    def facts(self) -> dict[str, Any]:
        """Return what `run.json` says."""
        return workdir.load_facts(self.path)

    def records(self) -> list[dict[str, Any]]:
        """Return the lines of its log, as far as they hold numbers."""
        return [
            {key: value for key, value in line.items() if is_real(value)}
            for line in writer.read(self.path)
            if line["step"] >= 0
        ]

    def result(self, name: str) -> Mapping[str, Any] | None:
        """Return what `eval/<name>.json` holds; None where there is none, or none as written."""
        try:
            found = reading.read_json(self.path / "eval" / f"{name}.json", limit=EVAL_BYTES)
        except (OSError, DataError):
            return None
        return found if is_result(found) else None


def of_run(run: Run, name: str) -> Subject:
    """Return a run on disk as what a page is of.

    Raises:
        UserError: Its data or its checkpoint cannot be read.
    """
    evaluators = run.evaluators() if run.config["evals"] else []
    return Subject(run.path, name, run.config, run.step, evaluators, run.predictor())


def names_of(paths: Sequence[pathlib.Path]) -> list[str]:
    """Return what runs are called: the ends of their paths by which they differ."""
    whole = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, whole)) + 1):
        names = ["/".join(parts[-length:]) for parts in whole]
        if len(set(names)) == len(names):
            return names
    return [f"{'/'.join(parts)} ({number})" for number, parts in enumerate(whole, start=1)]


def headline(subject: Subject, records: Sequence[Mapping[str, Any]]) -> Rows:
    """Return the few numbers that a person wants to see, each with what it is."""
    shown: Rows = []
    for evaluator in subject.evaluators:
        metric, title = evaluator.headline
        value = (subject.result(evaluator.name) or {}).get(metric)
        if is_real(value):
            shown.append((f"{value:.3f}", f"{title}, {evaluator.name}"))
    shown.append((f"{subject.step:,}", "steps"))
    seconds = trained_seconds(records)
    if seconds:
        shown.append((progress.duration(seconds), "training, evaluations left out"))
    parameters = subject.facts().get("parameters")
    if is_real(parameters):
        shown.append((f"{parameters / 1e6:.2f} M", "parameters"))
    return shown


def trained_seconds(records: Sequence[Mapping[str, Any]]) -> float:
    """Return how long all steps took: each line of the log tells the mean since the last one."""
    step, taken = figures.series(records, "time/step_ms")
    return float(np.sum(np.diff(step, prepend=0) * taken) / 1e3)


def settings(config: Mapping[str, Any]) -> Rows:
    """Return what was trained, on what and how, a line each."""
    inputs, resolved, optimizer = config["input"], config["resolved"], config["optimizer"]
    losses = config["task"].get("losses", ())
    return [
        ("task", _typed(config["task"], without=("losses",))),
        ("losses", " + ".join(_typed(each) for each in losses) or "the task's own"),
        ("model", _typed(config["model"])),
        ("data", f"{_typed(inputs['source'])}, split {inputs['split']}"),
        ("images", f"{resolved['num_examples']:,} in training, {resolved['channels']} channels"),
        ("canvas", f"{' × '.join(map(str, inputs['size']))}, fit={inputs['fit']}"),
        ("batch", f"{resolved['batch_size']} images, {resolved['total_steps']:,} steps"),
        ("augmentation", ", ".join(_typed(each) for each in config["augment"]) or "none"),
        ("optimizer", _typed(optimizer, without=("schedule",))),
        ("schedule", _typed(optimizer["schedule"])),
        ("seed", str(config["seed"])),
    ]


def _typed(section: Mapping[str, Any], *, without: Sequence[str] = ()) -> str:
    """Return a section as its type and, in brackets, its arguments."""
    rest = {k: v for k, v in section.items() if k not in ("type", *without)}
    shown = ", ".join(f"{key}={_shortly(value)}" for key, value in rest.items())
    name = str(section.get("type", "")).rpartition(":")[2]
    return f"{name} ({shown})" if shown else name


def _shortly(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}…"


def data(facts: Mapping[str, Any]) -> list[tuple[str, int | None, str]]:
    """Return of each split its name, its examples and the hash of its manifest."""
    found = facts.get("data")
    splits = found.items() if isinstance(found, dict) else ()
    return [
        (
            str(split),
            examples if rules.is_int(examples := each.get("examples")) else None,
            str(each.get("hash") or "–"),
        )
        for split, each in splits
        if isinstance(each, dict)
    ]


def costs(facts: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Rows:
    """Return what a step costs: time, waiting, speed, share of the machine's peak, memory."""
    rows: Rows = []
    shown = (
        ("time/step_ms", "a step", "{:,.1f} ms"),
        ("time/data_wait_ms", "of it waiting for data", "{:,.1f} ms"),
        ("time/images_per_s", "speed", "{:,.1f} images a second"),
        ("time/mfu", "MFU, share of the device's peak", "{:.1%}"),
    )
    for name, title, form in shown:
        value = figures.series(records, name)[1]
        if value.size:
            rows.append((title, f"{form.format(float(np.median(value)))} (median)"))
    first = figures.series(records, "time/first_step_s")[1]
    if first.size:
        rows.append(("from the start to the first step", progress.duration(float(first[0]))))
    if is_real(facts.get("compile_seconds")):
        rows.append(("of it compiling", progress.duration(facts["compile_seconds"])))
    if is_real(facts.get("device_step_flops")):
        rows.append(("work of a step", f"{facts['device_step_flops'] / 1e9:,.1f} GFLOP a device"))
    memory = facts.get("device_step_bytes")
    for name, value in memory.items() if isinstance(memory, dict) else ():
        if is_real(value):
            rows.append((f"memory for {name}", f"{value / 1e6:,.1f} MB a device"))
    return rows


def environment(facts: Mapping[str, Any]) -> Rows:
    """Return the machine and the versions that the run was made with."""
    packages = facts.get("packages")
    packages = packages if isinstance(packages, dict) else {}
    devices = facts.get("devices")
    kinds = [str(each) for each in devices] if isinstance(devices, list) else []
    rows = [
        ("devices", ", ".join(f"{kinds.count(kind)} × {kind}" for kind in dict.fromkeys(kinds))),
        ("processor", f"{facts.get('processor', '')}, {facts.get('cores', '?')} cores"),
        ("processes", str(facts.get("processes", ""))),
        ("mesh", _shortly(facts.get("mesh", {}))),
        ("Python", str(facts.get("python", ""))),
        (
            "packages",
            ", ".join(f"{name} {packages[name]}" for name in PACKAGES if name in packages),
        ),
        ("code", str(facts.get("git_revision", ""))),
        ("fingerprint of the config", str(facts.get("fingerprint", ""))),
        ("XLA_FLAGS", str(facts.get("xla_flags", ""))),
    ]
    return [(key, value) for key, value in rows if value]


def is_real(value: Any) -> TypeGuard[float]:
    """Return whether a value of a file is a number that can be shown."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_result(found: Any) -> bool:
    """Return whether what a file holds is what an evaluation writes, as far as a page shows it."""
    per_class = found.get("per_class", {}) if isinstance(found, dict) else None
    if not isinstance(per_class, dict) or not all(isinstance(x, dict) for x in per_class.values()):
        return False
    matrix, k = found.get("confusion_matrix"), len(per_class)
    counts = rules.each(rules.whole(0, MOST_PIXELS), "", least=k, most=k)
    return matrix is None or rules.each(counts, "", least=k, most=k).holds(matrix)


def command(facts: Mapping[str, Any]) -> str:
    """Return the command that made the run; empty where none is recorded."""
    found = facts.get("command")
    return shlex.join(map(str, found)) if isinstance(found, list) else ""


def flat(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the keys of a config with their values as text."""
    own = {key: value for key, value in config.items() if key != "resolved"}
    return {key: json.dumps(value, default=str) for key, value in sections.flatten(own).items()}


def differs(config: Mapping[str, Any]) -> str:
    """Return the keys of a config that have not their default, a line each."""
    usual = flat(schema.fill({}))
    return "\n".join(
        f"{key} = {value}" for key, value in flat(config).items() if usual.get(key) != value
    )
