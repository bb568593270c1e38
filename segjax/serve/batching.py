"""Requests that come one by one, predicted several at once."""

import collections
import concurrent.futures
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from segjax.errors import DataError
from segjax.serve.limits import Refused

Future = concurrent.futures.Future


@dataclasses.dataclass(frozen=True)
class Job:
    """An image that waits to be predicted.

    Attributes:
        image: [*space c].
        windows: How many windows of the network it is.
        probabilities: Whether those are wanted.
        until: When nobody wants the answer any more, by `time.monotonic`.
        future: Of the prediction.
        arrived: When it came.
    """

    image: Any
    windows: int
    probabilities: bool
    until: float
    future: Future = dataclasses.field(default_factory=Future)
    arrived: float = dataclasses.field(default_factory=time.monotonic)


Predict = Callable[[Sequence[Any], Sequence[int]], list[Any]]
"""`(images, numbers of those whose probabilities are wanted) → predictions`."""


class Batcher:
    """A thread that predicts what waits, several images at once.

    A batch begins when its windows are as many as the network takes at once, or when the first of
    it has waited for `wait` seconds. While one is predicted the next one gathers.

    Args:
        predict: Predicts several.
        most: Windows in a batch; one image may have more, which then goes alone.
        wait: Seconds.
        tell: Told the jobs of each batch and the seconds that it took.
    """

    def __init__(
        self,
        predict: Predict,
        *,
        most: int,
        wait: float,
        tell: Callable[[Sequence[Job], float], None] = lambda jobs, seconds: None,
    ):
        self.predict, self.most, self.wait, self.tell = predict, most, wait, tell
        self._jobs: collections.deque[Job] = collections.deque()
        self._changed, self._closed, self._windows = threading.Condition(), False, 0
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many images wait."""
        return len(self._jobs)

    def submit(self, job: Job) -> Future:
        """Queue an image, and return the future of its prediction.

        A future that is cancelled before its batch begins costs nothing.
        """
        with self._changed:
            if self._closed:
                raise Refused(503, "the server is about to end. Ask another one.", retry_after=5)
            self._jobs.append(job)
            self._windows += job.windows
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Predict what waits, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _gather(self) -> list[Job]:
        """Wait for the next batch; empty: there will be none."""
        with self._changed:
            while not self._jobs and not self._closed:
                self._changed.wait()
            while self._jobs and self._windows < self.most and not self._closed:
                left = self._jobs[0].arrived + self.wait - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            taken, windows = [], 0
            while self._jobs and (not taken or windows + self._jobs[0].windows <= self.most):
                taken.append(self._jobs.popleft())
                windows += taken[-1].windows
            self._windows -= windows
            return taken

    def _run(self) -> None:
        while jobs := self._gather():
            wanted = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            begin = time.monotonic()
            for job in wanted:
                if job.until <= begin:
                    job.future.set_exception(too_late())
            wanted = [job for job in wanted if job.until > begin]
            if wanted:
                self._answer(wanted)
                self.tell(wanted, time.monotonic() - begin)
            del jobs, wanted  # their images, before the next one is waited for

    def _answer(self, jobs: Sequence[Job]) -> None:
        """Predict jobs together; where that fails one by one, so that only those fail that must."""
        images = [job.image for job in jobs]
        wanted = [number for number, job in enumerate(jobs) if job.probabilities]
        try:
            found = self.predict(images, wanted)
        except Exception as error:  # of any kind: the thread must live on
            if len(jobs) > 1:
                for job in jobs:
                    self._answer([job])
            else:
                jobs[0].future.set_exception(_shown(error))
            return
        for job, each in zip(jobs, found, strict=True):
            job.future.set_result(each)


def _shown(error: Exception) -> Exception:
    return Refused(422, str(error)) if isinstance(error, DataError) else error


def too_late() -> Refused:
    """Return what refuses a request whose time is up."""
    return Refused(503, "no answer in time: the server is busy. Ask again later.", retry_after=2)
