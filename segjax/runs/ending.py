"""What is drawn of a training at its beginning and at its end."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax

from segjax.assemble import samples
from segjax.assemble.parts import Parts
from segjax.assemble.setup import Setup
from segjax.data import core
from segjax.evaluators import report
from segjax.evaluators.report import Evaluator, Scored
from segjax.runs import film, writer
from segjax.runs.keeper import Keeper
from segjax.runs.live import Live
from segjax.views import figures, sheet


class Ended(NamedTuple):
    """A run whose training is over.

    Attributes:
        run: Its folder, config and log; its checkpoints are open.
        evaluators: Of `config.evals`.
        step: Of the checkpoint that it is known by.
        predictor: Returns what predicts with that; the checkpoint is read then.
        heartbeat: To be called now and then.
    """

    run: Live
    evaluators: Sequence[Evaluator]
    step: int
    predictor: Callable[[], Scored]
    heartbeat: Callable[[], None]


AtEnd = Callable[[Ended], list[str]]
"""What is made of a run that is complete, on all processes; it returns what the log is to say."""


def draw_samples(setup: Setup, source: core.Source, runs: Sequence[Live]) -> None:
    """Draw what the first steps are given, where the config asks for it and one process has it."""
    count, path = setup.config["report"]["samples"], runs[0].path / "figures" / "samples.png"
    if not count or jax.process_count() > 1 or not samples.can_be_shown(setup):
        return
    found = samples.shown(samples.of_training(setup, source, step=0, count=count))
    classes = setup.parts.classes
    sheet.draw(path, found, palette=classes.palette, class_names=classes.class_names)
    for run in runs:
        run.writer.figure("samples", path)


def draw_curves(runs: Sequence[Live], evaluators: Sequence[Evaluator], split: str) -> None:
    """Draw the learning curves of each run, from the first process; `split` is trained on."""
    metric, title = next((e.headline for e in evaluators), ("", ""))
    alike = [e for e in evaluators if e.headline[0] == metric]
    gap = report.gap(alike, trained=split)
    for run in runs if jax.process_index() == 0 else ():
        path = run.path / "figures" / "learning_curves.png"
        figures.learning_curves(
            path,
            writer.read(run.path),
            metric=metric,
            title=title,
            gap=gap,
        )
        run.writer.figure("learning_curves", path)


def finish(keeper: Keeper, parts: Parts, at_end: AtEnd | None) -> None:
    """Make the film of each run, and what else is made of one that is complete."""
    watcher = keeper.watchdog
    for run in keeper.runs:
        watcher.now("report", keeper.final)
        if jax.process_index() == 0 and (made := film.finish(run.path, until=keeper.final)):
            keeper.log.message(f"{made} shows how predictions came to be")
        if at_end is None:
            continue
        step = run.saver.find("")
        ended = Ended(
            run, keeper.evaluators, step, functools.partial(_predictor, run, parts, step),
            lambda: watcher.now("report", keeper.final),
        )  # fmt: skip
        for line in at_end(ended):
            keeper.log.message(f"{run.title}: {line}" if run.title else line)


def _predictor(run: Live, parts: Parts, step: int) -> Scored:
    _, variables = run.saver.restore_variables(str(step), parts.variable_shapes())
    return parts.predictor(variables)
