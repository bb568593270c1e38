"""Attention is its equation, weighs nothing twice, and gathers keys and values alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from segjax.costs import hlo
from segjax.errors import ConfigError
from segjax.layers import attention

DOUBLE = {"compute_dtype": "float64", "param_dtype": "float64"}


def noise(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def test_heads_attend_by_the_equation(float64):
    query, key, value = noise(2, 3, 7, 4), noise(2, 3, 5, 4, seed=1), noise(2, 3, 5, 4, seed=2)
    out = attention.attend(query, key, value)
    for b in range(2):
        for h in range(3):
            scores = np.exp(np.asarray(query[b, h] @ key[b, h].T) / 2)
            expected = scores / scores.sum(-1, keepdims=True) @ value[b, h]
            np.testing.assert_allclose(out[b, h], expected, rtol=1e-12)


def test_it_is_jaxs_own():
    # Whose softmax is in float32 even of float64, and whose axes are [b n h d].
    query, key, value = (noise(2, 3, 9, 4, seed=i).astype(jnp.float32) for i in range(3))
    turned = [a.swapaxes(1, 2) for a in (query, key, value)]
    expected = jax.nn.dot_product_attention(*turned).swapaxes(1, 2)
    ours = attention.attend(query, key, value)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_large_scores_stay_finite_in_bfloat16():
    query = 100 * noise(1, 1, 4, 8).astype(jnp.bfloat16)
    out, pull = jax.vjp(lambda q: attention.attend(q, query, query), query)
    assert out.dtype == jnp.bfloat16
    assert np.isfinite(out.astype(jnp.float32)).all()
    assert np.isfinite(pull(out)[0].astype(jnp.float32)).all()


def test_the_order_of_memory_does_not_matter(float64):
    module = attention.Attention(2, **DOUBLE)
    x, memory = noise(2, 6, 8), noise(2, 5, 4, seed=1)
    variables = module.init(jax.random.key(0), x, memory)
    one, other = (module.apply(variables, x, m) for m in (memory, memory[:, ::-1]))
    np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)
    assert one.shape == x.shape


def test_channels_that_heads_cannot_share():
    x = jnp.zeros((1, 4, 8))
    with pytest.raises(ConfigError, match="8 channels.* 3 heads"):
        attention.Attention(3).init(jax.random.key(0), x, x)


def test_only_keys_and_values_are_gathered():
    """Rows are sharded: queries and features stay, the smaller memory goes to all devices."""
    mesh = jax.make_mesh((4, 2), ("data", "space"), axis_types=(AxisType.Auto,) * 2)
    everywhere = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec("data", "space"))
    module = attention.Attention(2)
    x, memory = (
        jax.ShapeDtypeStruct((4, 64, 8), "float32"),
        jax.ShapeDtypeStruct((4, 6, 8), "float32"),
    )
    variables = jax.eval_shape(module.init, jax.random.key(0), x, memory)

    def loss(variables, x, memory):
        return jnp.sin(module.apply(variables, x, memory)).sum()

    step = jax.jit(
        jax.grad(loss, (0, 1, 2)),
        in_shardings=(everywhere, split, split),
        out_shardings=(everywhere, split, split),
    )
    found = hlo.collectives_of(step.lower(variables, x, memory).compile().as_text())
    gathered = [c.arrays for c in found if c.kind == "all-gather"]
    assert gathered == 2 * [(("f32", (1, 2, 6, 4)),)]
    assert {c.kind for c in found} <= {"all-gather", "all-reduce", "reduce-scatter"}
