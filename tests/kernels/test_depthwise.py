"""The stencil on the CPU is XLA's depthwise convolution, and needs no gathering."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from segjax import kernels
from segjax.costs import hlo
from segjax.kernels import conv
from segjax.kernels.window import NUMBERS

ODD = (11, 8, 5)


def noise(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def arguments(spatial, *, window, stride=1, dilation=1, channels=6, shift=0):
    """Return an input, a kernel and the keyword arguments of both convolutions."""
    reach = dilation * (window - 1)
    x = noise(2, *ODD[:spatial], channels)
    kernel = noise(*[window] * spatial, 1, channels, seed=1)
    options = {
        "window_strides": (stride,) * spatial,
        "padding": [(reach // 2 + shift, reach - reach // 2 - shift)] * spatial,
        "rhs_dilation": (dilation,) * spatial,
        "dimension_numbers": NUMBERS[spatial],
        "feature_group_count": channels,
    }
    return x, kernel, options


def ours(x, kernel, *, window_strides, rhs_dilation, padding, **_):
    return conv.convolve(x, kernel, strides=window_strides, padding=padding, dilation=rhs_dilation)


XLAS = lax.conv_general_dilated
CASES = [
    {"spatial": 2, "window": 3},
    {"spatial": 2, "window": 3, "stride": 2},
    {"spatial": 2, "window": 5, "dilation": 2},
    {"spatial": 2, "window": 2, "dilation": 3, "shift": 1},
    {"spatial": 1, "window": 3, "stride": 3},
    {"spatial": 3, "window": 3},
    {"spatial": 2, "window": 3, "dilation": 8},  # along the second axis only the centre sees any
    {"spatial": 2, "window": 5, "dilation": 5},
    {"spatial": 1, "window": 2, "dilation": 14},  # no tap sees any
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients_are_those_of_xla(case, float64):
    x, kernel, options = arguments(**case)
    results = []
    for function, form in ((ours, "tuned"), (ours, "reference"), (XLAS, "tuned")):
        with kernels.use(form):
            y, pull = jax.vjp(jax.jit(functools.partial(function, **options)), x, kernel)
            results.append((y, *pull(noise(*y.shape, seed=2))))
    for tuned, reference, expected in zip(*results, strict=True):
        np.testing.assert_allclose(tuned, expected, rtol=1e-10, atol=1e-10)
        np.testing.assert_array_equal(reference, expected)


@pytest.mark.parametrize("shift", [0, 1])
def test_groups_and_windows_that_are_no_stencil_are_left_to_xla(shift, float64):
    x, kernel, options = arguments(2, window=3, channels=6)
    kernel = jnp.concatenate([kernel, kernel], 2 + shift)  # pairs of channels, or two a channel
    options["feature_group_count"] = 3 if shift == 0 else 6
    np.testing.assert_array_equal(ours(x, kernel, **options), XLAS(x, kernel, **options))
    options["padding"] = [(0, 0)] * 2
    x, kernel, _ = arguments(2, window=3)
    options["feature_group_count"] = 6
    np.testing.assert_array_equal(ours(x, kernel, **options), XLAS(x, kernel, **options))


def test_bfloat16_is_rounded_once():
    x, kernel, options = arguments(2, window=7)
    x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    y = ours(x, kernel, **options)
    exact = ours(x.astype(jnp.float32), kernel.astype(jnp.float32), **options)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, exact.astype(jnp.bfloat16))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("devices", [(8, 1), (4, 2)])
def test_a_sharded_gradient_needs_no_gathering(devices, stride):
    mesh = jax.make_mesh(devices, ("data", "space"), axis_types=(AxisType.Auto,) * 2)
    everywhere = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec("data", "space"))
    _, kernel, options = arguments(2, window=3, stride=stride)

    def loss(x, kernel):
        return jnp.sin(ours(jnp.sin(x), kernel, **options)).sum()

    step = jax.jit(
        jax.grad(loss, (0, 1)), in_shardings=(split, everywhere), out_shardings=(split, everywhere)
    )
    x = jax.ShapeDtypeStruct((8, 16, 8, 6), kernel.dtype)
    found = hlo.collectives_of(step.lower(x, kernel).compile().as_text())
    halos = {"collective-permute"} if devices[1] > 1 else set()
    assert {collective.kind for collective in found} == {"all-reduce"} | halos
