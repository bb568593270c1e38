"""The learning-rate range test (Smith 2017): the rate grows at every step until the loss does."""

import contextlib
import math
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from segjax.assemble import program as program_lib
from segjax.assemble import setup as setup_lib
from segjax.baselines import base as baselines
from segjax.config import schedule, trials
from segjax.errors import ConfigError
from segjax.runs import transfer
from segjax.runtime import files
from segjax.views import progress

KEPT = 0.8
"""Share that the running mean by which the test ends keeps at a step."""
DIVERGED = 4.0
"""The test ends where that mean is so many times the least of it."""
AROUND = 0.05
"""Share of the steps before and after each over which losses are smoothed for the slope. A running
mean would lag behind, and show the steepest descent at too high a rate."""


class Found(NamedTuple):
    """What a test showed.

    Attributes:
        rates: The learning rate of each step.
        losses: The finite loss before each.
        smoothed: Their mean over the steps around each.
        steepest: The rate at which the smoothed loss fell fastest, by the rate's logarithm.
        diverged: The rate at which it grew beyond bounds; NaN: it did not.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    steepest: float
    diverged: float

    def suggested(self) -> float:
        """Return the steepest rate, and at most a tenth of the one that diverged."""
        if math.isnan(self.diverged):
            return self.steepest
        return min(self.steepest, self.diverged / 10)

    def write(self, path: pathlib.Path) -> None:
        """Write the table, a row a step."""
        rows = zip(self.rates, self.losses, self.smoothed, strict=True)
        files.write_csv(path, [("learning_rate", "loss", "smoothed_loss"), *rows])


def config_of(config: Mapping[str, Any], *, start: float, end: float, steps: int) -> dict[str, Any]:
    """Return the config of a test: the run's own, with a rate that rises, and nothing scored.

    Raises:
        ConfigError: It has trials, or the rates do not rise.
    """
    if trials.count(config):
        raise ConfigError("config.trials: a test is of one run. Leave seed and lr empty.")
    if not 0 < start < end:
        raise ConfigError(f"--start={start:g}, --end={end:g}: expected rates above 0 that rise.")
    shape = {"type": "exponential", "start": start}
    length = schedule.key_of(config, "total", "config")
    return {
        **{key: value for key, value in config.items() if key != length},
        "total_steps": steps,
        "optimizer": {**config["optimizer"], "lr": end, "schedule": shape},
        "evals": {},
        "checkpoint": {**config["checkpoint"], "keep_best": ""},
        "early_stopping": {**config["early_stopping"], "metric": ""},
    }


def sweep(config: Mapping[str, Any]) -> Iterator[tuple[float, float]]:
    """Compile the steps of a test; the iterator yields rate and loss of each. Nothing is written.

    Args:
        config: See `config_of`.

    Raises:
        UserError: Bad config or data.
    """
    setup, source = setup_lib.make_setup(config)
    init_key, step_key = jax.random.split(jax.random.key(setup.config["seed"]))
    parts = setup.parts
    baselines.check_network(parts.model)
    weights = transfer.Weights(setup.config["model"], parts.model, parts.image_shape())
    weights.read()
    with progress.stage("compiling the train step"):
        program = program_lib.trace(setup, init_key, step_key).compile()

    def steps() -> Iterator[tuple[float, float]]:
        state = weights.apply(program.init(init_key))
        with contextlib.closing(program_lib.make_batches(setup, source, 0)) as batches:
            for _ in range(setup.clock.total_steps):
                state, scalars = program.step(state, next(batches), step_key)
                yield float(scalars["lr"]), float(scalars["loss"])

    return steps()


def find(points: Iterable[tuple[float, float]]) -> Found:
    """Take the steps of a test until the loss diverges, and return what they show.

    Raises:
        ConfigError: It diverges in the first steps already.
    """
    rates, losses, mean, least = [], [], 0.0, math.inf
    diverged = math.nan
    for rate, loss in points:
        rates.append(rate)
        losses.append(loss)
        mean = KEPT * mean + (1 - KEPT) * loss
        now = mean / (1 - KEPT ** len(rates))
        least = min(least, now)
        if not now <= DIVERGED * least:
            diverged = rate
            break
    good = [loss for loss in losses if math.isfinite(loss)]
    if len(good) < 5:
        raise ConfigError(
            f"the loss diverges after {len(rates)} steps already, at a rate of {rates[-1]:.3g}. "
            "Begin with a lower --start."
        )
    smoothed = around(good)
    return Found(
        rates[: len(good)], good, smoothed, steepest(rates[: len(good)], smoothed), diverged
    )


def around(losses: Sequence[float]) -> list[float]:
    """Return the mean of losses over the steps around each, fewer at the ends."""
    half = max(1, round(AROUND * len(losses)))
    parts = (losses[max(0, i - half) : i + half + 1] for i in range(len(losses)))
    return [sum(part) / len(part) for part in parts]


def steepest(rates: Sequence[float], smoothed: Sequence[float]) -> float:
    """Return the rate at which a loss falls fastest by its logarithm, before it is least."""
    slope = np.gradient(np.asarray(smoothed), np.log(rates))
    return float(rates[int(np.argmin(slope[: int(np.argmin(smoothed)) + 1]))])
