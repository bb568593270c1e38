"""GELU is JAX's, alone and behind a product that oneDNN does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from segjax.kernels import activations, products
from segjax.runtime import xla
from tests.kernels.forms import assert_agree, noise


def test_values_and_slopes_are_those_of_jax(float64):
    assert_agree(activations.gelu, 4 * noise(7, 5, 3))


@pytest.mark.parametrize("activate", [activations.gelu, nn.silu])
def test_bfloat16_behind_a_product_is_right(activate):
    """XLA lets oneDNN activate products of which the gradient needs what they were before."""
    x, kernel = noise(64, 256).astype("float32"), noise(256, 512, seed=1).astype("float32") / 16
    bias, last = noise(512, seed=2).astype("float32"), noise(512, 256, seed=3).astype("float32")

    def loss(x, kernel, bias, dtype):
        y = products.product(x.astype(dtype), kernel.astype(dtype))
        y = activate(products.add_bias(y, bias.astype(dtype)))
        y = products.product(y, last.astype(dtype))
        return (y.astype(jnp.float32) * x).sum()

    found = {
        dtype: jax.jit(
            jax.value_and_grad(loss, (0, 1, 2)),
            static_argnums=3,
            compiler_options=xla.xla_options(dtype),
        )(x, kernel, bias, dtype)[1]
        for dtype in ("bfloat16", "float32")
    }
    for ours, exact in zip(found["bfloat16"], found["float32"], strict=True):
        ours, exact = np.asarray(ours), np.asarray(exact)
        assert np.linalg.norm(ours - exact) < 0.02 * np.linalg.norm(exact)
