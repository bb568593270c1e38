"""Train: set up, trace, compile, restore, loop."""

import contextlib
import functools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax

from segjax.assemble import program as program_lib
from segjax.assemble import setup as setup_lib
from segjax.assemble.parts import Parts
from segjax.assemble.program import Program
from segjax.assemble.setup import Setup
from segjax.config import lookup, schedule
from segjax.config.schedule import itstime
from segjax.costs import profile, timing
from segjax.errors import ConfigError
from segjax.evaluators.report import Evaluator
from segjax.inference.network import Network
from segjax.runs import digest, live, transfer, workdir, writer
from segjax.runs.keeper import Keeper, Next, OnScore
from segjax.runs.live import Live
from segjax.runs.log import Log
from segjax.runtime import distributed, watchdog
from segjax.structs import Batch, Key
from segjax.training import trials
from segjax.training.state import TrainState
from segjax.views import figures

DONE, PREEMPTED = 0, 75


def run(
    path: pathlib.Path,
    config: Mapping[str, Any],
    *,
    allow_config_change: bool = False,
    profile_steps: str = "",
    on_score: OnScore = lambda run, step, scalars: False,
) -> int:
    """Train what `config` describes in the folder `path`, continuing what is there.

    Args:
        path: The run's folder.
        config: A ConfigDict or plain data.
        allow_config_change: Go on in a folder that another config made.
        profile_steps: Steps to trace into `<path>/profile`, see `profile.Tracer`.
        on_score: Ends training early where it returns True; see `keeper.OnScore`.

    Returns:
        The exit code: 0 when done, 75 when preempted after a saved checkpoint.

    Raises:
        UserError: Bad config or data (before anything is written), NaN, or a full disk.
    """
    setup, source = setup_lib.make_setup(config)
    parts, clock = setup.parts, setup.clock
    evaluators = setup_lib.make_evaluators(setup.config, parts, clock)
    save_steps = check_saving(setup, evaluators)
    tracer = profile.Tracer(path / "profile", profile_steps, clock.total_steps)
    resolved = setup.resolved()
    workdir.check(path, resolved, allow_change=allow_config_change)
    runs = live.open_runs(resolved, path)
    step_key = live.step_keys(runs)
    traced = program_lib.trace(setup, runs[0].init_key, step_key)
    weights = transfer.Weights(setup.config["model"], parts.model, parts.image_shape())
    if not transfer.resumes(runs[0].path, runs[0].config["checkpoint"]):
        weights.read()  # what is wrong with them is said before anything is compiled or written
    with workdir.locked(path):
        with tracer.compiling() as options:
            program = traced.compile(options)
        live.record(path, resolved, runs, facts(parts, program.costs))
        with (
            watchdog.Watchdog() as dog,
            distributed.preemption() as preempted,
            contextlib.ExitStack() as stack,
            tracer,
        ):
            for each in runs:
                stack.enter_context(each.open_checkpoints())
            dog.now("restore", 0)
            start, state = start_state(runs, program, weights)
            begin = start or 0
            tracer.check(begin)
            for each in runs:
                stack.enter_context(each.open_log(start))
            log = stack.enter_context(
                Log(runs, clock, setup.log_steps, start, program.costs, parts.model.compute_dtype)
            )
            keeper = Keeper(
                runs,
                evaluators,
                predictor=functools.partial(Network, parts.forward),
                take=trials.make_take(program.target),
                log=log,
                watchdog=dog,
                preempted=preempted,
                on_score=on_score,
            )
            batches = program_lib.make_batches(setup, source, begin)
            stack.enter_context(contextlib.closing(batches))
            log.message(f"{describe(state, parts, program.costs)}; from step {begin}, {path}")
            for line in weights.said:
                log.message(line)
            then = Next.GO_ON if start is None else keeper.catch_up(start, state)
            last = begin
            if then is Next.GO_ON:
                hashes = setup.config["log_batch_hashes"]
                then, last = loop(
                    program, batches, state, keeper, tracer,
                    steps=range(begin + 1, clock.total_steps + 1), step_key=step_key,
                    save_steps=save_steps, hashes=hashes,
                )  # fmt: skip
            if then is not Next.GO_ON:
                return stopped(then, last, keeper)
            dog.now("checkpoint save", last)
    draw_curves(runs, evaluators)
    return DONE


def loop(
    program: Program,
    batches: Iterator[Batch],
    state: TrainState,
    keeper: Keeper,
    tracer: profile.Tracer,
    *,
    steps: range,
    step_key: Key,
    save_steps: int,
    hashes: bool,
) -> tuple[Next, int]:
    """Train from the first of `steps` on; return what ended it, and after which step.

    The device works on a step while the numbers of the one before are read.
    """
    log, dog = keeper.log, keeper.watchdog
    for number in steps:
        dog.now("data wait", number)
        with log.watch.waiting_for_data():
            batch = next(batches)
        if hashes:
            keeper.runs[0].writer.write(number, {"data/batch_hash": digest.of_arrays(batch)})
        dog.now("step", number)
        with tracer.step(number, program.step, log):
            state, scalars = program.step(state, batch, step_key)
            log.read_previous(number, scalars)
        save, stop = itstime(number, save_steps, steps[-1]), keeper.preempted()
        if save or stop or keeper.due(number):
            log.read_last()
            with log.watch.paused():
                then = keeper(number, state, save=save, stop=stop)
            if then is not Next.GO_ON:
                return then, number
    return Next.GO_ON, steps.stop - 1


def stopped(then: Next, number: int, keeper: Keeper) -> int:
    """Wait for the checkpoint of a run that ends early, say so, and return the exit code."""
    for run in keeper.runs:
        run.saver.wait()
    if then is Next.ENOUGH:
        keeper.log.message(f"stopped after step {number}, as asked; its checkpoint is saved")
        return DONE
    keeper.log.message(f"preempted: checkpoint {number} is saved, run again to go on")
    return PREEMPTED


def check_saving(setup: Setup, evaluators: Sequence[Evaluator]) -> int:
    """Return how often to save, having checked what `checkpoint.keep_best` names.

    Raises:
        ConfigError: No evaluator logs it.
    """
    section = setup.config["checkpoint"]
    logged = [name for evaluator in evaluators for name in evaluator.metrics()]
    if section["keep_best"] not in ("", *logged):
        raise ConfigError(
            f"config.checkpoint.keep_best={section['keep_best']!r}: nothing in config.evals logs "
            f"it.{lookup.suggest(section['keep_best'], logged)} Empty keeps none."
        )
    return schedule.in_steps(section, ("save",), setup.clock, "config.checkpoint")["save_steps"]


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
        states = [weights.put(program.init(run.init_key)) for run in runs]
    else:
        states = [
            state if step == start else run.saver.restore(start, program.target)
            for run, (step, state) in zip(runs, filter(None, found), strict=True)
        ]
    return start, trials.stack(states, program.target)


def draw_curves(runs: Sequence[Live], evaluators: Sequence[Evaluator]) -> None:
    """Draw the learning curves of each run, from the first process."""
    metric, title = next((e.headline for e in evaluators), ("", ""))
    for run in runs if jax.process_index() == 0 else ():
        figures.learning_curves(
            run.path / "figures" / "learning_curves.png",
            writer.read(run.path),
            metric=metric,
            title=title,
        )


def facts(parts: Parts, costs: timing.Costs) -> dict[str, Any]:
    """Return what `run.json` says of the machine and the compiled step."""
    return {
        "devices": [device.device_kind for device in jax.devices()],
        "cores": len(os.sched_getaffinity(0)),
        "processes": jax.process_count(),
        "mesh": dict(parts.mesh.shape),
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
