"""Train: build, shard, restore, loop. The only file that sees everything."""

import contextlib
import functools
import os
import pathlib
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import optax

from segjax.assemble import parts as assemble
from segjax.augment import compose
from segjax.config import lookup, schedule, sections
from segjax.config.schedule import itstime
from segjax.costs import flops, profile, timing
from segjax.data import pipeline
from segjax.errors import ConfigError
from segjax.runs import checkpoint, digest, evaluate, transfer, workdir, writer
from segjax.runs.log import Log
from segjax.runs.scoring import Keeper, Scoring
from segjax.runtime import distributed, sharding, watchdog, xla
from segjax.training import freeze, optim, step, trials
from segjax.training import state as state_lib
from segjax.views import figures

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
    config = sections.section(config)
    setup = prepare(config)
    parts, clock, evaluators, saving = setup.parts, setup.clock, setup.evaluators, setup.saving
    tracer = profile.Tracer(path / "profile", profile_steps, clock.total_steps)
    resolved = config | {"resolved": parts.classes | clock._asdict()}
    workdir.check(path, resolved, allow_change=allow_config_change)
    members = trials.members(resolved, path)
    paths = [member.path for member in members]
    weights = transfer.Weights(config["model"], parts.model, parts.image_shape())
    if not transfer.resumes(paths[0], members[0].config["checkpoint"]):
        weights.read()  # what is wrong with them is said before anything is compiled or written

    step_key = trials.step_keys(members)
    with tracer.compiling() as options:
        program = compile_step(config, parts, clock, members[0].init_key, step_key, options)
    train_step, costs = program.step, program.costs
    first = jax.process_index() == 0
    if first:
        for place, own in {path: resolved, **{m.path: m.config for m in members}}.items():
            workdir.record(place, own, facts(parts, costs))
    with (
        watchdog.Watchdog() as dog,
        distributed.preemption() as preempted,
        contextlib.ExitStack() as stack,
        tracer,
    ):
        savers = [stack.enter_context(open_checkpoints(member, saving)) for member in members]
        dog.now("restore", 0)
        start, state = start_state(savers, program, weights, members)
        begin = start or 0
        tracer.check(begin)
        log = Log(paths, clock, setup.log_steps, start, costs, parts.model.compute_dtype)
        score = functools.partial(Scoring, evaluators, log, clock, dog, preempted)
        scores = [score(*each) for each in zip(paths, log.writers, strict=True)]
        keeper = Keeper(scores, savers, program.target)
        with log, contextlib.closing(make_batches(config, setup.source, parts, begin)) as batches:
            log.message(f"{describe(state, parts, costs)}; from step {begin}, {path}")
            for line in weights.said:
                log.message(line)
            if start is not None and keeper.catch_up(start, state):
                return preempted_at(start, log)
            for number in range(begin + 1, clock.total_steps + 1):
                dog.now("data wait", number)
                with log.watch.waiting_for_data():
                    batch = next(batches)
                if config["log_batch_hashes"]:
                    log.writers[0].write(number, {"data/batch_hash": digest.of_arrays(batch)})
                dog.now("step", number)
                with tracer.step(number, train_step, log):
                    state, scalars = train_step(state, batch, step_key)
                    log.read_previous(number, scalars)  # the device works on this step meanwhile
                save, stop = itstime(number, setup.save_steps, clock.total_steps), preempted()
                if save or stop or scores[0].due(number):
                    log.read_last()
                    with log.watch.paused():
                        stop = keeper(number, state, save=save, stop=stop)
                if stop:
                    for saver in savers:
                        saver.wait()
                    return preempted_at(number, log)
        dog.now("checkpoint save", clock.total_steps)
    for place in paths if first else ():
        figures.learning_curves(place / "figures" / "learning_curves.png", writer.read(place))
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
    sections.check_top_level(config)
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


def open_checkpoints(member: trials.Member, saving: Mapping[str, Any]) -> checkpoint.Checkpointer:
    """Open a run's checkpoints, or a trial's own; `saving` names the options."""
    own = member.config["checkpoint"]
    return checkpoint.Checkpointer(member.path, **{name: own[name] for name in saving})


def preempted_at(number: int, log: "Log") -> int:
    """Say that the run stops here, and return the exit code that asks for another start."""
    log.message(f"preempted: checkpoint {number} is saved, run again to go on")
    return PREEMPTED


class Program(NamedTuple):
    """The programs of a run.

    Attributes:
        init: Jitted, `key → state`.
        step: Compiled, `(state, batch, key) → state, scalars`; of trials all, side by side.
        target: The state's shapes with placement, of a single trial.
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
    states = trials.stacked(target)
    key = trials.keys_like(step_key, parts.mesh)
    traced = train_step.trace(states, batch_shapes(parts, clock), key)
    compiled = traced.lower().compile(options or None)
    flop, seconds = flops.total(traced.jaxpr) / parts.mesh.size, time.perf_counter() - begun
    costs = timing.Costs(flop, timing.memory_of(compiled), seconds)
    return Program(init, compiled, target, traced.jaxpr, costs)


def start_state(
    savers: Sequence[checkpoint.Checkpointer],
    program: Program,
    weights: transfer.Weights,
    members: Sequence[trials.Member],
) -> tuple[int | None, state_lib.TrainState]:
    """Return the newest good checkpoint's step and state; None and a new state without one.

    Of trials the newest that all have, stacked; what some have beyond it is dropped.
    """
    found = [saver.newest_good() for saver in savers]
    start = None if None in found else min(step for step in found if step is not None)
    if len(savers) > 1:
        for saver in savers:
            saver.drop_after(start or 0)
    if start is None:
        states = [weights.put(program.init(member.init_key)) for member in members]
    else:
        states = [saver.restore(start, program.target) for saver in savers]
    return start, trials.stack(states, program.target)


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
    rates = [optim.make_rate(own["optimizer"], clock) for own in trials.configs(config)]
    make_tx = functools.partial(optim.make_optimizer, config["optimizer"])
    ops = [
        lookup.build("augment", section, where=f"config.augment[{i}]")
        for i, section in enumerate(config["augment"])
    ]
    image_shape = (*parts.canvas.size, parts.classes["channels"])

    def init(key: jax.Array) -> state_lib.TrainState:
        ema = config["ema_decay"] > 0
        tx = make_tx(rates[0])
        return state_lib.init_state(key, model=parts.model, tx=tx, image_shape=image_shape, ema=ema)

    def make(rate: optax.Schedule) -> Callable[..., Any]:
        return step.make_train_step(
            freeze.hold(parts.model, config["optimizer"]),
            parts.task,
            make_tx(rate),
            rate,
            augment=compose.make_augment(ops),
            normalize=parts.normalize,
            microbatches=config["microbatches"],
            ema_decay=config["ema_decay"],
            logical_shards=config["deterministic_reduction"],
            mesh=parts.mesh,
        )

    target = assemble.state_shapes(init, init_key, parts.mesh)
    placement = sharding.placement_of(target)
    states = sharding.placement_of(trials.stacked(target))
    whole = sharding.replicated(parts.mesh)
    train_step = jax.jit(
        make(rates[0]) if len(rates) == 1 else trials.side_by_side(make, rates, parts.mesh),
        donate_argnums=0,
        in_shardings=(states, sharding.batch_sharding(parts.mesh), whole),
        out_shardings=(states, whole),
        compiler_options=xla.xla_options(parts.model.compute_dtype),
    )
    init = jax.jit(init, out_shardings=placement, compiler_options=xla.quick_options())
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
