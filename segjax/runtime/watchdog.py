"""Say which step and phase hangs, and end a process that hangs for good."""

import collections
import faulthandler
import math
import os
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from segjax.errors import ConfigError
from segjax.runtime import distributed

PATIENCE_SECONDS = 600.0
"""How long a phase may take at least before the process is ended (`SEGJAX_STALL_SECONDS`)."""
FIRST = 6
"""How many times as long it may take the first time, when it may compile."""


def patience_of_environment() -> float:
    """Return the seconds of `SEGJAX_STALL_SECONDS`, or 600.

    Raises:
        ConfigError: It is no number above 0.
    """
    text = os.environ.get("SEGJAX_STALL_SECONDS") or str(PATIENCE_SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ConfigError(
            f"SEGJAX_STALL_SECONDS={text[:100]!r}: expected seconds, a number above 0. Unset it "
            f"for {PATIENCE_SECONDS:g}."
        )
    return seconds


class Watchdog:
    """Watch the loop from a thread of its own; the loop says with `now` what it does.

    After a tenth of the limit one line names step and phase, and again each time the wait has
    doubled. At the limit (50 times the usual, at least `patience`) the stacks of all threads are
    printed and the process ends with code 1, so that a scheduler starts it again.

    Args:
        patience: Seconds; None: `SEGJAX_STALL_SECONDS` or 600.
        end: What ends the process, given exit code and message.
    """

    def __init__(
        self, *, patience: float | None = None, end: Callable[[int, str], Any] = distributed.end
    ):
        self.patience, self.end = patience_of_environment() if patience is None else patience, end
        self.took: dict[str, collections.deque[float]] = {}
        self.phase, self.step, self.since, self.warned = "start", 0, time.monotonic(), 0.0
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True, name="watchdog")

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()

    def now(self, phase: str, step: int) -> None:
        """Say what begins now, towards step `step`; what came before is over."""
        time_ = time.monotonic()
        history = self.took.setdefault(self.phase, collections.deque(maxlen=50))
        history.append(time_ - self.since)
        self.phase, self.step, self.since, self.warned = phase, step, time_, 0.0

    def limit(self) -> tuple[float, float]:
        """Return what the present phase usually takes (0: not known) and how long it may take."""
        history = self.took.get(self.phase)
        if not history:
            return 0.0, FIRST * self.patience
        usual = statistics.median(list(history))
        return usual, max(self.patience, 50 * usual)

    def check(self) -> None:
        """Warn of a phase that takes long; end the process when it takes too long."""
        phase, step, since = self.phase, self.step, self.since
        waited = time.monotonic() - since
        usual, limit = self.limit()
        if waited < max(limit / 10, 2 * self.warned) or since != self.since:
            return
        self.warned = waited
        often = f"usually {usual:.3g} s" if usual else "for the first time: it may be compiling"
        where = f"step {step} in {phase!r} for {waited:.0f} s ({often})"
        if waited < limit:
            distributed.say(f"no progress: {where}")
            return
        faulthandler.dump_traceback(file=2, all_threads=True)  # standard error itself
        self.end(
            1,
            f"error: stalled: {where}. The stacks above show what every thread waits for. Run the "
            "same command again: it continues from the last checkpoint.",
        )

    def _watch(self) -> None:
        while not self.stopped.wait(min(1.0, self.patience / 50)):
            self.check()
