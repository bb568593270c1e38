"""From a setup to the compiled train step, and to the batches that it takes."""

import contextlib
import functools
import time
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import jax
import optax

from segjax.assemble import batch_norms
from segjax.assemble import parts as parts_lib
from segjax.assemble.setup import Setup
from segjax.baselines import base as baselines
from segjax.config import trials as trials_config
from segjax.costs import flops, timing
from segjax.data import core, intensity, pipeline
from segjax.runtime import sharding, xla
from segjax.structs import Batch, Key
from segjax.training import optim, step, trials
from segjax.training import state as state_lib
from segjax.training.fixed_order import Scalars
from segjax.training.state import TrainState

TrainStep = Callable[[TrainState, Batch, Key], tuple[TrainState, Scalars]]


class Program(NamedTuple):
    """The programs of a run.

    Attributes:
        init: Jitted, `key → state`.
        step: Compiled, `(state, batch, key) → state, scalars`; of trials all, side by side.
        target: The state's shapes with placement, of a single trial.
        jaxpr: The step as traced.
        costs: What it costs.
    """

    init: Callable[[Key], TrainState]
    step: Any
    target: TrainState
    jaxpr: Any
    costs: timing.Costs


class Traced(NamedTuple):
    """A train step as JAX sees it, not compiled yet: every shape and option in it was checked.

    Attributes:
        init: As in `Program`.
        step: The step, traced.
        target: As in `Program`.
        devices: How many the step runs on.
        seconds: That tracing took.
        warnings: What can be trained but smells, a line each.
    """

    init: Callable[[Key], TrainState]
    step: Any
    target: TrainState
    devices: int
    seconds: float
    warnings: list[str]

    def compile(self, options: dict[str, Any] | None = None) -> Program:
        """Compile the step, with XLA's `options`; nothing is computed."""
        begun = time.perf_counter()
        compiled = self.step.lower().compile(options or None)
        seconds = self.seconds + time.perf_counter() - begun
        flop = flops.total(self.step.jaxpr) / self.devices
        costs = timing.Costs(flop, timing.memory_of(compiled), seconds)
        return Program(self.init, compiled, self.target, self.step.jaxpr, costs)


def trace(setup: Setup, init_key: Key, step_key: Key) -> Traced:
    """Trace the train step of a setup; nothing is compiled or computed.

    Args:
        setup: Of the run.
        init_key: Of the parameters.
        step_key: Of augmentation and dropout; of trials one each.

    Raises:
        ConfigError: What a config says that shapes do not allow; or it has no network.
    """
    baselines.check_network(setup.parts.model)
    begun = time.perf_counter()
    init, train_step, target = make_step(setup, init_key)
    key = trials.keys_like(step_key, setup.parts.mesh)
    with batch_norms.counting() as counts:
        traced = train_step.trace(trials.stacked(target), setup.batch_shapes(), key)
    warnings = batch_norms.check(counts)
    seconds = time.perf_counter() - begun
    return Traced(init, traced, target, setup.parts.mesh.size, seconds, warnings)


def make_step(setup: Setup, init_key: Key) -> tuple[Any, Any, TrainState]:
    """Return jitted `init(key)` and train step, and the state's shapes with placement.

    Raises:
        ConfigError: Batch, image and mesh do not go together, or the optimiser's section is wrong.
    """
    config, parts, clock = setup.config, setup.parts, setup.clock
    sharding.check_divides(clock.batch_size, parts.canvas.size[0], parts.mesh, where="config.input")
    sharding.check_logical_shards(
        config["deterministic_reduction"], clock.batch_size, config["microbatches"], parts.mesh
    )
    rates = [optim.make_rate(own["optimizer"], clock) for own in trials_config.configs(config)]
    make_tx = functools.partial(optim.make_optimizer, config["optimizer"])

    def init(key: Key) -> TrainState:
        return state_lib.init_state(
            key, model=parts.model, tx=make_tx(rates[0]), image_shape=parts.image_shape().shape[1:],
            ema=config["ema_decay"] > 0,
        )  # fmt: skip

    def make(rate: optax.Schedule) -> TrainStep:
        return step.make_train_step(
            parts.trained,
            parts.task,
            make_tx(rate),
            rate,
            augment=parts.augment,
            normalize=parts.normalize,
            schema=parts.schema,
            microbatches=config["microbatches"],
            ema_decay=config["ema_decay"],
            logical_shards=config["deterministic_reduction"],
            mesh=parts.mesh,
        )

    target = parts_lib.state_shapes(init, init_key, parts.mesh)
    states = sharding.placement_of(trials.stacked(target))
    replicated = sharding.replicated(parts.mesh)
    batch = sharding.batch_sharding(parts.mesh, parts.schema)
    train_step = jax.jit(
        make(rates[0]) if len(rates) == 1 else trials.side_by_side(make, rates, parts.mesh),
        donate_argnums=0,
        in_shardings=(states, batch, replicated),
        out_shardings=(states, replicated),
        compiler_options=xla.xla_options(parts.model.compute_dtype),
    )
    start = jax.jit(
        init,
        out_shardings=sharding.placement_of(target),
        compiler_options=xla.options_of_one_run(),
    )
    return start, train_step, target


RESAMPLING = ("spacing", "image_resampling", "label_resampling")
"""Keys of `config.input` that are one argument of its reader."""


def make_batches(setup: Setup, source: core.Source, start_step: int) -> Generator[Batch]:
    """Return the training batches from `start_step` on, on the devices."""
    given = ("source", "split", "size", "fields", "window", "sampling", "intensity", *RESAMPLING)
    section = {k: v for k, v in setup.config["input"].items() if k not in given}
    parts = setup.parts
    block, blocks = sharding.row_block(parts.mesh)
    host = pipeline.train_batches(
        intensity.view(source, parts.intensity),
        schema=parts.schema,
        size=parts.canvas.size,
        window=parts.window,
        due=setup.due,
        resampling=parts.resampling,
        seed=setup.config["seed"],
        start_step=start_step,
        process_index=block,
        process_count=blocks,
        **section,
    )

    def placed() -> Generator[Batch]:
        with contextlib.closing(host):
            yield from sharding.to_device(host, parts.mesh, parts.schema)

    return placed()
