"""The normalisation layers against Flax."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.layers import norm


def noise(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def close(a, b, tolerance=1e-10):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=tolerance, atol=tolerance)


def test_batch_norm_is_that_of_flax(float64):
    x = 3 + 2 * noise(4, 6, 5, 7)
    params = {"scale": noise(7, seed=1), "bias": noise(7, seed=2)}
    stats = {"mean": noise(7, seed=3), "var": noise(7, seed=4) ** 2}
    slope = noise(*x.shape, seed=5)
    reference = nn.BatchNorm(
        momentum=0.9, epsilon=1e-5, param_dtype="float64", force_float32_reductions=False
    )

    def ours(params, x, train):
        return norm.BatchNorm(train=train, param_dtype="float64").apply(
            {"params": params, "batch_stats": stats}, x, mutable=["batch_stats"]
        )

    def theirs(params, x, train):
        return reference.apply(
            {"params": params, "batch_stats": stats},
            x,
            use_running_average=not train,
            mutable=["batch_stats"],
        )

    for train in (True, False):
        results = []
        for layer in (ours, theirs):
            output, pull, updated = jax.vjp(
                functools.partial(layer, train=train), params, x, has_aux=True
            )
            results.append((output, pull(slope), updated))
        jax.tree.map(close, *results)


def test_statistics_are_float32_under_bfloat16():
    # 65,536 ones summed in bfloat16 stop at 256.
    layer = norm.BatchNorm(train=True, param_dtype="bfloat16")
    x = jnp.ones((4, 128, 128, 2), jnp.bfloat16)
    output, variables = layer.init_with_output(jax.random.key(0), x)
    assert output.dtype == jnp.bfloat16
    _, updated = layer.apply(variables, x, mutable=["batch_stats"])
    assert updated["batch_stats"]["mean"].dtype == jnp.float32
    close(updated["batch_stats"]["mean"], [0.1, 0.1], 1e-6)
    close(updated["batch_stats"]["var"], [0.9, 0.9], 1e-6)


@pytest.mark.parametrize("kind", ["batch", "group", "layer"])
def test_the_activation_comes_before_rounding(kind):
    x = noise(2, 8, 8, 6).astype("bfloat16")

    def run(x, **options):
        layer = norm.make_norm(kind, train=True, **options)
        return layer.init_with_output(jax.random.key(0), x)[0]

    fused = run(x, activation=nn.silu)
    assert fused.dtype == jnp.bfloat16
    exact = nn.silu(run(x.astype("float32")))
    np.testing.assert_allclose(fused.astype("float32"), exact, rtol=2**-8 * 1.01, atol=1e-6)


@pytest.mark.parametrize("kind", ["group", "layer"])
def test_group_and_layer_norm_are_those_of_flax(kind, float64):
    x, scale, bias = noise(2, 5, 6, 12), noise(12, seed=1), noise(12, seed=2)
    params = {"params": {"scale": scale, "bias": bias}}
    options = {"epsilon": 1e-5, "param_dtype": "float64", "force_float32_reductions": False}
    reference = nn.GroupNorm(num_groups=4, **options)
    if kind == "layer":
        reference = nn.LayerNorm(**options)
    layer = norm.make_norm(kind, train=True, param_dtype="float64")
    results = []
    for module in (layer, reference):
        y, pull = jax.vjp(module.apply, params, x)
        results.append((y, pull(noise(*y.shape, seed=3))))
    jax.tree.map(close, *results)
