"""The losses of `small_config` in this process, on any of its devices."""

import contextlib
import functools
import math

import jax
import numpy as np
from jax.sharding import Mesh

from segjax.assemble import program
from segjax.assemble.setup import make_setup
from segjax.config import sections
from segjax.runtime import sharding
from tests.distributed import small_config

STEPS = 20


@functools.cache
def losses(kind: str, mesh: tuple[int, int, int] = (1, 1, 1)) -> tuple[float, ...]:
    """Train as `run.py` does, on a mesh data × fsdp × space over the first devices; float64 too."""
    with jax.enable_x64(kind == "float64"):
        config = sections.plain(small_config.get_config(kind))
        devices = np.asarray(jax.devices()[: math.prod(mesh)]).reshape(mesh)
        setup, source = make_setup(config, mesh=Mesh(devices, sharding.AXES))
        init_key, step_key = jax.random.split(jax.random.key(config["seed"]))
        init, step, _ = program.make_step(setup, init_key)
        state, found = init(init_key), []
        with contextlib.closing(program.make_batches(setup, source, 0)) as batches:
            for _ in range(STEPS):
                state, scalars = step(state, next(batches), step_key)
                found.append(scalars["loss"])
        return tuple(map(float, found))
