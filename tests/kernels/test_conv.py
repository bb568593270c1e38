"""The convolution and its gradients are XLA's, outside of loops and inside."""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from segjax.kernels import conv as convolve
from segjax.runtime import xla

ODD = (11, 8, 5)
CASES = [
    {"spatial": 1, "taps": 3},
    {"spatial": 2, "taps": 3},
    {"spatial": 2, "taps": 1},
    {"spatial": 2, "taps": 1, "stride": 2},
    {"spatial": 2, "taps": 1, "stride": 2, "pads": (1, 1)},
    {"spatial": 3, "taps": 1, "stride": 3},
    {"spatial": 2, "taps": 3, "stride": 2},
    {"spatial": 2, "taps": 7, "stride": 2, "dilation": 2},
    {"spatial": 2, "taps": 2, "stride": 2, "pads": (0, 1)},
    {"spatial": 2, "taps": 3, "pads": (2, 0)},
    {"spatial": 3, "taps": 3, "stride": 3},
]


def noise(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients_are_those_of_xla(case, float64):
    spatial, taps, dilation = case["spatial"], case["taps"], case.get("dilation", 1)
    side = dilation * (taps - 1) // 2
    x, kernel = noise(2, *ODD[:spatial], 3), noise(*[taps] * spatial, 3, 4, seed=1)
    arguments = [case.get("stride", 1)] * spatial, [case.get("pads", (side, side))] * spatial
    options = {"rhs_dilation": [dilation] * spatial}
    ours = lambda x, k: convolve.convolve(x, k, *arguments, **options)  # noqa: E731
    numbers = convolve.NUMBERS[spatial]
    xlas = lambda x, k: lax.conv_general_dilated(  # noqa: E731
        x, k, *arguments, dimension_numbers=numbers, **options
    )
    results = []
    for function in (ours, xlas):
        y, pull = jax.vjp(jax.jit(function), x, kernel)
        results.append((y, *pull(noise(*y.shape, seed=2))))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("case", [*CASES, {"spatial": 2, "taps": 3, "groups": 3}], ids=str)
@pytest.mark.parametrize(("images", "channels"), [(2, 3), (2, 18), (5, 18)])
def test_bfloat16_on_the_cpu_is_right(case, images, channels):
    """What `xla.xla_options` sends through oneDNN is the float32 result, rounded."""
    spatial, taps, dilation = case["spatial"], case["taps"], case.get("dilation", 1)
    side, groups = dilation * (taps - 1) // 2, case.get("groups", 1)
    kernel = noise(*[taps] * spatial, channels // groups, 6, seed=1)
    function = functools.partial(
        convolve.convolve,
        strides=[case.get("stride", 1)] * spatial,
        padding=[case.get("pads", (side, side))] * spatial,
        rhs_dilation=[dilation] * spatial,
        feature_group_count=groups,
        dimension_numbers=convolve.NUMBERS[spatial],
    )

    def both_ways(x, kernel):
        y, pull = jax.vjp(function, x, kernel)
        return y, *pull(noise(*y.shape, seed=2).astype("bfloat16").astype(y.dtype))

    rounded = [a.astype("bfloat16") for a in (noise(images, *ODD[:spatial], channels), kernel)]
    expected = jax.jit(both_ways)(*[a.astype("float32") for a in rounded])
    options = xla.xla_options("bfloat16")
    got = jax.jit(both_ways, compiler_options=options)(*rounded)
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(a.astype("float32"), b, rtol=0.02, atol=0.02 * np.abs(b).max())


def test_what_no_one_asks_for_is_not_computed():
    x, kernel = jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 4))
    same = functools.partial(
        convolve.convolve, strides=(1, 1), padding=[(1, 1)] * 2, rhs_dilation=(1, 1)
    )
    for argument in (0, 1):
        gradient = jax.grad(lambda x, k: jnp.sin(same(x, k)).sum(), argnums=argument)
        text = str(jax.make_jaxpr(gradient)(x, kernel))
        assert text.count("conv_general_dilated[") == 1 + 2, "forward, and one by platform"


def test_the_gradient_is_no_slower_in_a_loop():
    x, kernel = jnp.ones((4, 2, 48, 48, 32)), jnp.ones((3, 3, 32, 32))

    def gradient(kernel, x):
        def loss(kernel):
            y = convolve.convolve(x, kernel, (1, 1), [(1, 1)] * 2, rhs_dilation=(1, 1))
            return jnp.square(y).sum()

        return jax.grad(loss)(kernel)

    looped = jax.jit(lambda k, x: lax.scan(lambda c, x: (c + gradient(k, x), None), k, x)[0])
    flat = jax.jit(lambda k, x: sum(gradient(k, part) for part in x))
    seconds = {}
    for name, program in {"looped": looped, "flat": flat}.items():
        program(kernel, x).block_until_ready()
        times = []
        for _ in range(5):
            start = time.perf_counter()
            program(kernel, x).block_until_ready()
            times.append(time.perf_counter() - start)
        seconds[name] = min(times)
    assert seconds["looped"] < 4 * seconds["flat"], "it was thirty times as slow"
