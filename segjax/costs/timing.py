"""Where the time goes: step time, waiting for data, images per second, MFU; what a step costs."""

import contextlib
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from segjax.runtime import xla


class Spec(NamedTuple):
    """What a vendor's data sheet says of one device.

    Attributes:
        flops: Dense bf16 FLOP/s (f16 on V100 and T4).
        memory: Bytes of device memory.
        bandwidth: Bytes a second from and to that memory.
        link: Bytes a second over its links to other devices, all of them, both ways.
    """

    flops: float
    memory: float
    bandwidth: float
    link: float


SPECS = {
    "TPU v4": Spec(275e12, 32e9, 1228e9, 300e9),
    "TPU v5 lite": Spec(197e12, 16e9, 819e9, 200e9),
    "TPU v5p": Spec(459e12, 95e9, 2765e9, 600e9),
    "TPU v6 lite": Spec(918e12, 32e9, 1640e9, 448e9),
    "NVIDIA A100": Spec(312e12, 80e9, 2039e9, 600e9),
    "NVIDIA H100": Spec(989e12, 80e9, 3350e9, 900e9),
    "NVIDIA H200": Spec(989e12, 141e9, 4800e9, 900e9),
    "NVIDIA L4": Spec(121e12, 24e9, 300e9, 64e9),
    "Tesla V100": Spec(125e12, 32e9, 900e9, 300e9),
    "Tesla T4": Spec(65e12, 16e9, 320e9, 32e9),
}
"""By the beginning of `device_kind`; A100, H100 and H200 in their SXM forms."""


def spec_of(device: Any) -> Spec | None:
    """Return what the data sheet says of a device, None for one that is not in `SPECS`."""
    kind = device.device_kind
    return next((spec for name, spec in SPECS.items() if kind.startswith(name)), None)


def peak_flops(device: Any, dtype: str = "float32") -> float:
    """Return a device's peak FLOP/s: the vendor's figure, or a matrix product's in `dtype`."""
    spec, n = spec_of(device), 1024
    if spec:
        return spec.flops
    with jax.default_device(device):
        x = jnp.ones((n, n), dtype)
        product = jax.jit(jnp.matmul, compiler_options=xla.xla_options(dtype))
        return 2 * n**3 / least_seconds(product, x, x)


def bandwidth(device: Any) -> float:
    """Return a device's bytes a second from and to memory: the vendor's figure, or a copy's."""
    spec = spec_of(device)
    if spec:
        return spec.bandwidth
    with jax.default_device(device):
        x = jnp.ones(1 << 26)
        return 2 * x.nbytes / least_seconds(jax.jit(lambda x: 2 * x), x)


def least_seconds(function: Any, *arguments: Any) -> float:
    """Return the shortest of five runs, after one that compiles."""
    function(*arguments).block_until_ready()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        function(*arguments).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def process_seconds() -> float:
    """Return the seconds since this process was started, by Linux's own record."""
    begun = int(pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - begun / os.sysconf("SC_CLK_TCK")


class Costs(NamedTuple):
    """What a compiled train step costs.

    Attributes:
        flops: Of one device's share of convolutions and products.
        memory: Bytes that one device holds at most, by what they are for: 'state and batch',
            'results', 'temporary'.
        seconds: Of tracing and compiling.
    """

    flops: float
    memory: dict[str, int]
    seconds: float


def memory_of(compiled: Any) -> dict[str, int]:
    """Return the bytes that a compiled step needs on each device, see `Costs`."""
    memory = compiled.memory_analysis()
    return {
        "state and batch": memory.argument_size_in_bytes,
        "results": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
    }


class Stopwatch:
    """Measure a window of train steps; time spent evaluating or saving is taken out by `paused`.

    Args:
        flops: FLOPs of one step on one device.
        peak: Peak FLOP/s of one device.
        batch_size: Images in a global batch.
    """

    def __init__(self, *, flops: float, peak: float, batch_size: int):
        self.flops, self.peak, self.batch_size = flops, peak, batch_size
        self._reset()

    def _reset(self) -> None:
        self.start = time.perf_counter()
        self.steps = 0
        self.waited = 0.0

    @contextlib.contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """Count what happens inside as waiting for data."""
        start = time.perf_counter()
        yield
        self.waited += time.perf_counter() - start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave what happens inside out of the window."""
        start = time.perf_counter()
        yield
        self.start += time.perf_counter() - start

    def tick(self) -> None:
        """Count one finished step."""
        self.steps += 1

    def scalars(self) -> dict[str, float]:
        """Return the window's means and begin a new one.

        `time/step_ms` and `time/data_wait_ms` per step, `time/images_per_s`, and `time/mfu`: the
        step's FLOPs over what the device could do in that time at its peak.
        """
        seconds = max(time.perf_counter() - self.start, 1e-9) / max(self.steps, 1)
        waited = self.waited / max(self.steps, 1)
        self._reset()
        return {
            "time/step_ms": 1e3 * seconds,
            "time/data_wait_ms": 1e3 * waited,
            "time/images_per_s": self.batch_size / seconds,
            "time/mfu": self.flops / seconds / self.peak,
        }
