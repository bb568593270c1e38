"""Images larger than a device: rows on eight devices, and what a train step gathers of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from segjax import assemble, hlo, schedule, sharding, train
from segjax.data import pipeline

ROWS, ALONE = (1, 1, 8), (1, 1, 1)


def compile_step(config, *, size, mesh):
    """Return state shapes, the compiled step and its `init`, for images of one size on a mesh."""
    config["input"]["size"], config["input"]["batch_size"] = size, 1
    config["model"] = {"type": "unet", "widths": (8, 16, 32), "convs_per_level": 1}
    source = assemble.make_source(config, "train")
    parts = assemble.make_parts(config, assemble.classes_of(source))
    grid = np.asarray(jax.devices()[: np.prod(mesh)]).reshape(mesh)
    parts = dataclasses.replace(parts, mesh=Mesh(grid, sharding.AXES))
    key = jax.random.key(0)
    init, step, target = train.make_step(config, parts, schedule.Clock(1, 8, 2), key)
    compiled = step.lower(target, pipeline.batch_shapes(1, size, 3), key).compile()
    return parts, init, compiled


@pytest.mark.slow
def test_eight_shards_of_rows_hold_an_eighth_and_gather_nothing(tiny_config):
    """At 2048 x 2048 pixels; only compiled, as the numbers are the compiler's."""
    temporary = {}
    for mesh in (ALONE, ROWS):
        config = tiny_config()
        config["augment"] = [dict(type="photometric:color_jitter", brightness=0.4)]
        _, _, compiled = compile_step(config, size=(2048, 2048), mesh=mesh)
        memory = compiled.memory_analysis()
        temporary[mesh] = memory.temp_size_in_bytes + memory.argument_size_in_bytes
        kinds = set(hlo.bytes_by_kind(hlo.collectives_of(compiled.as_text())))
        assert kinds <= {"all-reduce", "collective-permute"}
    assert temporary[ROWS] <= temporary[ALONE] / 6


@pytest.mark.slow
def test_moving_rows_gathers_the_input_and_no_activation(tiny_config):
    """A crop may take any row: the image is gathered, three channels, before the network."""
    size = (256, 128)
    config = tiny_config()
    config["augment"] = [
        dict(type="geometry:affine", size=size, scale=(0.5, 2.0), horizontal=0.5, fill=0.5)
    ]
    _, _, compiled = compile_step(config, size=size, mesh=ROWS)
    for found in hlo.collectives_of(compiled.as_text()):
        if found.kind == "all-gather":
            assert all(np.prod(shape) <= 3 * np.prod(size) for _, shape in found.arrays), found


@pytest.mark.slow
def test_the_step_on_rows_is_the_step_on_one_device(tiny_config, float64):
    """One step of plain SGD from the same state, so that the parameters show the gradient."""
    results = []
    for mesh in (ALONE, ROWS):
        config = tiny_config()
        config["augment"] = [
            dict(type="geometry:affine", size=(128, 64), scale=(0.5, 2.0), rotate=10, fill=0.5),
            dict(type="photometric:gaussian_blur", sigma=(0.5, 1.0), p=1.0),
        ]
        config["optimizer"] = dict(type="sgd", lr=1.0, schedule=dict(type="constant"))
        parts, init, step = compile_step(config, size=(128, 64), mesh=mesh)
        rng = np.random.default_rng(0)
        batch = {
            "image": rng.integers(0, 256, (1, 128, 64, 3), np.uint8),
            "label": rng.integers(0, 8, (1, 128, 64), np.int32),
            "mask": np.ones(1, bool),
            "index": np.zeros(1, np.int32),
        }
        placed = jax.device_put(batch, sharding.batch_sharding(parts.mesh))
        state = init(jax.random.key(0))
        before = jax.device_get(state.params)
        state, _ = step(state, placed, jax.random.key(0))
        change = jax.tree.map(lambda a, b: a - b, before, jax.device_get(state.params))
        results.append(change)
    whole = jnp.max(jnp.asarray([np.abs(leaf).max() for leaf in jax.tree.leaves(results[0])]))
    for one, rows in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(rows, one, rtol=0, atol=1e-5 * float(whole))
