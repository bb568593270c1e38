"""Fit a classical method: a run as any other, whose only step is the fit."""

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from segjax.assemble import setup as setup_lib
from segjax.assemble.parts import Parts
from segjax.baselines import base as baselines
from segjax.baselines.base import Seen
from segjax.config import trials
from segjax.costs import timing
from segjax.data import core, intensity
from segjax.errors import ConfigError
from segjax.runs import checks, ending, findings, live, place, workdir, writer
from segjax.runs.checkpoint import Checkpointer
from segjax.runs.checks import Checked
from segjax.runs.findings import Finding
from segjax.runs.keeper import Keeper, Next, OnScore
from segjax.runs.live import Live
from segjax.runs.log import Log
from segjax.runtime import distributed, interrupt, sharding, watchdog
from segjax.training.state import TrainState
from segjax.views.progress import Progress

FITTED = 1
"""The step of the only checkpoint."""


def run(
    path: pathlib.Path,
    config: Mapping[str, Any],
    *,
    allow_config_change: bool,
    on_score: OnScore,
    at_end: ending.AtEnd | None = None,
) -> int:
    """Fit what `config` describes in the folder `path`, unless that was done, and score it.

    Args:
        path: The run's folder.
        config: A ConfigDict or plain data.
        allow_config_change: Go on in a folder that another config made.
        on_score: See `keeper.OnScore`; there is nothing that it could end early.
        at_end: What else is made of the run when it is complete.

    Returns:
        The exit code: 0 when done; after a signal, with the fit saved, as `interrupt` has it.

    Raises:
        UserError: Bad config or data (before anything is written), or a full disk.
    """
    checked = check(path, config, allow_config_change=allow_config_change)
    (own,) = live.open_runs(checked.setup.resolved(), path)
    with workdir.locked(path), watchdog.Watchdog() as watcher, contextlib.ExitStack() as stack:
        saver = stack.enter_context(own.open_checkpoints())
        target = shapes_of(checked.setup.parts)
        found = saver.restore_newest(target)
        numbers = None if found is None else found[1]
        seconds, waited = 0.0, 0.0
        if numbers is None:
            begun = time.monotonic()
            examples = Examples(
                checked.setup.parts, checked.source, beat=lambda: watcher.now("fit", FITTED)
            )
            numbers = placed(
                fit(checked.setup.parts.model, examples, seed=own.config["seed"]), target
            )
            seconds, waited = time.monotonic() - begun, examples.seconds
        live.record(path, checked.setup.resolved(), [own], facts(checked, numbers))
        live.record_files(path, [own], checked.files)
        stack.enter_context(own.open_log(None if found is None else FITTED))
        log = stack.enter_context(log_of(checked, own, found is not None))
        for line in checked.notes:
            log.message(line)
        if found is None:
            log.message(say(checked, seconds))
            write_times(own, len(examples), seconds=seconds, waited=waited)
        stop = stack.enter_context(interrupt.stopping())
        keeper = Keeper(
            [own], checked.evaluators, predictor=checked.setup.parts.predictor,
            take=lambda state, _: state, log=log, watchdog=watcher, preempted=stop,
            on_score=on_score, about=checked.setup.parts.about_scores,
        )  # fmt: skip
        if found is None:
            then = keeper(FITTED, numbers, save=True, stop=stop())
        else:
            then = Next.GO_ON if is_scored(own, checked) else keeper.catch_up(FITTED, numbers)
        saver.wait()
        if then is Next.PREEMPTED:
            own.writer.close(stop.code())
            return stop.code()
        ending.finish(keeper, checked.setup.parts, at_end)
    return 0


def check(
    path: pathlib.Path, config: Mapping[str, Any], *, allow_config_change: bool = False
) -> Checked:
    """Find everything that a method's config can get wrong.

    Raises:
        UserError: Bad config or data, or a folder of another config's run.
    """
    if trials.count(config):
        raise ConfigError(
            f"config.trials: are of networks, and {config['model']['type']!r} has neither seed nor "
            "learning rate of theirs. Leave them empty."
        )
    return checks.check(path, config, allow_config_change=allow_config_change)


class Examples:
    """The examples that a method is fitted to, one after the other, with the progress shown.

    Args:
        parts: Of the run.
        source: The training data.
        beat: Called before each.

    Attributes:
        seconds: That reading them took.
    """

    def __init__(self, parts: Any, source: core.Source, *, beat: Callable[[], None] = lambda: None):
        source = intensity.view(source, parts.intensity)
        self.source = core.spread(source, parts.model.examples)
        self.beat, self.seconds = beat, 0.0

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Seen]:
        shown = distributed.is_first()
        with Progress(len(self), unit="images", title="fit", leave=False, enabled=shown) as bar:
            for number in range(len(self)):
                self.beat()
                begun = time.monotonic()
                example = self.source[number]
                seen = Seen(np.asarray(example["image"]), np.asarray(example["label"]))
                self.seconds += time.monotonic() - begun
                yield seen
                bar.update(number + 1)


def fit(method: Any, examples: Examples, *, seed: int) -> dict[str, np.ndarray]:
    """Return a method's numbers, float32, of the shapes that it says.

    Raises:
        DataError: Nothing can be learned of these examples.
    """
    channels = core.channels_of(examples.source.schema)
    found, shapes = method.fit(examples, seed=seed), method.shapes(channels)
    found = {name: np.asarray(found[name], np.float32) for name in shapes}
    wrong = {name: array.shape for name, array in found.items() if array.shape != shapes[name]}
    if wrong:
        raise ValueError(f"{baselines.title(method)}: fitted {wrong}, and said {shapes}")
    return found


def again(path: pathlib.Path, config: Mapping[str, Any]) -> Finding:
    """Return whether fitting the run in `path` once more gives the numbers that it has, bit by bit.

    Args:
        path: Its folder.
        config: What made it.

    Raises:
        UserError: Its data or its checkpoint cannot be read.
    """
    plain = {key: value for key, value in config.items() if key != "resolved"}
    setup, source = setup_lib.make_setup(plain)
    with Checkpointer.of_section(path, plain["checkpoint"], read_only=True) as saver:
        _, kept = saver.restore_variables("", None)
    found = fit(setup.parts.model, Examples(setup.parts, source), seed=plain["seed"])
    other = [
        name for name, array in found.items() if not np.array_equal(kept["params"][name], array)
    ]
    if other:
        return findings.differs("the fit", f"made again, other numbers in {', '.join(other)}")
    return findings.ok("the fit", f"made again, the same numbers in {', '.join(found)}")


def shapes_of(parts: Parts) -> TrainState:
    """Return the state of a fitted method as shapes with their placement."""
    step = {"step": jax.ShapeDtypeStruct((), np.int32)}
    placed_step = sharding.with_placement(step, sharding.infer(step, parts.mesh))
    return TrainState(placed_step["step"], parts.variable_shapes()["params"], {}, {}, {})


def placed(numbers: Mapping[str, np.ndarray], target: TrainState) -> TrainState:
    """Return what was fitted as the state of a run, on the devices."""
    params = {name: jax.device_put(numbers[name], s.sharding) for name, s in target.params.items()}
    step = jax.device_put(np.int32(FITTED), target.step.sharding)
    return TrainState(step, params, {}, {}, {})


def is_scored(own: Live, checked: Checked) -> bool:
    """Return whether a run that was fitted before has logged its scores; it has no loss."""
    logged = {name for record in writer.read(own.path) for name in record}
    return all(logged & {*each.metrics()} for each in checked.evaluators)


def log_of(checked: Checked, own: Live, resumed: bool) -> Log:
    """Return the log of a run of one step that costs nothing."""
    setup = checked.setup
    costs, start = timing.Costs(0.0, {}, 0.0), FITTED if resumed else None
    return Log([own], setup.clock, setup.log_steps, start, costs, "float32")


def write_times(own: Live, examples: int, *, seconds: float, waited: float) -> None:
    """Log what the fit took, as a step of all its examples."""
    times = {
        "time/step_ms": 1e3 * seconds,
        "time/data_wait_ms": 1e3 * waited,
        "time/images_per_s": examples / max(seconds, 1e-9),
    }
    own.writer.write(FITTED, times)


def say(checked: Checked, seconds: float) -> str:
    """Return one line on what was fitted."""
    method: Any = checked.setup.parts.model
    used = len(core.spread(checked.source, method.examples))
    return (
        f"{baselines.title(method)}: fitted to {used} of {len(checked.source)} examples in "
        f"{seconds:.1f} s"
    )


def facts(checked: Checked, state: TrainState) -> dict[str, Any]:
    """Return what `run.json` says of the machine and the method; no step was compiled."""
    return {
        **place.of_mesh(checked.setup.parts.mesh),
        "image_scales": checked.image_scales,
        "reading": core.reading_of(checked.source),
        "data": checked.data,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "device_step_flops": 0.0,
        "device_step_bytes": {},
        "compile_seconds": 0.0,
    }
