"""With `deterministic_reduction` the bits do not depend on how many devices there are."""

import contextlib
import hashlib

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from segjax.assemble import program
from segjax.assemble.setup import make_setup
from segjax.errors import ConfigError
from segjax.runtime import sharding

STEPS = 20


def parameters_after(config, *, devices: int) -> tuple[str, float]:
    """Return a hash of the state after some steps on so many devices, and the last loss."""
    grid = np.asarray(jax.devices()[:devices]).reshape(devices, 1, 1)
    setup, source = make_setup(config, mesh=Mesh(grid, sharding.AXES))
    setup = setup._replace(clock=setup.clock._replace(total_steps=STEPS))
    key = jax.random.key(0)
    init, step, _ = program.make_step(setup, key)
    state, scalars = init(key), {}
    with contextlib.closing(program.make_batches(setup, source, 0)) as batches:
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
    setup, _ = make_setup(config)
    with pytest.raises(ConfigError, match=message):
        program.make_step(setup, jax.random.key(0))
