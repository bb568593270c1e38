"""Train: set up, trace, compile, restore, loop."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from segjax.assemble import program as program_lib
from segjax.assemble.parts import Parts
from segjax.assemble.program import Program, Traced
from segjax.assemble.setup import Setup
from segjax.baselines import base as baselines
from segjax.config import schedule
from segjax.config.schedule import itstime
from segjax.costs import profile, timing
from segjax.data import core
from segjax.errors import ConfigError
from segjax.evaluators.report import Evaluator
from segjax.runs import (
    checks,
    digest,
    ending,
    failure,
    fitting,
    live,
    place,
    transfer,
    workdir,
)  # fmt: skip
from segjax.runs.keeper import Keeper, Next, OnScore
from segjax.runs.live import Live
from segjax.runs.log import Log
from segjax.runtime import interrupt, watchdog
from segjax.structs import Batch, Key
from segjax.training import trials
from segjax.training.state import TrainState
from segjax.views import progress

DONE = 0


def run(
    path: pathlib.Path,
    config: Mapping[str, Any],
    *,
    allow_config_change: bool = False,
    profile_steps: str = "",
    on_score: OnScore = lambda run, step, scalars: False,
    at_end: ending.AtEnd | None = None,
    begun: float | None = None,
) -> int:
    """Train what `config` describes in the folder `path`, continuing what is there.

    A classical method is fitted instead, see `fitting`.

    Args:
        path: The run's folder.
        config: A ConfigDict or plain data.
        allow_config_change: Go on in a folder that another config made.
        profile_steps: Steps to trace into `<path>/profile`, see `profile.Tracer`.
        on_score: Ends training early where it returns True; see `keeper.OnScore`.
        at_end: What else is made of each run that is complete.
        begun: When it was begun, by `time.monotonic`; None: with the process. The log says how long
            the first step took from there.

    Returns:
        The exit code: 0 when done; after a saved checkpoint 75, or 130 where Ctrl-C ended it.

    Raises:
        UserError: Bad config or data (before anything is written), NaN, or a full disk.
    """
    if baselines.is_method(config["model"]):
        own = {"allow_config_change": allow_config_change, "on_score": on_score}
        return fitting.run(path, config, at_end=at_end, **own)
    ready = prepare(path, config, allow_config_change=allow_config_change)
    tracer = profile.Tracer(path / "profile", profile_steps, ready.setup.clock.total_steps)
    if not ready.resumes():
        ready.weights.read()  # what is wrong with them is said before anything is written
    first = jax.process_index() == 0
    with workdir.locked(path):
        said = progress.stage("compiling the train step", enabled=first)
        with said, tracer.compiling() as options:
            program = ready.traced.compile(options)
        return go_on(ready, program, tracer, on_score, at_end, begun)


class Ready(NamedTuple):
    """All that a config says, checked, and nothing compiled, downloaded or written.

    Attributes:
        path: The folder.
        setup: The config and what it describes.
        source: The training data.
        evaluators: Of `config.evals`.
        save_steps: How often to save.
        resolved: The config as the folder records it.
        runs: One, or one for each trial.
        step_key: Of augmentation and dropout; of trials one each.
        traced: The train step.
        weights: What a new run starts from.
        notes: What the log is to say of the data.
        image_scales: The least and the largest factor that brings images to the canvas.
        reading: How the data set reads images; empty: it does not say.
        data: Which data it is, see `data_record`.
        files: Lists its files, and reads those of small data sets.
    """

    path: pathlib.Path
    setup: Setup
    source: core.Source
    evaluators: list[Evaluator]
    save_steps: int
    resolved: dict[str, Any]
    runs: list[Live]
    step_key: Key
    traced: Traced
    weights: transfer.Weights
    notes: list[str]
    image_scales: list[float]
    reading: dict[str, Any]
    data: dict[str, dict[str, Any]]
    files: Callable[[], dict[str, dict[str, list[Any]]]]

    def resumes(self) -> bool:
        """Return whether there is a checkpoint to go on from."""
        first = self.runs[0]
        return transfer.resumes(first.path, first.config["checkpoint"])


def check(path: pathlib.Path, config: Mapping[str, Any]) -> Setup:
    """Return what a config describes, having found everything that it can get wrong.

    Raises:
        UserError: As `run`, and nothing was written.
    """
    if baselines.is_method(config["model"]):
        return fitting.check(path, config).setup
    return prepare(path, config).setup


def prepare(
    path: pathlib.Path, config: Mapping[str, Any], *, allow_config_change: bool = False
) -> Ready:
    """Find everything that the config of a network can get wrong.

    Raises:
        UserError: Bad config or data, or a folder of another config's run.
    """
    checked = checks.check(path, config, allow_config_change=allow_config_change)
    setup = checked.setup
    transfer.options(setup.config["model"])
    resolved = setup.resolved()
    runs = live.open_runs(resolved, path)
    step_key = live.step_keys(runs)
    traced = program_lib.trace(setup, runs[0].init_key, step_key)
    weights = transfer.Weights(
        setup.config["model"], setup.parts.model, setup.parts.image_shape(),
        normalize=setup.config["normalize"],
    )  # fmt: skip
    return Ready(
        path, setup, checked.source, checked.evaluators, checked.save_steps, resolved, runs,
        step_key, traced, weights, checked.notes, checked.image_scales,
        core.reading_of(checked.source), checked.data, checked.files,
    )  # fmt: skip


def go_on(
    ready: Ready,
    program: Program,
    tracer: profile.Tracer,
    on_score: OnScore,
    at_end: ending.AtEnd | None,
    begun: float | None,
) -> int:
    """Restore what is there, train to the end, and return the exit code."""
    setup, runs, parts = ready.setup, ready.runs, ready.setup.parts
    with (
        failure.leaving(setup, ready.source, runs),
        watchdog.Watchdog() as watcher,
        interrupt.stopping() as stop,
        contextlib.ExitStack() as stack,
        tracer,
    ):
        for run in runs:
            stack.enter_context(run.open_checkpoints())
        watcher.now("restore", 0)
        start, state = start_state(runs, program, ready.weights)
        check_length(ready.path, start or 0, setup.clock)
        # Not before the state fits: a run that cannot go on keeps the config that made it.
        live.record(ready.path, ready.resolved, runs, facts(ready, program))
        live.record_files(ready.path, runs, ready.files)
        begin, total_steps = start or 0, setup.clock.total_steps
        tracer.check(begin)
        for run in runs:
            stack.enter_context(run.open_log(start))
        dtype = parts.model.compute_dtype
        log = stack.enter_context(
            Log(runs, setup.clock, setup.log_steps, start, program.costs, dtype, begun)
        )
        log.message(f"{describe(state, parts, program.costs)}; from step {begin}, {ready.path}")
        for line in (*ready.notes, *ready.traced.warnings, *ready.weights.notes):
            log.message(line)
        keeper = Keeper(
            runs,
            ready.evaluators,
            predictor=parts.predictor,
            take=trials.make_take(program.target),
            log=log,
            watchdog=watcher,
            preempted=stop,
            on_score=on_score,
            about=parts.about_scores,
        )
        then = Next.GO_ON if start is None else keeper.catch_up(start, state)
        if then is Next.GO_ON:
            if not begin:
                ending.draw_samples(setup, ready.source, runs)
            batches = program_lib.make_batches(setup, ready.source, begin)
            stack.enter_context(contextlib.closing(batches))
            begin, then = loop(
                ready, program, batches, state, keeper, tracer, range(begin + 1, total_steps + 1)
            )
        if then in (Next.PREEMPTED, Next.ENOUGH):
            return stopped(then, begin, keeper, stop)
        watcher.now("checkpoint save", keeper.final)
        keeper.report_best(parts.variable_shapes())
        ending.draw_curves(runs, ready.evaluators, setup.config["input"]["split"])
        ending.finish(keeper, parts, at_end)
    return DONE


def loop(
    ready: Ready,
    program: Program,
    batches: Iterator[Batch],
    state: TrainState,
    keeper: Keeper,
    tracer: profile.Tracer,
    steps: range,
) -> tuple[int, Next]:
    """Train through `steps`; return after which it ended, and why.

    The device works on a step while the numbers of the one before are read.
    """
    log, watcher, key = keeper.log, keeper.watchdog, ready.step_key
    for number in steps:
        watcher.now("data wait", number)
        with log.watch.waiting_for_data():
            batch = next(batches)
        if ready.setup.config["log_batch_hashes"]:
            keeper.runs[0].writer.write(number, {"data/batch_hash": digest.of_arrays(batch)})
        watcher.now("step", number)
        with tracer.step(number, program.step, log):
            state, scalars = program.step(state, batch, key)
            log.read_previous(number, scalars)
        save, stop = itstime(number, ready.save_steps, steps[-1]), keeper.preempted()
        if save or stop or keeper.due(number):
            log.read_last()
            with log.watch.paused():
                then = keeper(number, state, save=save, stop=stop)
            if then is not Next.GO_ON:
                return number, then
    return steps.stop - 1, Next.GO_ON


def stopped(then: Next, number: int, keeper: Keeper, stop: interrupt.Stop) -> int:
    """Wait for the checkpoint of a run that ends early, say so, and return the exit code."""
    for run in keeper.runs:
        run.saver.wait()
    if then is Next.ENOUGH:
        keeper.log.message(f"stopped after step {number}, as asked; its checkpoint is saved")
        return DONE
    keeper.log.message(f"preempted: checkpoint {number} is saved, run again to go on")
    for run in keeper.runs:
        run.writer.close(stop.code())
    return stop.code()


def start_state(
    runs: Sequence[Live], program: Program, weights: transfer.Weights
) -> tuple[int | None, TrainState]:
    """Return the newest good checkpoint's step and state; None and a new state without one.

    Of trials the newest that all have, stacked; what some have beyond it is dropped.
    """
    found = [run.saver.restore_newest(program.target) for run in runs]
    steps = [step for step, _ in filter(None, found)]
    start = min(steps) if len(steps) == len(runs) else None
    if len(runs) > 1:
        for run in runs:
            run.saver.drop_after(start or 0)
    if start is None:
        states = [weights.apply(program.init(run.init_key)) for run in runs]
    else:
        states = [
            state if step == start else run.saver.restore(start, program.target)
            for run, (step, state) in zip(runs, filter(None, found), strict=True)
        ]
    return start, trials.stack(states, program.target)


def check_length(path: pathlib.Path, start: int, clock: schedule.Clock) -> None:
    """Refuse to go on from a checkpoint that lies behind the end of the run.

    Raises:
        ConfigError: Its step, and how long the run is.
    """
    if start > clock.total_steps:
        raise ConfigError(
            f"{path} has checkpoint {start}, and config.total_… makes a run of {clock.total_steps} "
            "steps. Make it longer, move that checkpoint away, or use another --workdir."
        )


def facts(ready: Ready, program: Program) -> dict[str, Any]:
    """Return what `run.json` says of the machine, the model and the compiled step."""
    costs = program.costs
    return {
        **place.of_mesh(ready.setup.parts.mesh),
        "image_scales": ready.image_scales,
        "reading": ready.reading,
        "data": ready.data,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(program.target.params)),
        "device_step_flops": costs.flops,
        "device_step_bytes": costs.memory,
        "compile_seconds": costs.seconds,
    }


def describe(state: TrainState, parts: Parts, costs: timing.Costs) -> str:
    """Return one line on what is trained, and where."""
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    memory, devices = sum(costs.memory.values()), jax.devices()
    return (
        f"{count / 1e6:.2f} M parameters; a step is {costs.flops / 1e9:.1f} GFLOP and "
        f"{memory / 1e6:.0f} MB a device; {len(devices)} × {devices[0].device_kind}, "
        f"mesh {dict(parts.mesh.shape)}"
    )
