"""Watch a model in use: how fast it is, what it sees, what it says. Threads may share one."""

import collections
import math
import pathlib
import re
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from segjax.runtime import reading
from segjax.watch import drift, statistics
from segjax.watch import reference as reference_lib
from segjax.watch.reference import Reference

RECENT_S = 60.0
"""Throughput and errors are those of the last so many seconds."""
EVERY = 25
"""Images after which a window is compared again; a shorter one after as many as it has."""


class Alert(NamedTuple):
    """Something that a person should look at.

    Attributes:
        name: What it is of, such as 'drift:input/brightness'.
        message: One line.
        value: What was found.
        limit: What it passed.
        image: How many images had come.
    """

    name: str
    message: str
    value: float
    limit: float
    image: int


class Monitor:
    """Keeps what it needs of the last images, and compares them with a reference.

    Args:
        reference: Of the run; None: nothing is compared, and there are gauges alone.
        clock: Seconds from any origin.
    """

    def __init__(self, reference: Reference | None, *, clock: Callable[[], float] = time.monotonic):
        self.reference, self._clock, self._lock = reference, clock, threading.Lock()
        window = reference.window if reference else drift.WINDOW
        self._rows: collections.deque[dict[str, float]] = collections.deque(maxlen=window)
        self._seconds: collections.deque[float] = collections.deque(maxlen=window)
        self._times: collections.deque[float] = collections.deque()
        self._images = self._errors = self._queue = 0
        self._shifts: tuple[int, list[drift.Shift]] = (0, [])

    def observe(
        self, image: Any, prediction: Any, seconds: float, queue: int, probabilities: Any = None
    ) -> None:
        """Take note of an image that was predicted; it takes milliseconds.

        Args:
            image: [*space c].
            prediction: A `Prediction`, whose `probabilities` is not called; None, or one of
                objects: only the image is looked at.
            seconds: From the request to the answer.
            queue: Requests that waited.
            probabilities: [*space k], if there are any at hand.
        """
        row = statistics.of_image(image)
        classes = getattr(prediction, "classes", None)
        if isinstance(classes, np.ndarray) and hasattr(prediction, "probabilities"):
            row |= statistics.of_classes(classes, self._class_names(classes, image.ndim))
        if probabilities is not None:
            row |= statistics.of_probabilities(probabilities)
        self.add(row, seconds=seconds, queue=queue)

    def add(self, row: dict[str, float], *, seconds: float, queue: int) -> None:
        """Take note of an image by what describes it."""
        now = self._clock()
        with self._lock:
            self._images += 1
            self._queue = queue
            self._rows.append(row)
            self._seconds.append(seconds)
            self._times.append(now)
            self._forget(now)

    def failed(self) -> None:
        """Take note of a request that got no answer."""
        with self._lock:
            self._errors += 1

    def gauges(self) -> dict[str, float]:
        """Return what there is to plot, by names that Prometheus takes."""
        shifts = self.shifts()
        with self._lock:
            now = self._clock()
            self._forget(now)
            seconds, rows = np.array(self._seconds), list(self._rows)
            found = {
                "watch_images": float(self._images),
                "watch_errors": float(self._errors),
                "watch_queue": float(self._queue),
                "watch_images_per_second": len(self._times) / RECENT_S,
            }
        for share in (50, 95, 99) if len(seconds) else ():
            found[f"watch_latency_p{share}_seconds"] = float(np.percentile(seconds, share))
        for name, values in reference_lib.table(rows).items():
            found[f"watch_{metric(name)}"] = float(np.nanmean(values))
        for shift in shifts:
            found[f"watch_psi_{metric(shift.statistic)}"] = shift.psi
            found[f"watch_ks_{metric(shift.statistic)}"] = shift.ks
        found["watch_drift_alerts"] = float(sum(shift.passes for shift in shifts))
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def shifts(self) -> list[drift.Shift]:
        """Return how far the last window was from the reference; empty: there was none yet."""
        if self.reference is None:
            return []
        with self._lock:
            count, rows, (known, shifts) = self._images, list(self._rows), self._shifts
        if len(rows) < self.reference.window:
            return []
        if not known or count >= known + min(EVERY, self.reference.window):
            shifts = drift.compare(reference_lib.table(rows), self.reference.limits)
            with self._lock:
                self._shifts = (count, shifts)
        return shifts

    def alerts(self) -> list[Alert]:
        """Return what is wrong with the last window."""
        return [
            Alert(
                f"drift:{shift.statistic}", shift.describe(), shift.psi, shift.limits.psi,
                self._images,
            )
            for shift in self.shifts()
            if shift.passes
        ]  # fmt: skip

    def _forget(self, now: float) -> None:
        while self._times and self._times[0] < now - RECENT_S:
            self._times.popleft()

    def _class_names(self, classes: np.ndarray, axes: int) -> tuple[str, ...]:
        if self.reference is not None:
            return self.reference.class_names
        several = classes.ndim == axes
        number = classes.shape[-1] if several else int(classes[classes < 255].max(initial=0)) + 1
        return tuple(map(str, range(number)))


def open_monitor(workdir: pathlib.Path) -> Monitor:
    """Return the monitor of a run, with its reference where `watch.json` is there.

    Raises:
        DataError: The file is not one.
    """
    path = workdir / reference_lib.FILE
    return Monitor(Reference.load(path) if reading.is_file(path) else None)


def metric(name: str) -> str:
    """Return a name as Prometheus takes it: letters, digits and `_`."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)
