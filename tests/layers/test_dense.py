"""Dense is Flax's, with sums and products that a CPU is good at."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.layers import dense


def noise(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize("shape", [(3, 5), (2, 7, 5), (2, 3, 16, 5), (2, 2, 3, 6, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_flax(shape, bias, float64):
    ours = dense.Dense(4, bias=bias, compute_dtype="float64", param_dtype="float64")
    flax = nn.Dense(
        4, use_bias=bias, kernel_init=nn.initializers.he_normal(), param_dtype="float64"
    )
    x, results = noise(*shape), []
    for layer in (ours, flax):
        variables = layer.init(jax.random.key(0), x)
        variables = jax.tree.map(lambda leaf: leaf + 0.1, variables)
        y, pull = jax.vjp(jax.jit(layer.apply), variables, x)
        results.append((y, pull(noise(*y.shape, seed=1))))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10), *results)
