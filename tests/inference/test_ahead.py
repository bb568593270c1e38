"""What is made of variables alone is made once, and changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.inference import ahead
from segjax.inference.network import Forward, Network
from segjax.models import unet
from tests.inference.test_network import (
    SCHEMA,
    Conv,
    Many,
    convolution,
    one_device,
    sizes_of_caches,
)

VARIABLES = {
    "bias": jnp.arange(4.0) ** 2,
    "kernel": jnp.arange(12.0).reshape(3, 4) % 5,
    "unused": jnp.ones(5),
}


def function(variables, images):
    """Round a kernel, spread a bias, count rows, and return a variable as it is.

    All are small whole numbers, which every dtype holds.
    """
    kernel = variables["kernel"].astype(jnp.bfloat16)
    bias = jnp.broadcast_to(jnp.sqrt(variables["bias"]), (*images.shape[:-1], 4))
    rows = jnp.arange(images.shape[0], dtype=jnp.float32)[:, None]
    return {"y": images.astype(jnp.bfloat16) @ kernel + bias * rows, "bias": variables["bias"]}


def made(parts):
    return {(x.shape, str(x.dtype)) for x in parts.early(jax.tree.leaves(VARIABLES))}


def test_weights_are_rounded_ahead_and_nothing_grows():
    images = jnp.ones((6, 3))
    parts = ahead.split(function, VARIABLES, images)
    assert made(parts) == {((3, 4), "bfloat16"), ((4,), "float32")}


def test_both_parts_together_are_the_function():
    images = jnp.arange(18.0).reshape(6, 3) % 4
    passes = ahead.Passes(function, options=None, options_early=None)
    expected, found = function(VARIABLES, images), passes.of(VARIABLES)(images)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_images_of_another_shape_share_it_and_other_variables_do_not():
    passes = ahead.Passes(function, options=None, options_early=None)
    ready = passes.of(VARIABLES)
    for count in (6, 2, 6):
        ready(jnp.ones((count, 3)))
    assert len(ready.values) == 1 and len(passes.parts) == 2
    other = passes.of(jax.tree.map(lambda x: x * 4, VARIABLES))
    images = jnp.ones((2, 3))
    expected = function(other.variables, images)["y"]
    np.testing.assert_array_equal(other(images)["y"], expected)
    np.testing.assert_array_equal(ready(images)["y"], function(VARIABLES, images)["y"])


def test_what_is_made_for_a_shape_is_its_own():
    def of_size(variables, images):
        return images * variables["bias"][: images.shape[0]].astype(jnp.bfloat16).sum()

    ready = ahead.Passes(of_size, options=None, options_early=None).of(VARIABLES)
    for count in (4, 2):
        images = jnp.ones((count, 3))
        np.testing.assert_array_equal(ready(images), of_size(VARIABLES, images))
    assert len(ready.values) == 2


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_all_weights_of_a_network_are_rounded_ahead(norm):
    model = unet.Model(num_classes=3, widths=(8, 16), norm=norm, compute_dtype="bfloat16")
    images = jnp.ones((2, 32, 32, 3))
    variables = model.init(jax.random.key(0), images, train=False)
    parts = ahead.split(lambda v, x: model.apply(v, x, train=False), variables, images)
    made = [x for x in parts.early(jax.tree.leaves(variables)) if x.dtype == jnp.bfloat16]
    kernels = [x for x in jax.tree.leaves(variables) if x.ndim > 1]
    assert sum(x.size for x in made if x.ndim > 1) == sum(x.size for x in kernels)


def test_predictions_go_that_way_where_weights_are_rounded():
    wide, image = convolution((32, 40), "pad", 0), Many()[3]["image"]
    assert wide.forward.ahead is None and not isinstance(wide.members[0], ahead.Ready)
    narrow = Forward(
        Conv("bfloat16"), wide.forward.task, normalize=lambda x: x, mesh=one_device(),
        schema=SCHEMA, layout=wide.forward.layout,
    )  # fmt: skip
    network = Network(narrow, wide.variables)
    found = network(image).classes
    assert sizes_of_caches(narrow)["outputs"] == 0 and len(network.members[0].values) == 1
    narrow.ahead = None
    assert np.mean(Network(narrow, wide.variables)(image).classes == found) > 0.99
