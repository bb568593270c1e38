"""Show how far a loop is: a bar on a terminal, plain lines in a file or a job log."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Self, TextIO, TypeVar

from tqdm import tqdm

from segjax.errors import printable

T = TypeVar("T")
CLEAR = "\r\x1b[K"
"""Empties a terminal's line."""
RATE = "time/images_per_s"
MEASURED = ("images", "frames")


class Progress:
    """Report the progress of a loop over `total` steps or images.

    Args:
        total: The count at which the loop ends; 0: not known before `finish`.
        start: The count at which this process begins: the restored step.
        unit: What is counted: `step`, or one of `MEASURED`, whose rate is then measured here.
        title: Put before the count, such as the split that is evaluated.
        stream: Where to write; standard error by default.
        interval: Seconds between plain lines when nothing is logged.
        leave: Keep the finished bar on the terminal; False for a bar inside another, or where what
            was done is said afterwards.
        enabled: False on every process but the first: shows nothing.
        heartbeat: Called at every update, whether it shows anything or not.
        shown: The quantities worth a place on the line, by the last part of their name.
        clock: Seconds from any origin, for tests.
    """

    def __init__(
        self,
        total: int,
        *,
        start: int = 0,
        unit: str = "step",
        title: str = "",
        stream: TextIO | None = None,
        interval: float = 30.0,
        leave: bool = True,
        enabled: bool = True,
        heartbeat: Callable[[], None] = lambda: None,
        shown: Sequence[str] = ("loss",),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._count, self._unit, self._title = total, start, unit, title
        self._stream = sys.stderr if stream is None else stream
        self._enabled, self._interval, self._clock = enabled, interval, clock
        self._leave = leave
        self._heartbeat, self._shown = heartbeat, shown
        self._begun = self._printed = clock()
        self._origin: tuple[float, int] | None = None
        self._scalars: dict[str, float] = {}
        self._bar = None
        if enabled and is_terminal(self._stream):
            self._bar = tqdm(
                total=total or None,
                initial=start,
                file=self._stream,
                bar_format="{percentage:3.0f}% |{bar}| {desc}",
                dynamic_ncols=True,
                miniters=1,
                leave=leave,
            )
            self._bar.set_description_str(self.text())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, step: int, scalars: Mapping[str, float] | None = None) -> None:
        """Report that `step` of the total are done, with what was logged there if anything was.

        A terminal is redrawn at most ten times a second. A plain line is printed for each log, at
        the end where the bar stays, and otherwise once in `interval` seconds: what is soon over
        says nothing in a file or a pipe.
        """
        self._heartbeat()
        self._count = step
        self._scalars.update(scalars or {})
        now = self._clock()
        if self._origin is None:
            self._origin = now, step  # the first step compiled the program: the rate leaves it out
        if self._bar is not None:
            self._bar.set_description_str(self.text(), refresh=False)
            self._bar.update((min(step, self._total) if self._total else step) - self._bar.n)
        elif scalars or self._is_due(now):
            self._printed = now
            self._print(self.text())

    def finish(self, count: int) -> None:
        """Report that the loop has ended after so many, whatever was expected."""
        self._total = count
        if self._bar is not None:
            self._bar.total = count
        self.update(count)

    def message(self, text: str) -> None:
        """Print a line of its own, above the bar if there is one."""
        if self._bar is not None:
            self._bar.write(printable(text), file=self._stream)
        else:
            self._print(text)

    def close(self) -> None:
        """Draw the bar's last state and leave the terminal on a new line."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()

    def text(self) -> str:
        """Return the line without its bar: count, scalars, images/s, time left."""
        total = f"/{self._total}" if self._total else ""
        parts = [f"{self._title} {self._unit} {self._count}{total}".lstrip()]
        for name, value in self._scalars.items():
            if name.rpartition("/")[2] in self._shown:
                parts.append(f"{name.removeprefix('train/').replace('/', ' ')} {number(value)}")
        rate = self.rate()
        measured = self._unit in MEASURED
        per_s = rate if measured else self._scalars.get(RATE)
        if per_s is not None:
            parts.append(f"{per_s:.1f} {self._unit if measured else 'images'}/s")
        if self._is_done():
            parts.append(f"done in {duration(self._clock() - self._begun)}")
        elif rate and self._total:
            parts.append(f"{duration((self._total - self._count) / rate)} left")
        return printable("  ".join(parts))

    def rate(self) -> float | None:
        """Return counts per second since this process's first update, None before the second."""
        if self._origin is None:
            return None
        seconds, done = self._clock() - self._origin[0], self._count - self._origin[1]
        return done / seconds if done > 0 and seconds > 0 else None

    def _is_due(self, now: float) -> bool:
        """Return whether a plain line is printed of what was not logged."""
        return (self._leave and self._is_done()) or now - self._printed >= self._interval

    def _is_done(self) -> bool:
        return 0 < self._total <= self._count

    def _print(self, text: str) -> None:
        if self._enabled:
            print(printable(text), file=self._stream, flush=True)


def over(
    items: Iterable[T], *, total: int, unit: str, title: str, enabled: bool = True
) -> Iterator[T]:
    """Go through items, and show how many of them are done.

    Args:
        items: What is gone through.
        total: How many there are at most; 0: not known.
        unit: See `Progress`.
        title: See `Progress`.
        enabled: See `Progress`.
    """
    with Progress(total, unit=unit, title=title, leave=False, enabled=enabled) as bar:
        for done, item in enumerate(items, start=1):
            yield item
            bar.update(done)


@contextlib.contextmanager
def stage(text: str, *, stream: TextIO | None = None, enabled: bool = True) -> Iterator[None]:
    """Say on a terminal what goes on and for how long, while nobody knows how far it is.

    The line is gone when it is over; a file or a pipe gets none.

    Args:
        text: Such as 'compiling the train step'.
        stream: Where to write; standard error by default.
        enabled: False on every process but the first.
    """
    shown: TextIO = sys.stderr if stream is None else stream
    if not enabled or not is_terminal(shown):
        yield
        return
    over_, begun = threading.Event(), time.monotonic()

    def show() -> None:
        while True:
            said = printable(f"{text}, {duration(time.monotonic() - begun)}")
            shown.write(f"\r{said}")
            shown.flush()
            if over_.wait(1.0):
                return

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over_.set()
        thread.join()
        shown.write(CLEAR)
        shown.flush()


def line(text: str) -> None:
    """Print a line to standard output, above the bars of a terminal."""
    tqdm.write(printable(text))
    sys.stdout.flush()


def is_terminal(stream: TextIO) -> bool:
    """Return whether a bar can be drawn: some terminals of containers say they have no width."""
    try:
        return stream.isatty() and os.get_terminal_size(stream.fileno()).columns > 0
    except OSError:
        return False


def number(value: float) -> str:
    """Return a value to three decimals, or three digits when that would hide it (0.00123)."""
    return f"{value:.3f}" if value == 0 or 0.01 <= abs(value) < 1e4 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Return seconds as people say them: `45 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
