"""With `deterministic_reduction` the bits do not depend on how many devices there are."""

import contextlib
import dataclasses
import hashlib

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from segjax.assemble import parts as assemble
from segjax.config import schedule
from segjax.errors import ConfigError
from segjax.runs import train
from segjax.runtime import sharding

STEPS = 20


def parameters_after(config, *, devices: int) -> tuple[str, float]:
    """Return a hash of the state after some steps on so many devices, and the last loss."""
    source = assemble.make_source(config, "train")
    parts = assemble.make_parts(config, assemble.classes_of(source))
    grid = np.asarray(jax.devices()[:devices]).reshape(devices, 1, 1)
    parts = dataclasses.replace(parts, mesh=Mesh(grid, sharding.AXES))
    clock = schedule.Clock(config["input"]["batch_size"], len(source), STEPS)
    key = jax.random.key(0)
    init, step, _ = train.make_step(config, parts, clock, key)
    state, scalars = init(key), {}
    with contextlib.closing(train.make_batches(config, source, parts, 0)) as batches:
        for _ in range(STEPS):
            state, scalars = step(state, next(batches), key)
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(jax.device_get(state)):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest(), float(scalars["loss"])


@pytest.mark.slow
def test_two_four_and_eight_devices_give_the_same_bits(tiny_config):
    config = tiny_config(input__batch_size=16, ema_decay=0.9)
    config["model"]["dropout"] = 0.2
    config["deterministic_reduction"] = 8
    runs = [parameters_after(config, devices=n) for n in (2, 4, 8)]
    assert runs[0] == runs[1] == runs[2]
    # Without, the sums of the devices are added in another order, which this test would see.
    config["deterministic_reduction"] = 0
    plain = [parameters_after(config, devices=n) for n in (2, 8)]
    assert plain[0] != plain[1]
    assert runs[0][1] == pytest.approx(plain[0][1], rel=0.2)  # batch norm sees an eighth


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"deterministic_reduction": 3}, "multiple of the 8 devices"),
        ({"deterministic_reduction": 16}, "divides input.batch_size"),
        ({"deterministic_reduction": 8, "microbatches": 2}, "microbatches=1"),
        ({"deterministic_reduction": 8, "mesh__fsdp": 2}, "config.mesh.data"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message, tiny_config):
    config = tiny_config(**changes)
    parts = assemble.make_parts(config, {"class_names": "ab", "palette": [], "channels": 3})
    with pytest.raises(ConfigError, match=message):
        train.make_step(config, parts, schedule.Clock(8, 8, 2), jax.random.key(0))
