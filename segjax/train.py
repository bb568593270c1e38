"""Train: build, shard, restore, loop. The only file that sees everything."""

import contextlib
import os
import pathlib
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple

import jax

from segjax import (
    assemble,
    checkpoint,
    digest,
    distributed,
    evaluate,
    figures,
    flops,
    freeze,
    lookup,
    numerics,
    optim,
    profile,
    schedule,
    sharding,
    step,
    timing,
    watchdog,
    workdir,
    writer,
)
from segjax import config as config_lib
from segjax import state as state_lib
from segjax.augment import compose
from segjax.data import pipeline
from segjax.errors import ConfigError
from segjax.log import Log
from segjax.pretrained import transfer
from segjax.schedule import itstime

DONE, PREEMPTED = 0, 75


def run(
    path: pathlib.Path,
    config: Mapping[str, Any],
    *,
    allow_config_change: bool = False,
    profile_steps: str = "",
) -> int:
    """Train what `config` describes in the folder `path`, continuing what is there.

    `profile_steps` are traced into `<path>/profile`, see `profile.Tracer`.

    Returns:
        The exit code: 0 when done, 75 when preempted after a saved checkpoint.

    Raises:
        UserError: Bad config or data (before anything is written), NaN, or a full disk.
    """
    config = config_lib.section(config)
    setup = prepare(config)
    parts, clock, evaluators, saving = setup.parts, setup.clock, setup.evaluators, setup.saving
    tracer = profile.Tracer(path / "profile", profile_steps, clock.total_steps)
    resolved = config | {"resolved": parts.classes | clock._asdict()}
    workdir.check(path, resolved, allow_change=allow_config_change)
    weights = transfer.Weights(config["model"], parts.model, parts.image_shape())
    if not transfer.resumes(path, saving):
        weights.read()  # what is wrong with them is said before anything is compiled or written

    init_key, step_key = jax.random.split(jax.random.key(config["seed"]))
    with tracer.compiling() as options:
        program = compile_step(config, parts, clock, init_key, step_key, options)
    train_step, costs = program.step, program.costs
    first = jax.process_index() == 0
    if first:
        workdir.record(path, resolved, facts(parts, costs))
    with (
        watchdog.Watchdog() as dog,
        distributed.preemption() as preempted,
        checkpoint.Checkpointer(path, **saving) as checkpointer,
        tracer,
    ):
        dog.now("restore", 0)
        start, state = start_state(checkpointer, program, weights, init_key)
        begin = start or 0
        tracer.check(begin)
        log = Log(path, clock, setup.log_steps, start, costs, parts.model.compute_dtype)
        score = Scoring(evaluators, path, log, clock, dog, preempted)
        with log, contextlib.closing(make_batches(config, setup.source, parts, begin)) as batches:
            log.message(f"{describe(state, parts, costs)}; from step {begin}, {path}")
            for line in weights.said:
                log.message(line)
            if start is not None and score.missed(start):
                metrics, stop = score(start, state)
                if saving["keep_best"] in metrics:
                    checkpointer.save(start, state, metrics)  # again, now with its rank
                if stop:
                    return preempted_at(start, log)
            for number in range(begin + 1, clock.total_steps + 1):
                dog.now("data wait", number)
                with log.watch.waiting_for_data():
                    batch = next(batches)
                if config["log_batch_hashes"]:
                    log.writer.write(number, {"data/batch_hash": digest.of_arrays(batch)})
                dog.now("step", number)
                with tracer.step(number, train_step, log):
                    state, scalars = train_step(state, batch, step_key)
                    log.read_previous(number, scalars)  # the device works on this step meanwhile
                save, stop = itstime(number, setup.save_steps, clock.total_steps), preempted()
                if save or stop or score.due(number):
                    log.read_last()
                    with log.watch.paused():
                        metrics, stop = ({}, True) if stop else score(number, state)
                        if save or stop or saving["keep_best"] in metrics:
                            dog.now("checkpoint save", number)
                            checkpointer.save(number, state, metrics)
                if stop:
                    checkpointer.wait()
                    return preempted_at(number, log)
        dog.now("checkpoint save", clock.total_steps)
    if first:
        figures.learning_curves(path / "figures" / "learning_curves.png", writer.read(path))
    return DONE


class Setup(NamedTuple):
    """What a config and its data say of a run, before anything is compiled or written."""

    source: Any
    parts: assemble.Parts
    clock: schedule.Clock
    evaluators: list[Any]
    log_steps: int
    save_steps: int
    saving: dict[str, Any]


def open_run(config: Mapping[str, Any]) -> tuple[Any, assemble.Parts, schedule.Clock]:
    """Open the training data and build the parts and the clock of the config.

    Raises:
        UserError: Bad config or data.
    """
    config_lib.check_top_level(config)
    source = assemble.make_source(config, config["input"]["split"])
    parts = assemble.make_parts(config, assemble.classes_of(source))
    clock = schedule.Clock(config["input"]["batch_size"], len(source))
    total = schedule.in_steps(config, ("total",), clock, "config")["total_steps"]
    return source, parts, clock._replace(total_steps=total)


def prepare(config: Mapping[str, Any]) -> Setup:
    """Open all data and build every part of the config; nothing is computed or written.

    Raises:
        UserError: Bad config or data.
    """
    source, parts, clock = open_run(config)
    durations = schedule.in_steps(config, ("log",), clock, "config")
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
    return Setup(source, parts, clock, evaluators, durations["log_steps"], save_steps, saving)


def preempted_at(number: int, log: "Log") -> int:
    """Say that the run stops here, and return the exit code that asks for another start."""
    log.message(f"preempted: checkpoint {number} is saved, run again to go on")
    return PREEMPTED


class Program(NamedTuple):
    """The programs of a run.

    Attributes:
        init: Jitted, `key → state`.
        step: Compiled, `(state, batch, key) → state, scalars`.
        target: The state's shapes with placement.
        jaxpr: The step as traced.
        costs: What it costs.
    """

    init: Any
    step: Any
    target: Any
    jaxpr: Any
    costs: timing.Costs


def compile_step(
    config: Mapping[str, Any],
    parts: assemble.Parts,
    clock: schedule.Clock,
    init_key: jax.Array,
    step_key: jax.Array,
    options: dict[str, Any] | None = None,
) -> Program:
    """Trace and compile the train step, with XLA's `options`; nothing is computed."""
    begun = time.perf_counter()
    init, train_step, target = make_step(config, parts, clock, init_key)
    traced = train_step.trace(target, batch_shapes(parts, clock), step_key)
    compiled = traced.lower().compile(options or None)
    flop, seconds = flops.total(traced.jaxpr) / parts.mesh.size, time.perf_counter() - begun
    costs = timing.Costs(flop, timing.memory_of(compiled), seconds)
    return Program(init, compiled, target, traced.jaxpr, costs)


def start_state(
    checkpointer: checkpoint.Checkpointer,
    program: Program,
    weights: transfer.Weights,
    init_key: jax.Array,
) -> tuple[int | None, state_lib.TrainState]:
    """Return the newest good checkpoint's step and state; None and a new state without one."""
    start = checkpointer.newest_good()
    if start is None:
        return None, weights.put(program.init(init_key))
    return start, checkpointer.restore(start, program.target)


def batch_shapes(parts: assemble.Parts, clock: schedule.Clock) -> Any:
    """Return a training batch as shapes."""
    return pipeline.batch_shapes(clock.batch_size, parts.canvas.size, parts.classes["channels"])


def make_step(
    config: Mapping[str, Any], parts: assemble.Parts, clock: schedule.Clock, init_key: jax.Array
) -> tuple[Any, Any, Any]:
    """Return jitted `init(key)` and train step, and the state's shapes with placement."""
    sharding.check_divides(clock.batch_size, parts.canvas.size[0], parts.mesh, where="config.input")
    sharding.check_logical_shards(
        config["deterministic_reduction"], clock.batch_size, config["microbatches"], parts.mesh
    )
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
            freeze.hold(parts.model, config["optimizer"]),
            parts.task,
            tx,
            rate,
            augment=compose.make_augment(ops),
            normalize=parts.normalize,
            microbatches=config["microbatches"],
            ema_decay=config["ema_decay"],
            logical_shards=config["deterministic_reduction"],
            mesh=parts.mesh,
        ),
        donate_argnums=0,
        in_shardings=(placement, sharding.batch_sharding(parts.mesh), whole),
        out_shardings=(placement, whole),
        compiler_options=numerics.xla_options(parts.model.compute_dtype),
    )
    # It runs once: LLVM's care for its many random kernels took as long as for the step itself.
    quick = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
    init = jax.jit(init, out_shardings=placement, compiler_options=quick)
    return init, train_step, target


def make_batches(
    config: Mapping[str, Any], source: Any, parts: assemble.Parts, start_step: int
) -> Generator[Any]:
    """Yield the training batches from `start_step` on, on the devices."""
    section = {k: v for k, v in config["input"].items() if k not in ("source", "split", "size")}
    lookup.check_arguments(pipeline.train_batches, section, PIPELINE_GIVEN, where="config.input")
    block, blocks = sharding.row_block(parts.mesh)
    host = pipeline.train_batches(
        source,
        size=parts.canvas.size,
        seed=config["seed"],
        start_step=start_step,
        process_index=block,
        process_count=blocks,
        **section,
    )
    with contextlib.closing(host):
        yield from sharding.to_device(host, parts.mesh)


PIPELINE_GIVEN = ("size", "seed", "start_step", "process_index", "process_count")


def facts(parts: assemble.Parts, costs: timing.Costs) -> dict[str, Any]:
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


def describe(state: state_lib.TrainState, parts: assemble.Parts, costs: timing.Costs) -> str:
    """Return one line on what is trained, and where."""
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    memory, devices = sum(costs.memory.values()), jax.devices()
    return (
        f"{count / 1e6:.2f} M parameters; a step is {costs.flops / 1e9:.1f} GFLOP and "
        f"{memory / 1e6:.0f} MB a device; {len(devices)} × {devices[0].device_kind}, "
        f"mesh {dict(parts.mesh.shape)}"
    )


class Scoring:
    """Run the evaluators when they are due; preemption need not wait for their end."""

    def __init__(
        self,
        evaluators: list[Any],
        path: pathlib.Path,
        log: "Log",
        clock: schedule.Clock,
        dog: watchdog.Watchdog,
        preempted: Callable[[], bool],
    ):
        self.evaluators, self.path, self.log, self.dog = evaluators, path, log, dog
        self.total_steps, self.preempted = clock.total_steps, preempted

    def due(self, number: int) -> list[Any]:
        """Return the evaluators that are to run after step `number`."""
        return [e for e in self.evaluators if itstime(number, e.every_steps, self.total_steps)]

    def missed(self, number: int) -> bool:
        """Return whether evaluation was due at `number` and is not in the log: it was cut short."""
        name = next((name for e in self.due(number) for name in e.metrics()), None)
        if name is None:
            return False
        # Only process 0 is sure to see the log.
        records = writer.read(self.path) if jax.process_index() == 0 else []
        done = any(record["step"] == number and name in record for record in records)
        return not distributed.from_first(done)

    def __call__(self, number: int, state: state_lib.TrainState) -> tuple[dict[str, float], bool]:
        """Return the scalars of the evaluators that are due, and whether SIGTERM cut them short."""
        self.dog.now("evaluation", number)
        last = number == self.total_steps
        try:
            due = self.due(number)
            return evaluate.run_all(
                due, state, self.path, self.log, draw=last, beat=self.beat
            ), False
        except Preempted:
            return {}, True

    def beat(self) -> None:
        """Say that the evaluation goes on; called after each of its batches."""
        self.dog.now("evaluation", self.dog.step)
        if self.preempted():
            raise Preempted


class Preempted(Exception):
    """SIGTERM came during an evaluation."""
