import time

import jax
import pytest

from segjax.costs import timing


def test_a_window_counts_what_it_should(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    watch = timing.Stopwatch(flops=6e9, peak=1e10, batch_size=8)
    for _ in range(2):
        with watch.waiting_for_data():
            now[0] += 0.5
        now[0] += 1.5
        watch.tick()
    with watch.paused():
        now[0] += 60
    assert watch.scalars() == pytest.approx(
        {"time/step_ms": 2000, "time/data_wait_ms": 500, "time/images_per_s": 4, "time/mfu": 0.3}
    )
    now[0] += 1
    watch.tick()
    assert watch.scalars()["time/step_ms"] == pytest.approx(1000)  # a new window


def test_an_unknown_device_is_measured():
    start = time.monotonic()
    peak = timing.peak_flops(jax.devices()[0])
    assert 1e9 < peak < 1e14
    assert time.monotonic() - start < 5


def test_a_known_device_has_its_data_sheet():
    class Device:
        device_kind = "NVIDIA H200"

    assert timing.peak_flops(Device()) == 989e12
