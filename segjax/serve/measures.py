"""What a server counts, for Prometheus."""

import functools
import os
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax.monitoring
import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, multiprocess
from prometheus_client.core import GaugeMetricFamily

from segjax.serve.batching import Job

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SEVERAL = "PROMETHEUS_MULTIPROC_DIR"
"""The variable by which several workers share a folder of their counts."""
COMPILED = "/jax/core/compile/backend_compile_duration"
"""The event of JAX at which a program was compiled."""


_listening: "weakref.WeakSet[Measures]" = weakref.WeakSet()


@functools.cache
def _listen() -> None:
    """Have compilations counted; JAX forgets no listener, so there is one for all."""

    def note(event: str, duration_secs: float, **about: Any) -> None:
        del duration_secs, about
        if event == COMPILED:
            for measures in list(_listening):
                measures.compiled.inc()

    jax.monitoring.register_event_duration_secs_listener(note)


class Measures:
    """Counters of one process; with several workers what is read is of all of them."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        about: Any = {"registry": registry}
        if os.environ.get(SEVERAL):
            about = {"registry": None}
            multiprocess.MultiProcessCollector(registry)
        self.requests = Counter(
            "segjax_requests", "Requests by what they asked for and their status.",
            ["route", "status"], **about,
        )  # fmt: skip
        self.seconds = Histogram(
            "segjax_request_seconds", "From a request's first byte to its answer.",
            ["route"], buckets=SECONDS, **about,
        )  # fmt: skip
        self.batch = Histogram(
            "segjax_batch_images", "Images in a batch.", buckets=(1, 2, 4, 8, 16, 32, 64), **about
        )
        self.windows = Counter("segjax_windows", "Windows that went through the network.", **about)
        self.predicting = Histogram(
            "segjax_batch_seconds",
            "From the begin of a batch to its end.",
            buckets=SECONDS,
            **about,
        )
        self.waiting = Histogram(
            "segjax_wait_seconds", "From an image's arrival to its batch.", buckets=SECONDS, **about
        )
        self.compiled = Counter("segjax_compilations", "Programs that were compiled.", **about)
        self.feedback = Counter("segjax_feedback", "Examples that were sent back.", **about)
        self.active = Gauge(
            "segjax_requests_active", "Requests that are worked on.",
            multiprocess_mode="livesum", **about,
        )  # fmt: skip
        _listen()
        _listening.add(self)

    def tell(self, jobs: Sequence[Job], seconds: float) -> None:
        """Count a batch, see `Batcher`."""
        end = time.monotonic()
        self.batch.observe(len(jobs))
        self.windows.inc(sum(job.windows for job in jobs))
        self.predicting.observe(seconds)
        for job in jobs:
            self.waiting.observe(max(0.0, end - seconds - job.arrived))

    def add_gauges(self, gauges: Callable[[], dict[str, float]]) -> None:
        """Show numbers of somebody else, each time that the counts are read, of this process."""

        class Others:
            def collect(self) -> Iterator[GaugeMetricFamily]:
                for name, value in gauges().items():
                    yield GaugeMetricFamily(f"segjax_{name}", "See docs/watch.md.", value=value)

        self.registry.register(Others())  # pyright: ignore[reportArgumentType]

    def text(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return prometheus_client.generate_latest(self.registry)
