"""What training says while it goes: numbers of each step, progress, time."""

import sys
import time
from collections.abc import Sequence
from typing import Any, Self, TextIO

import jax
import numpy as np

from segjax.config import schedule
from segjax.config.schedule import itstime
from segjax.costs import timing
from segjax.errors import printable
from segjax.runs.live import Live
from segjax.runtime import files, reading
from segjax.views import progress


class Log:
    """Read each step's numbers one step late; average, write and show them.

    Each run has its own log and its own average; the first one's is shown.

    Args:
        runs: Their logs are open.
        clock: The run's length.
        log_steps: How often to write a line.
        start: The step that training goes on from; None: from none.
        costs: Of the step.
        dtype: That the model computes in, for the device's peak.
        begun: When the run was begun, by `time.monotonic`; None: with the process.
    """

    def __init__(
        self,
        runs: Sequence[Live],
        clock: schedule.Clock,
        log_steps: int,
        start: int | None,
        costs: timing.Costs,
        dtype: str,
        begun: float | None = None,
    ):
        self.runs = runs
        self.progress = progress.Progress(
            clock.total_steps, start=start or 0, enabled=jax.process_index() == 0
        )
        self.total_steps, self.log_steps, self.costs = clock.total_steps, log_steps, costs
        self.watch = timing.Stopwatch(
            flops=costs.flops,
            peak=timing.peak_flops(jax.local_devices()[0], dtype),
            batch_size=clock.batch_size,
        )
        self.file = open_text(runs) if jax.process_index() == 0 else None
        self.started, self.begun = False, begun
        self.once: dict[str, float] = {}
        self.pending: tuple[int, Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self.progress.close()
        if self.file:
            self.file.close()

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
        for i, run in enumerate(self.runs):
            values = {name: float(x[i]) for name, x in got.items()}
            run.check(number, values)
            run.window.append(values)
        self.watch.tick()
        if not self.started:
            self.say_started()
        shown: dict[str, float] = {}
        if itstime(number, self.log_steps, self.total_steps):
            common = self.watch.scalars() | self.once
            common["memory/step_mb"] = sum(self.costs.memory.values()) / 1e6
            shown, *_ = [run.write_means(number, common) for run in self.runs]
            self.once = {}
        self.progress.update(number, shown)
        if shown:
            self._keep(self.progress.text())

    def say_started(self) -> None:
        """Show how long the first step took from the start of the process, or of the run in it."""
        if self.begun is None:
            seconds = timing.process_seconds()
        else:
            seconds = time.monotonic() - self.begun
        self.started, self.once = True, {"time/first_step_s": seconds}
        self.message(f"first step after {seconds:.1f} s ({self.costs.seconds:.1f} s to compile it)")

    def message(self, text: str) -> None:
        """Show a line above the progress bar."""
        self.progress.message(text)
        self._keep(text)

    def _keep(self, text: str) -> None:
        """Write a line that was shown into the run's `log.txt` too."""
        if self.file:
            with files.explain_os_errors(self.file.name):
                print(printable(text), file=self.file, flush=True)


def open_text(runs: Sequence[Live]) -> TextIO:
    """Return the file of what the console shows, `log.txt`, to append to; of trials beside them."""
    folder = runs[0].path if len(runs) == 1 else runs[0].path.parent
    with files.explain_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        reading.check_file(folder / "log.txt")
        file = open(folder / "log.txt", "a", encoding="utf-8")  # noqa: SIM115
        line = f"{time.strftime('%F %T')}  {' '.join(sys.argv)}"
        print(printable(line), file=file, flush=True)
        return file
