"""The convolution and its gradients are XLA's, outside of loops and inside."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from segjax import kernels
from segjax.kernels import conv
from segjax.kernels.window import NUMBERS
from segjax.runtime import xla
from tests.kernels import forms

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
    strides, padding = [case.get("stride", 1)] * spatial, [case.get("pads", (side, side))] * spatial
    rates = [dilation] * spatial
    ours = functools.partial(conv.convolve, strides=strides, padding=padding, dilation=rates)
    xlas = functools.partial(
        lax.conv_general_dilated, window_strides=strides, padding=padding, rhs_dilation=rates,
        dimension_numbers=NUMBERS[spatial],
    )  # fmt: skip
    results = []
    for function, form in ((ours, "tuned"), (ours, "reference"), (xlas, "tuned")):
        with kernels.use(form):
            y, pull = jax.vjp(jax.jit(function), x, kernel)
            results.append((y, *pull(noise(*y.shape, seed=2))))
    for tuned, reference, expected in zip(*results, strict=True):
        np.testing.assert_allclose(tuned, expected, rtol=1e-10, atol=1e-10)
        np.testing.assert_array_equal(reference, expected)


def test_a_norm_within_the_kernel_is_one_behind_it(float64, monkeypatch):
    """What oneDNN is given, in float64: values and gradients by all that goes in."""
    monkeypatch.setattr(xla, "through_onednn", lambda dtype: True)
    window = {"strides": (2, 1), "padding": [(1, 1), (0, 2)], "dilation": (1, 1)}
    arrays = noise(2, 7, 5, 3), noise(3, 3, 3, 4, seed=1), noise(4, seed=2), noise(4, seed=3)
    forms.assert_agree(functools.partial(conv.normalized, **window), *arrays)


@pytest.mark.parametrize("case", [*CASES, {"spatial": 2, "taps": 3, "groups": 3}], ids=str)
@pytest.mark.parametrize(
    ("images", "channels"), [(2, 3), pytest.param(2, 18, marks=pytest.mark.slow), (5, 18)]
)
def test_bfloat16_on_the_cpu_is_right(case, images, channels):
    """What `xla.xla_options` sends through oneDNN is the float32 result, rounded."""
    spatial, taps, dilation = case["spatial"], case["taps"], case.get("dilation", 1)
    side, groups = dilation * (taps - 1) // 2, case.get("groups", 1)
    kernel = noise(*[taps] * spatial, channels // groups, 6, seed=1)
    function = functools.partial(
        conv.convolve,
        strides=[case.get("stride", 1)] * spatial,
        padding=[case.get("pads", (side, side))] * spatial,
        dilation=[dilation] * spatial,
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
    same = functools.partial(conv.convolve, strides=(1, 1), padding=[(1, 1)] * 2, dilation=(1, 1))
    for argument in (0, 1):
        gradient = jax.grad(lambda x, k: jnp.sin(same(x, k)).sum(), argnums=argument)
        text = str(jax.make_jaxpr(gradient)(x, kernel))
        assert text.count("conv_general_dilated[") == 1 + 2, "forward, and one by platform"


def test_in_a_loop_every_convolution_is_one_that_the_cpu_is_fast_at():
    """XLA has none but a naive loop for other orders of axes, and sets them right outside alone."""
    x, kernel = jnp.ones((4, 2, 16, 16, 8)), jnp.ones((3, 3, 8, 8))

    def gradient(kernel, x):
        def loss(kernel):
            y = conv.convolve(x, kernel, strides=(1, 1), padding=[(1, 1)] * 2, dilation=(1, 1))
            return jnp.square(y).sum()

        return jax.grad(loss)(kernel)

    def loop(kernel, x):
        return lax.scan(lambda total, part: (total + gradient(kernel, part), None), kernel, x)[0]

    orders = {}
    for form in ("tuned", "reference"):
        with kernels.use(form):
            text = jax.jit(loop).lower(kernel, x).compile().as_text()
        orders[form] = set(re.findall(r" convolution\(.*dim_labels=(\S+?),? ", text))
    assert orders["tuned"] == {"b01f_01io->b01f"} < orders["reference"]
