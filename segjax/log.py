"""What a run says of itself while it goes: numbers of each step, progress, time."""

import math
import pathlib
from typing import Any

import jax

from segjax import progress, schedule, timing, writer
from segjax.schedule import itstime


class Log:
    """Read each step's numbers one step late; average, write and show them."""

    def __init__(
        self,
        path: pathlib.Path,
        clock: schedule.Clock,
        log_steps: int,
        start: int | None,
        costs: timing.Costs,
        dtype: str,
    ):
        self.writer = writer.Writer(path, resume_step=start, enabled=jax.process_index() == 0)
        self.progress = progress.Progress(
            clock.total_steps, start=start or 0, enabled=jax.process_index() == 0
        )
        self.total_steps, self.log_steps, self.costs = clock.total_steps, log_steps, costs
        self.watch = timing.Stopwatch(
            flops=costs.flops,
            peak=timing.peak_flops(jax.local_devices()[0], dtype),
            batch_size=clock.batch_size,
        )
        self.started = False
        self.once: dict[str, float] = {}
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
        if not self.started:
            self.say_started()
        self.window.append(values)
        shown = {}
        if itstime(number, self.log_steps, self.total_steps):
            shown = {k: sum(v[k] for v in self.window) / len(self.window) for k in values}
            shown |= {"train/lr": values["train/lr"]} | self.watch.scalars() | self.once
            shown["memory/step_mb"] = sum(self.costs.memory.values()) / 1e6
            self.writer.write(number, shown)
            self.window, self.once = [], {}
        self.progress.update(number, shown)

    def say_started(self) -> None:
        """Show how long the first step took from the start of the process."""
        seconds = timing.process_seconds()
        self.started, self.once = True, {"time/first_step_s": seconds}
        self.message(f"first step after {seconds:.1f} s ({self.costs.seconds:.1f} s to compile it)")

    def message(self, text: str) -> None:
        """Show a line above the progress bar."""
        self.progress.message(text)
