"""Evaluate: score every split of `config.evals`, write `eval/<name>.json` and its figures."""

import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from segjax.assemble import parts as assemble
from segjax.config import lookup, schedule, sections, trials
from segjax.errors import ConfigError
from segjax.runs import checkpoint, workdir
from segjax.runtime import files
from segjax.training.state import TrainState
from segjax.views import figures, progress


def run(path: pathlib.Path, *, which: str = "", overrides: Iterable[str] = ()) -> int:
    """Evaluate a checkpoint of the run in `path` on all its splits.

    Args:
        path: The run's folder.
        which: 'best', 'latest' or a step; empty: best where the run keeps one, else latest.
        overrides: Assignments such as `evals.val.batch_size=3`.
    """
    config, parts, variables, step = load(path, which=which, overrides=overrides)
    resolved = config["resolved"]
    clock = schedule.Clock(*(resolved[name] for name in schedule.Clock._fields))
    for evaluator in make_evaluators(config, parts, clock):
        report(evaluator, variables, path, step=step)
    return 0


def load(
    path: pathlib.Path, *, which: str = "", overrides: Iterable[str] = ()
) -> tuple[dict[str, Any], assemble.Parts, Any, int]:
    """Return config, parts, variables and step of a checkpoint; needs nothing but the run's folder.

    Raises:
        UserError: No run there, no such checkpoint, or an override that does not fit.
    """
    config = sections.override(workdir.load_config(path), overrides)
    if number := trials.count(config):
        raise ConfigError(
            f"--workdir={path} holds {number} trials, each a run of its own. Name one of them: "
            f"--workdir={path / 'trial0'}."
        )
    parts = assemble.make_parts(config, config["resolved"])
    saving = {k: v for k, v in config["checkpoint"].items() if not k.startswith("save_")}
    checkpointer = checkpoint.Checkpointer(path, **saving, read_only=True)
    step = checkpointer.find(which)
    variables = checkpointer.restore_variables(step, parts.variable_shapes())
    checkpointer.close()
    return config, parts, variables, step


def make_evaluators(
    config: Mapping[str, Any], parts: assemble.Parts, clock: schedule.Clock
) -> list[Any]:
    """Build every evaluator of `config.evals`, its split opened."""
    evaluators = []
    for name, section in config["evals"].items():
        where = f"config.evals.{name}"
        section = schedule.in_steps(section, ("every",), clock, where)
        if "split" not in section:
            raise ConfigError(f"{where}: needs 'split', the split it scores.")
        source = assemble.make_source(config, section["split"], where=where)
        evaluators.append(
            lookup.build("evaluators", section, where=where, name=name, source=source, parts=parts)
        )
    return evaluators


def run_all(
    evaluators: list[Any],
    state: TrainState,
    path: pathlib.Path,
    message: Callable[[str], None],
    writer: Any,
    *,
    draw: bool,
    beat: Callable[[], None],
) -> dict[str, float]:
    """Run the evaluators that are due, write their scalars, and return them.

    `beat` is called after every batch; what it raises ends the evaluation.
    """
    step, scalars = int(state.step), {}
    for evaluator in evaluators:
        shown: Any = dict(message=message, draw=draw, beat=beat)
        scalars |= report(evaluator, state.variables(), path, step=step, **shown)
    if scalars:
        writer.write(step, scalars)
    return scalars


def report(
    evaluator: Any,
    variables: Any,
    path: pathlib.Path,
    *,
    step: int,
    message: Callable[[str], None] = print,
    draw: bool = True,
    beat: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Run one evaluator, write its JSON and (with `draw`) its figures, and return its scalars."""
    name, first = evaluator.name, jax.process_index() == 0
    with progress.Progress(
        len(evaluator.source), unit="images", title=name, leave=False, enabled=first, beat=beat
    ) as bar:
        done = evaluator.run(variables, step=step, progress=bar)
    rows = evaluator.examples(variables, done.scores) if draw else []
    if first:
        files.write_json(path / "eval" / f"{name}.json", done.result)
        message(
            f"step {step}  {name}: mIoU {done.result['miou']:.4f}  pixel accuracy "
            f"{done.result['pixel_accuracy']:.4f}  loss {done.result['loss']:.4f}"
        )
        for absent in done.result["absent_classes"]:
            message(f"{name}: class {absent!r} occurs neither in labels nor in predictions")
    if first and draw:
        folder, classes = path / "figures", evaluator.parts.classes
        figures.class_iou(folder / f"{name}_class_iou.png", done.result)
        figures.confusion_matrix(folder / f"{name}_confusion_matrix.png", done.result)
        figures.examples(
            folder / f"{name}_examples.png",
            rows,
            palette=classes["palette"],
            class_names=classes["class_names"],
        )
    return done.scalars
