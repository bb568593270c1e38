"""Take some steps of a run again, as they were taken then."""

import contextlib
import math
import pathlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from segjax.assemble import program as program_lib
from segjax.assemble import setup as setup_lib
from segjax.assemble.program import Program
from segjax.assemble.setup import Setup
from segjax.config import trials
from segjax.data import core
from segjax.errors import ConfigError, UserError
from segjax.runs import damage, digest, transfer, workdir
from segjax.runs.checkpoint import Checkpointer
from segjax.runs.live import Live, Values
from segjax.runtime import sharding
from segjax.structs import Batch
from segjax.training.state import TrainState
from segjax.views import progress


class Step(NamedTuple):
    """One step, taken again.

    Attributes:
        number: Steps done with it.
        values: What it logs, `train/loss`, ….
        batch_hash: Of its batch, as `config.log_batch_hashes` has it.
        state: After it; the next step takes it away.
    """

    number: int
    values: Values
    batch_hash: int
    state: TrainState


class Replay(NamedTuple):
    """The program of a run, ready to take its steps again.

    Attributes:
        path: The run's folder.
        setup: What its config describes.
        source: The training data.
        run: Its keys and folder.
        batch_seed: Decides its batches; of a trial the seed that all trials share.
        program: Compiled.
    """

    path: pathlib.Path
    setup: Setup
    source: core.Source
    run: Live
    batch_seed: int
    program: Program

    def state_at(self, step: int) -> TrainState:
        """Return the state after `step` steps, from its checkpoint; of 0 a new one.

        Raises:
            UserError: There is no such checkpoint, or it is damaged.
        """
        if not step:
            shape = self.setup.parts.image_shape()
            weights = transfer.Weights(self.setup.config["model"], self.setup.parts.model, shape)
            weights.read()
            return weights.apply(self.program.init(self.run.init_key))
        with self.checkpoints() as saver:
            return saver.restore(step, self.program.target)

    def checkpoints(self) -> Checkpointer:
        """Open the run's checkpoints to read."""
        section = self.run.config["checkpoint"]
        return Checkpointer.of_section(self.path, section, read_only=True)

    def batches(self, start: int) -> Generator[Batch]:
        """Return the batches of the steps after `start`, on the devices."""
        config = self.setup.config | {"seed": self.batch_seed}
        return program_lib.make_batches(self.setup._replace(config=config), self.source, start)

    def steps(self, state: TrainState, start: int, end: int) -> Iterator[Step]:
        """Take the steps from `start` to `end`; `state` is used up."""
        with contextlib.closing(self.batches(start)) as batches:
            for number in range(start + 1, end + 1):
                batch = next(batches)
                batch_hash = digest.of_arrays(batch)
                state, scalars = self.program.step(state, batch, self.run.step_key)
                got = jax.device_get(scalars)
                values = {f"train/{name}": float(x) for name, x in got.items()}
                yield Step(number, values, batch_hash, state)


def prepare(path: pathlib.Path, config: Mapping[str, Any], facts: Mapping[str, Any]) -> Replay:
    """Open the data of the run in `path` and compile its step; nothing is written.

    Args:
        path: Its folder.
        config: Its config, with or without `resolved`.
        facts: Its `run.json`, for the layout of its devices.

    Raises:
        UserError: Bad config or data, or trials, of which one has to be named.
    """
    config = {key: value for key, value in config.items() if key != "resolved"}
    if number := trials.count(config):
        raise ConfigError(
            f"--workdir={path} holds {number} trials, each a run of its own. Name one of them: "
            f"--workdir={path / 'trial0'}."
        )
    setup, source = setup_lib.make_setup(config, mesh=make_mesh(config, facts))
    keys = jax.random.split(jax.random.key(config["seed"]))
    run = Live(path, dict(config), *keys)
    with progress.stage("compiling the train step"):
        program = program_lib.trace(setup, run.init_key, run.step_key).compile()
    return Replay(path, setup, source, run, seed_of_batches(path, config), program)


def make_mesh(config: Mapping[str, Any], facts: Mapping[str, Any]) -> Mesh:
    """Return the mesh that a run had, of the first devices; where these are too few, of a part.

    Of a trial it is the trial's share.
    """
    devices, recorded = jax.devices(), facts.get("mesh")
    sizes = [recorded.get(axis, 1) for axis in sharding.AXES] if isinstance(recorded, dict) else []
    if sizes and all(isinstance(n, int) and n > 0 for n in sizes):
        count = math.prod(sizes)
        if count <= len(devices):
            return Mesh(np.asarray(devices[:count]).reshape(sizes), sharding.AXES)
    batch, shards = config["input"]["batch_size"], config["deterministic_reduction"]
    count = max(
        n for n in range(1, len(devices) + 1)
        if batch % (n * config["microbatches"]) == 0 and shards % n == 0
    )  # fmt: skip
    return Mesh(np.asarray(devices[:count]).reshape(count, 1, 1), sharding.AXES)


def seed_of_batches(path: pathlib.Path, config: Mapping[str, Any]) -> int:
    """Return the seed of a run's batches: its own, or of a trial that of the config of all."""
    if path.name.removeprefix("trial").isdecimal():
        with contextlib.suppress(UserError):
            above = workdir.load_config(path.resolve().parent)
            if trials.count(above):
                return above["seed"]
    return config["seed"]


def host_tree(state: TrainState) -> dict[str, np.ndarray]:
    """Return every array of a state on the host, by its path as checkpoints have it."""
    tree = {name: getattr(state, name) for name in TrainState.__dataclass_fields__}
    return damage.by_path(sharding.fetch(tree))


def branch_digests(state: TrainState) -> dict[str, int]:
    """Return the digest of each branch of a state, as `runs.saved` has it."""
    names = TrainState.__dataclass_fields__
    return {name: digest.of_arrays(getattr(state, name)) for name in names}


def windows_of(records: Sequence[Mapping[str, Any]], saved: Sequence[int]) -> Iterator[Any]:
    """Yield each line of the training's log, and after which steps its means may begin.

    That is the line before; where the run went on from a checkpoint since, that checkpoint.
    """
    before = 0
    for record in records:
        if "train/lr" in record:
            step = record["step"]
            yield record, [before, *(s for s in saved if before < s < step)]
            before = step
