"""Dense is Flax's, with sums and products that a CPU is good at."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.layers import dense
from segjax.runtime import xla


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


def test_a_bfloat16_bias_sums_its_gradient_in_float32():
    """100 times 1/3 is far from what bfloat16 additions make of it."""
    g = jnp.full((4, 32, 32, 3), 1 / 3, "bfloat16")
    _, pull = jax.vjp(dense.add_bias, g, jnp.zeros(3, "bfloat16"))
    np.testing.assert_allclose(
        pull(g)[1].astype("float32"), 4096 * float(g[0, 0, 0, 0]), rtol=2**-8
    )


def test_onednn_takes_features_as_they_lie():
    if not xla.through_onednn("bfloat16"):
        pytest.skip("this jaxlib or processor has no oneDNN for bfloat16")
    x, g = (jax.ShapeDtypeStruct((4, 32, 32, n), "bfloat16") for n in (64, 256))
    options = xla.xla_options("bfloat16")
    text = jax.jit(dense.outer, compiler_options=options).lower(x, g).compile().as_text()
    assert "onednn$matmul" in text and " copy(" not in text and " transpose(" not in text
