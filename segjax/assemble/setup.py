"""Everything that a config and its data say of a run, before anything is compiled or written."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from segjax.assemble import parts as parts_lib
from segjax.assemble.parts import Parts
from segjax.baselines import base as baselines
from segjax.config import lookup, schedule, schema, sections
from segjax.data import core, counts, pipeline, resample, sampling
from segjax.errors import ConfigError
from segjax.evaluators.report import Evaluator
from segjax.runtime import distributed, sharding
from segjax.structs import Batch, Classes
from segjax.tasks import balance
from segjax.training import optim
from segjax.views.progress import Progress

MOST_BYTES = 256 << 30
"""What the batches of one machine may take: more is a slip of the hand, not a plan."""


class Setup(NamedTuple):
    """A checked config and what it describes; its data is not in it.

    Attributes:
        config: Plain data, every key there.
        clock: Batch size, examples and steps.
        log_steps: How often to log.
        due: How often each training example comes in an epoch, see `data.sampling`; None: once.
    """

    config: dict[str, Any]
    parts: Parts
    clock: schedule.Clock
    log_steps: int
    due: sampling.Times | None = None

    def batch_shapes(self) -> Batch:
        """Return a training batch as shapes, as the train step takes it: at the canvas' size."""
        return pipeline.batch_shapes(
            self.clock.batch_size, self.parts.schema, self.parts.canvas.size
        )

    def trained_shapes(self) -> Batch:
        """Return a training batch as shapes, as the model gets it: augmented, so maybe cropped.

        Raises:
            ConfigError: The arguments of an augmentation do not go with the data.
        """
        key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype)
        return jax.eval_shape(self.parts.augment, key, self.batch_shapes())

    def resolved(self) -> dict[str, Any]:
        """Return the config with what the data adds to it, as `config.json` records it."""
        classes = self.parts.classes
        found = sections.plain(classes._asdict() | self.clock._asdict())
        if not found["things"]:
            del found["things"]  # as runs of class maps have always been recorded
        del found["amounts"]
        if classes.amounts is not None:
            found["amounts"] = sections.plain(classes.amounts._asdict())
        return self.config | {"resolved": found}


def make_setup(config: Mapping[str, Any], *, mesh: Mesh | None = None) -> tuple[Setup, core.Source]:
    """Check a config, open its training data and build its parts; nothing is computed.

    Args:
        config: A ConfigDict or plain data.
        mesh: To run on; None: that of the config.

    Raises:
        UserError: Bad config or data.
    """
    config = schema.fill(config)
    schema.check(config)
    source = parts_lib.make_source(config, config["input"]["split"])
    classes, due = count_classes(config, source)
    clock = schedule.Clock(config["input"]["batch_size"], len(source))
    total = schedule.in_steps(config, ("total",), clock, "config")["total_steps"]
    total = 1 if baselines.is_method(config["model"]) else total  # it is fitted at once
    clock = clock._replace(total_steps=total)
    parts = parts_lib.make_parts(
        config, classes, available=source.schema, mesh=mesh, total_steps=total
    )
    durations = schedule.in_steps(config, ("log",), clock, "config")
    setup = Setup(config, parts, clock, durations["log_steps"], due)
    check_batch(config, parts)
    optim.make_optimizer(config["optimizer"], optim.make_rate(config["optimizer"], clock))
    trained = setup.trained_shapes()  # an op checks here that its arguments go with the data
    processes = sharding.row_block(parts.mesh)[1]
    check_memory(bytes_of(trained) // processes, "config.augment: augmented batches")
    jax.eval_shape(parts.normalize, trained["image"])  # and so does this
    return setup, source


def count_classes(
    config: Mapping[str, Any], source: core.Source
) -> tuple[Classes, sampling.Times | None]:
    """Return the classes of the training data, and how often each example comes in an epoch.

    Pixels are counted where losses or sampling ask for it alone: every label is read then, once.

    Raises:
        DataError: A label cannot be used.
    """
    classes, inputs = parts_lib.classes_of(source), config["input"]
    by = inputs["sampling"]["by"]
    named = balance.is_named(config["task"].get("losses"))
    if by == "uniform" and not named:
        return classes, None
    shown: Any = {"unit": "labels", "title": inputs["split"], "leave": False}
    with Progress(len(source), **shown, enabled=distributed.is_first()) as bar:
        pixels = counts.of_source(
            source, inputs["source"], inputs["split"], threads=inputs["threads"], tell=bar.update
        )
    due = sampling.times(pixels > 0, inputs["sampling"])
    return classes._replace(amounts=counts.amounts(pixels) if named else None), due


def check_batch(config: Mapping[str, Any], parts: Parts) -> None:
    """Refuse batches that microbatches do not divide, or that no host can hold.

    Raises:
        ConfigError: One of them.
    """
    inputs, microbatches = config["input"], config["microbatches"]
    if inputs["batch_size"] % microbatches:
        raise ConfigError(
            f"config.microbatches={microbatches}: does not divide "
            f"config.input.batch_size={inputs['batch_size']}. Use a divisor of it."
        )
    held = inputs["prefetch"] * max(1, inputs["workers"])
    check_memory(
        held * host_bytes(inputs["batch_size"], parts, parts.canvas.size),
        f"config.input: {held} batches held ready, of batch_size={inputs['batch_size']} and "
        f"size={inputs['size']},",
    )


def host_bytes(batch_size: int, parts: Parts, size: Sequence[int]) -> int:
    """Return what a process's rows of a batch at a canvas' size take in memory."""
    shapes = pipeline.batch_shapes(batch_size, parts.schema, size)
    return bytes_of(shapes) // sharding.row_block(parts.mesh)[1]


def check_forward(batch_size: int, parts: Parts, *, where: str) -> None:
    """Refuse batches of which the images and one image's scores are more than the machine holds.

    Raises:
        ConfigError: What they take.
    """
    size = parts.layout.canvas.size
    scores = 4 * math.prod(size) * len(parts.classes.class_names)
    held = host_bytes(batch_size, parts, size) + scores
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    about = f"{where}: batch_size={batch_size} and size={[*size]}"
    check_memory(held, about, most=min(there, MOST_BYTES))


def bytes_of(shapes: Any) -> int:
    """Return what arrays of these shapes take in memory."""
    leaves = jax.tree.leaves(shapes)
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)


def check_memory(num_bytes: int, what: str, *, most: int = MOST_BYTES) -> None:
    """Raise `ConfigError` for batches of more than `most` bytes; `what` says which."""
    if num_bytes > most:
        raise ConfigError(
            f"{what} take {num_bytes / 2**30:.4g} GiB, expected at most {most / 2**30:.4g} GiB on "
            "a machine. Lower what they are made of."
        )


def make_evaluators(
    config: Mapping[str, Any], parts: Parts, clock: schedule.Clock
) -> list[Evaluator]:
    """Build every evaluator of `config.evals`, its split opened.

    Raises:
        UserError: Bad config or data.
    """
    return [
        make_evaluator(
            config, name, parts, clock,
            parts_lib.make_source(config, section["split"], where=f"config.evals.{name}"),
        )
        for name, section in config["evals"].items()
    ]  # fmt: skip


def make_evaluator(
    config: Mapping[str, Any],
    name: str,
    parts: Parts,
    clock: schedule.Clock,
    source: core.Source,
) -> Evaluator:
    """Build the evaluator `config.evals.<name>` for some examples.

    Raises:
        UserError: Bad config or data.
    """
    where = f"config.evals.{name}"
    section = schedule.in_steps(config["evals"][name], ("every",), clock, where)
    parts_lib.select(source.schema, parts.task, parts.classes)  # has what the task needs
    parts_lib.check_same_classes(source, parts.classes, where=where)
    resample.make_resampling(config["input"], source.schema)  # has a spacing where it needs one
    size = parts.layout.canvas.size
    sharding.check_divides(section["batch_size"], size[0], parts.mesh, where=where)
    check_forward(section["batch_size"], parts, where=where)
    source = core.spread(source, section.pop("examples", 0))
    given = {"name": name, "source": source, "classes": parts.classes}
    return lookup.build("evaluators", section, where=where, **given)
