"""Train: build, shard, restore, loop. The only file that sees everything."""

import contextlib
import math
import os
import pathlib
import signal
import threading
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import jax

from segjax import (
    assemble,
    checkpoint,
    evaluate,
    figures,
    lookup,
    optim,
    progress,
    schedule,
    sharding,
    step,
    timing,
    workdir,
    writer,
)
from segjax import config as config_lib
from segjax import state as state_lib
from segjax.augment import compose
from segjax.data import pipeline
from segjax.errors import ConfigError
from segjax.schedule import itstime

DONE, PREEMPTED = 0, 75


def run(path: pathlib.Path, config: Mapping[str, Any], *, allow_config_change: bool = False) -> int:
    """Train what `config` describes in the folder `path`, continuing what is there.

    Returns:
        The exit code: 0 when done, 75 when preempted after a saved checkpoint.

    Raises:
        UserError: Bad config or data (before anything is written), NaN, or a full disk.
    """
    config = config_lib.section(config)
    config_lib.check_top_level(config)
    source = assemble.make_source(config, config["input"]["split"])
    parts = assemble.make_parts(config, assemble.classes_of(source))
    clock = schedule.Clock(config["input"]["batch_size"], len(source))
    durations = schedule.in_steps(config, ("total", "log"), clock, "config")
    clock = clock._replace(total_steps=durations["total_steps"])
    evaluators = evaluate.make_evaluators(config, parts, clock)
    saving = schedule.in_steps(config["checkpoint"], ("save",), clock, "config.checkpoint")
    save_steps = saving.pop("save_steps")
    lookup.check_arguments(
        checkpoint.Checkpointer, saving, ["workdir", "read_only"], where="config.checkpoint"
    )
    logged = [name for evaluator in evaluators for name in evaluator.metrics()]
    if saving["keep_best"] not in ("", *logged):
        raise ConfigError(
            f"config.checkpoint.keep_best={saving['keep_best']!r}: nothing in config.evals logs it."
            f"{lookup.suggest(saving['keep_best'], logged)} Empty keeps none."
        )
    resolved = config | {"resolved": parts.classes | clock._asdict()}
    workdir.check(path, resolved, allow_change=allow_config_change)

    init_key, step_key = jax.random.split(jax.random.key(config["seed"]))
    init, train_step, target = compile_step(config, parts, clock, init_key, step_key)
    if jax.process_index() == 0:
        workdir.record(path, resolved, facts(parts, train_step))
    checkpointer = checkpoint.Checkpointer(path, **saving)
    start = checkpointer.latest_step()
    state = init(init_key) if start is None else checkpointer.restore(start, target)
    begin = start or 0
    with contextlib.closing(make_batches(config, source, parts, begin)) as batches:
        log = Log(path, clock, durations["log_steps"], start, watch(train_step, parts, clock))
        log.message(f"{describe(state, parts, train_step)}; from step {begin}, {path}")
        with log, preemption() as preempted, contextlib.closing(checkpointer):
            for number in range(begin, clock.total_steps):
                with log.watch.waiting_for_data():
                    batch = next(batches)
                state, scalars = train_step(state, batch, step_key)
                log.read_previous(number + 1, scalars)  # the device works on this step meanwhile
                save = itstime(number + 1, save_steps, clock.total_steps) or preempted.is_set()
                due = [
                    e for e in evaluators if itstime(number + 1, e.every_steps, clock.total_steps)
                ]
                if due or save:
                    log.read_last()
                    with log.watch.paused():
                        last = number + 1 == clock.total_steps
                        metrics = evaluate.run_all(due, state, path, log, draw=last)
                        if save or saving["keep_best"] in metrics:
                            checkpointer.save(number + 1, state, metrics)
                if preempted.is_set():
                    checkpointer.wait()
                    log.message(f"preempted: checkpoint {number + 1} is saved, run again to go on")
                    return PREEMPTED
    if jax.process_index() == 0:
        figures.learning_curves(path / "figures" / "learning_curves.png", writer.read(path))
    return DONE


def compile_step(
    config: Mapping[str, Any],
    parts: assemble.Parts,
    clock: schedule.Clock,
    init_key: jax.Array,
    step_key: jax.Array,
) -> tuple[Any, Any, Any]:
    """Return jitted `init(key)`, the compiled train step, and the state's shapes with placement."""
    init, train_step, target = make_step(config, parts, clock, init_key)
    size, channels = parts.canvas.size, parts.classes["channels"]
    batch = pipeline.batch_shapes(clock.batch_size, size, channels)
    return init, train_step.lower(target, batch, step_key).compile(), target


def make_step(
    config: Mapping[str, Any], parts: assemble.Parts, clock: schedule.Clock, init_key: jax.Array
) -> tuple[Any, Any, Any]:
    """Return jitted `init(key)` and train step, and the state's shapes with placement."""
    sharding.check_divides(clock.batch_size, parts.canvas.size[0], parts.mesh, where="config.input")
    tx, rate = optim.make_optimizer(config["optimizer"], clock)
    ops = [
        lookup.build("augment", section, where=f"config.augment[{i}]")
        for i, section in enumerate(config["augment"])
    ]
    image_shape = (*parts.canvas.size, parts.classes["channels"])

    def init(key: jax.Array) -> state_lib.TrainState:
        ema = config["ema_decay"] > 0
        return state_lib.init_state(key, model=parts.model, tx=tx, image_shape=image_shape, ema=ema)

    target = assemble.state_shapes(init, init_key, parts.mesh)
    placement = jax.tree.map(lambda leaf: leaf.sharding, target)
    whole = sharding.replicated(parts.mesh)
    train_step = jax.jit(
        step.make_train_step(
            parts.model,
            parts.task,
            tx,
            rate,
            augment=compose.make_augment(ops),
            normalize=parts.normalize,
            microbatches=config["microbatches"],
            ema_decay=config["ema_decay"],
        ),
        donate_argnums=0,
        in_shardings=(placement, sharding.batch_sharding(parts.mesh), whole),
        out_shardings=(placement, whole),
    )
    return jax.jit(init, out_shardings=placement), train_step, target


def make_batches(
    config: Mapping[str, Any], source: Any, parts: assemble.Parts, start_step: int
) -> Generator[Any]:
    """Yield the training batches from `start_step` on, on the devices."""
    section = {k: v for k, v in config["input"].items() if k not in ("source", "split", "size")}
    lookup.check_arguments(pipeline.train_batches, section, PIPELINE_GIVEN, where="config.input")
    host = pipeline.train_batches(
        source,
        size=parts.canvas.size,
        seed=config["seed"],
        start_step=start_step,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        **section,
    )
    with contextlib.closing(host):
        yield from sharding.to_device(host, parts.mesh)


PIPELINE_GIVEN = ("size", "seed", "start_step", "process_index", "process_count")


def facts(parts: assemble.Parts, train_step: Any) -> dict[str, Any]:
    """Return what `run.json` says of the machine and the compiled step."""
    memory = train_step.memory_analysis()
    return {
        "devices": [device.device_kind for device in jax.devices()],
        "cores": len(os.sched_getaffinity(0)),
        "processes": jax.process_count(),
        "mesh": dict(parts.mesh.shape),
        "step_flops": flops_of(train_step),
        "step_temporary_bytes": getattr(memory, "temp_size_in_bytes", None),
    }


def describe(state: state_lib.TrainState, parts: assemble.Parts, train_step: Any) -> str:
    """Return one line on what is trained, and where."""
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    devices = jax.devices()
    return (
        f"{count / 1e6:.2f} M parameters, {flops_of(train_step) / 1e9:.1f} GFLOP a step, "
        f"{len(devices)} × {devices[0].device_kind}, mesh {dict(parts.mesh.shape)}"
    )


def flops_of(compiled: Any) -> float:
    """Return XLA's count of a compiled step's FLOPs on one device (0 where it gives none)."""
    return float((compiled.cost_analysis() or {}).get("flops", 0.0))


def watch(train_step: Any, parts: assemble.Parts, clock: schedule.Clock) -> timing.Stopwatch:
    """Return the stopwatch of the loop."""
    peak = timing.peak_flops(parts.mesh.devices.flat[0])
    return timing.Stopwatch(flops=flops_of(train_step), peak=peak, batch_size=clock.batch_size)


@contextlib.contextmanager
def preemption() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM sets, so that the loop can save and leave with code 75."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)


class Log:
    """Read each step's numbers one step late; average, write and show them."""

    def __init__(
        self,
        path: pathlib.Path,
        clock: schedule.Clock,
        log_steps: int,
        start: int | None,
        stopwatch: timing.Stopwatch,
    ):
        self.writer = writer.Writer(path, resume_step=start, enabled=jax.process_index() == 0)
        self.progress = progress.Progress(
            clock.total_steps, start=start or 0, enabled=jax.process_index() == 0
        )
        self.total_steps, self.log_steps, self.watch = clock.total_steps, log_steps, stopwatch
        self.pending: tuple[int, Any] | None = None
        self.window: list[dict[str, float]] = []

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *error: Any) -> None:
        self.progress.close()
        self.writer.close()

    def read_previous(self, number: int, scalars: Any) -> None:
        """Read the step before this one, now that this one has been launched."""
        self.read_last()
        self.pending = number, scalars

    def read_last(self) -> None:
        """Wait for the step launched last and take its numbers."""
        if self.pending is None:
            return
        number, scalars = self.pending
        self.pending = None
        values = {f"train/{name}": float(x) for name, x in jax.device_get(scalars).items()}
        if not all(map(math.isfinite, values.values())):
            self.writer.write(number, values)  # writes what is finite, then raises
        self.watch.tick()
        self.window.append(values)
        shown = {}
        if itstime(number, self.log_steps, self.total_steps):
            shown = {k: sum(v[k] for v in self.window) / len(self.window) for k in values}
            shown |= {"train/lr": values["train/lr"]} | self.watch.scalars()
            self.writer.write(number, shown)
            self.window = []
        self.progress.update(number, shown)

    def message(self, text: str) -> None:
        """Show a line above the progress bar."""
        self.progress.message(text)
