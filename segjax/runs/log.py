"""What a run says of itself while it goes: numbers of each step, progress, time."""

import math
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from segjax.config import schedule
from segjax.config.schedule import itstime
from segjax.costs import timing
from segjax.runs import writer
from segjax.views import progress


class Log:
    """Read each step's numbers one step late; average, write and show them.

    Of trials each has its own folder and its own average; the first one's is shown.
    """

    def __init__(
        self,
        paths: Sequence[pathlib.Path],
        clock: schedule.Clock,
        log_steps: int,
        start: int | None,
        costs: timing.Costs,
        dtype: str,
    ):
        first = jax.process_index() == 0
        self.writers = [writer.Writer(p, resume_step=start, enabled=first) for p in paths]
        self.progress = progress.Progress(clock.total_steps, start=start or 0, enabled=first)
        self.total_steps, self.log_steps, self.costs = clock.total_steps, log_steps, costs
        self.watch = timing.Stopwatch(
            flops=costs.flops,
            peak=timing.peak_flops(jax.local_devices()[0], dtype),
            batch_size=clock.batch_size,
        )
        self.started = False
        self.once: dict[str, float] = {}
        self.pending: tuple[int, Any] | None = None
        self.windows: list[list[dict[str, float]]] = [[] for _ in paths]

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *error: Any) -> None:
        self.progress.close()
        for each in self.writers:
            each.close()

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
        got = {f"train/{name}": np.ravel(x) for name, x in jax.device_get(scalars).items()}
        every = [{name: float(x[i]) for name, x in got.items()} for i in range(len(self.writers))]
        for each, values in zip(self.writers, every, strict=True):
            if not all(map(math.isfinite, values.values())):
                each.write(number, values)  # writes what is finite, then raises
        self.watch.tick()
        if not self.started:
            self.say_started()
        for window, values in zip(self.windows, every, strict=True):
            window.append(values)
        shown = {}
        if itstime(number, self.log_steps, self.total_steps):
            common = self.watch.scalars() | self.once
            common["memory/step_mb"] = sum(self.costs.memory.values()) / 1e6
            means = [mean(window) | common for window in self.windows]
            for each, values in zip(self.writers, means, strict=True):
                each.write(number, values)
            shown, self.once = means[0], {}
            self.windows = [[] for _ in self.writers]
        self.progress.update(number, shown)

    def say_started(self) -> None:
        """Show how long the first step took from the start of the process."""
        seconds = timing.process_seconds()
        self.started, self.once = True, {"time/first_step_s": seconds}
        self.message(f"first step after {seconds:.1f} s ({self.costs.seconds:.1f} s to compile it)")

    def message(self, text: str) -> None:
        """Show a line above the progress bar."""
        self.progress.message(text)


def mean(window: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each quantity over some steps; of the learning rate the last."""
    means = {k: sum(values[k] for values in window) / len(window) for k in window[-1]}
    return means | {"train/lr": window[-1]["train/lr"]}
