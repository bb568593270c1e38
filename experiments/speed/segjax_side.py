"""segjax's side: the train step and the inference that run.py compiles."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jaxlib
import numpy as np
from jax.sharding import Mesh

from experiments.speed.works import CLASSES, OBJECTS, Size, Work, objects, shape_of
from segjax.assemble import parts as parts_lib
from segjax.assemble import program as program_lib
from segjax.assemble.setup import Setup
from segjax.config import schedule, schema, sections
from segjax.costs import flops, timing
from segjax.runtime import xla
from segjax.structs import Classes


def build(work: Work, kind: str, variant: str, size: Size, batch: int) -> tuple[Callable, dict]:
    """Return a function that does the work once and waits for its end, and facts about it."""
    xla.prepare()
    config = make_config(work, variant, size, batch)
    setup = make_setup(config, batch)
    parts = setup.parts
    init_key, key = jax.random.split(jax.random.key(0))
    program = program_lib.trace(setup, init_key, key).compile()
    placed = jax.device_put(make_batch(work, size, batch))
    state = program.init(init_key)
    if kind == "train":
        compiled, jaxpr, costs = program.step, program.jaxpr, program.costs
        arguments: tuple[Any, ...] = (placed, key)
    else:
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        compiled, jaxpr, costs, arguments = compile_inference(parts, variables, placed["image"])
    facts = {
        "versions": {"jax": jax.__version__, "jaxlib": jaxlib.__version__},
        "device": jax.devices()[0].device_kind,
        "compile_seconds": costs.seconds,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "flops": costs.flops,
        "bytes": flops.traffic(jaxpr),
        "peak_flops": timing.peak_flops(jax.devices()[0], variant),
        "bandwidth": timing.bandwidth(jax.devices()[0]),
        "temporary_bytes": costs.memory["temporary"],
    }

    def work_once() -> None:
        nonlocal state
        if kind == "train":
            state, scalars = compiled(state, *arguments)
            jax.block_until_ready((state, scalars))
        else:
            jax.block_until_ready(compiled(*arguments))

    return work_once, facts


def compile_inference(
    parts: parts_lib.Parts, variables: dict, image: jax.Array
) -> tuple[Any, Any, timing.Costs, tuple[Any, ...]]:
    """Return the compiled network, its jaxpr, its costs and what it takes, as a predictor has it.

    What is made of the variables alone is among what it takes.
    """
    begun = time.perf_counter()
    function, arguments = parts.forward.outputs, (variables, image)
    if parts.forward.ahead:
        ready = parts.forward.ahead.of(variables)
        function, arguments = ready.late(image), ready.arguments(image)
    traced: Any = function.trace(*arguments)
    compiled = traced.lower().compile()
    seconds = time.perf_counter() - begun
    costs = timing.Costs(flops.total(traced.jaxpr), timing.memory_of(compiled), seconds)
    return compiled, traced.jaxpr, costs, arguments


def make_setup(config: dict[str, Any], batch: int, *, mesh: Mesh | None = None) -> Setup:
    """Return what a config describes, for classes without names and data that is not there."""
    classes = Classes(tuple(map(str, range(CLASSES))), (), 3, things=tuple(range(CLASSES)))
    parts = parts_lib.make_parts(config, classes, mesh=mesh)
    return Setup(config, parts, schedule.Clock(batch, 1000, 1000), 1)


def make_batch(work: Work, size: Size, batch: int) -> dict[str, np.ndarray]:
    """Return a batch of noise, with objects where the work finds them."""
    draw, shape = np.random.default_rng(0), (batch, *shape_of(size))
    found = {
        "image": draw.integers(0, 256, (*shape, 3), np.uint8),
        "mask": np.ones(batch, bool),
        "index": np.arange(batch, dtype=np.int32),
    }
    if not work.task:
        return {**found, "label": draw.integers(0, CLASSES, shape, np.int32)}
    masks, classes = map(np.stack, zip(*(objects(size, i) for i in range(batch)), strict=True))
    packed = np.packbits(np.moveaxis(masks, 1, -1), axis=-1, bitorder="little")
    return {
        **found, "object_masks": packed, "object_classes": classes.astype(np.int32),
        "object_crowd": np.zeros((batch, OBJECTS), bool),
    }  # fmt: skip


def make_config(work: Work, variant: str, size: Size, batch: int) -> dict[str, Any]:
    """Return a config that trains `work` with AdamW, without augmentation.

    Without a task of its own it has cross-entropy.
    """
    config = sections.section(schema.defaults())
    config["model"] = {**work.model, "compute_dtype": variant}
    if work.task:
        config["task"] = dict(work.task)
    config["input"] |= {"size": shape_of(size), "batch_size": batch}
    config["optimizer"] = {
        "type": "adamw", "lr": 1e-4, "weight_decay": 1e-2, "schedule": {"type": "constant"}
    }  # fmt: skip
    return config
