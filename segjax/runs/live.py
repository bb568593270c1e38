"""A run while it trains: where it writes, what it keeps. Trials are several of them."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from segjax.config import trials
from segjax.runs import data_record, workdir
from segjax.runs.checkpoint import Checkpointer
from segjax.runs.writer import Writer
from segjax.structs import Key

Values = dict[str, float]


@dataclasses.dataclass
class Live:
    """One run of a program: the run itself, or a trial beside others.

    Attributes:
        path: Its folder.
        config: What it alone would need, resolved.
        init_key: Of its parameters.
        step_key: Of augmentation and dropout.
        title: What its messages begin with; empty for a run that is alone.
        saver: Its checkpoints, once they are open.
        writer: Its log, once it is known from which step on.
        window: The numbers of its steps since the log's last line.
    """

    path: pathlib.Path
    config: dict[str, Any]
    init_key: Key
    step_key: Key
    title: str = ""
    saver: Checkpointer = dataclasses.field(init=False)
    writer: Writer = dataclasses.field(init=False)
    window: list[Values] = dataclasses.field(default_factory=list)

    def open_checkpoints(self) -> Checkpointer:
        """Open its checkpoints to write and to restore."""
        self.saver = Checkpointer.of_section(self.path, self.config["checkpoint"])
        return self.saver

    def open_log(self, start: int | None) -> Writer:
        """Open its log after step `start`; None: empty."""
        first = jax.process_index() == 0
        self.writer = Writer(self.path, resume_step=start, enabled=first, config=self.config)
        return self.writer

    def check(self, number: int, values: Values) -> None:
        """Raise `NonFiniteError` for a NaN or infinity, having written what is finite."""
        if not all(map(math.isfinite, values.values())):
            self.writer.write(number, values)

    def write_means(self, number: int, common: Values) -> Values:
        """Write the means of the window with what all runs share, and begin a new window."""
        values, self.window = mean(self.window) | common, []
        self.writer.write(number, values)
        return values


def folders(config: Mapping[str, Any], path: pathlib.Path) -> dict[pathlib.Path, dict[str, Any]]:
    """Return folder and config of each trial of the run in `path`; without trials the run's."""
    several = trials.count(config) > 0
    configs = enumerate(trials.configs(config))
    return {path / f"trial{i}" if several else path: own for i, own in configs}


def open_runs(config: Mapping[str, Any], path: pathlib.Path) -> list[Live]:
    """Return the trials of a resolved config whose run is in `path`; without trials the run."""
    found = []
    for folder, own in folders(config, path).items():
        keys = jax.random.split(jax.random.key(own["seed"]))
        found.append(Live(folder, own, *keys, title=folder.name if folder != path else ""))
    return found


def record(
    path: pathlib.Path, resolved: Mapping[str, Any], runs: Sequence[Live], facts: Mapping[str, Any]
) -> None:
    """Write `config.json` and `run.json` into the folder of each run and of all together."""
    configs = {path: resolved} | {run.path: run.config for run in runs}
    for folder, config in configs.items() if jax.process_index() == 0 else ():
        workdir.record(folder, config, facts)


def record_files(
    path: pathlib.Path,
    runs: Sequence[Live],
    list_files: Callable[[], Mapping[str, Mapping[str, list[Any]]]],
) -> None:
    """Write which files the data has into the folder of each run and of all together."""
    if jax.process_index() == 0:
        found = list_files()
        for folder in {path, *(run.path for run in runs)}:
            data_record.write_files(folder, found)


def step_keys(runs: Sequence[Live]) -> Key:
    """Return the keys of all runs as one array; of a single run its own."""
    keys = [run.step_key for run in runs]
    return jnp.stack(keys) if len(keys) > 1 else keys[0]


def mean(window: Sequence[Values]) -> Values:
    """Return the mean of each quantity over some steps; of the learning rate the last."""
    means = {k: sum(values[k] for values in window) / len(window) for k in window[-1]}
    return means | {"train/lr": window[-1]["train/lr"]}
