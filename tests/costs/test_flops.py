"""FLOPs are those of the definition, counted by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from segjax.costs import flops
from segjax.models import unet


def total(function, *arguments):
    return flops.total(jax.make_jaxpr(function)(*arguments))


def convolve(x, kernel, **options):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, padding="SAME", dimension_numbers=numbers, **{"window_strides": (1, 1)} | options
    )


def test_a_convolution_and_its_gradients_cost_the_same_each():
    x, kernel = jnp.ones((2, 8, 6, 3)), jnp.ones((3, 3, 3, 5))
    once = 2 * (2 * 8 * 6 * 5) * (3 * 3 * 3)
    assert total(convolve, x, kernel) == once
    both = jax.grad(lambda x, k: jnp.sin(convolve(x, k)).sum(), argnums=(0, 1))
    assert total(both, x, kernel) == 3 * once


def test_strides_groups_and_dilation():
    x = jnp.ones((1, 8, 8, 4))
    strided = total(lambda x, k: convolve(x, k, window_strides=(2, 2)), x, jnp.ones((3, 3, 4, 5)))
    assert strided == 2 * (4 * 4 * 5) * (9 * 4)
    depthwise = jnp.ones((3, 3, 1, 4))
    call = lambda x, k: convolve(x, k, feature_group_count=4, rhs_dilation=(2, 2))  # noqa: E731
    assert total(call, x, depthwise) == 2 * (8 * 8 * 4) * 9
    both = jax.grad(lambda x, k: jnp.sin(call(x, k)).sum(), argnums=(0, 1))
    assert total(both, x, depthwise) == 3 * 2 * (8 * 8 * 4) * 9


def test_a_loop_counts_as_often_as_it_runs():
    x, w = jnp.ones((4, 8)), jnp.ones((8, 8))
    looped = total(lambda x: lax.scan(lambda x, _: (x @ w, None), x, None, length=5)[0], x)
    assert looped == 5 * 2 * 4 * 8 * 8


def test_only_one_platform_s_form_counts():
    x = jnp.ones(8)
    forms = {"cpu": lambda x: x @ x, "default": lambda x: jnp.square(x).sum()}
    assert total(lambda x: lax.platform_dependent(x, **forms), x) == 2 * 8


@pytest.mark.slow
def test_modules_have_their_own():
    model = unet.Model(num_classes=2, widths=(4, 8), convs_per_level=1)
    image = jnp.ones((1, 32, 32, 3))
    variables = model.init(jax.random.key(0), image, train=False)
    forward = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))
    counts = flops.count(forward(variables, image))
    assert counts["Model/down0/conv0/conv"] == 2 * 32 * 32 * 4 * 9 * 3
    assert counts["Model/head"] == 2 * 32 * 32 * 2 * 4
    assert len(counts) == 5


@pytest.mark.parametrize("remat", [pytest.param("none", marks=pytest.mark.slow), "full"])
def test_remat_costs_a_second_forward_pass(remat):
    model = unet.Model(num_classes=2, widths=(4, 8), convs_per_level=1, norm="none", remat=remat)
    image = jnp.ones((1, 32, 32, 3))
    variables = model.init(jax.random.key(0), image, train=False)

    def loss(variables):
        return jnp.sin(model.apply(variables, image, train=True).logits).sum()

    forward, backward = total(loss, variables), total(jax.grad(loss), variables)
    stem = 2 * 32 * 32 * 4 * 9 * 3  # the image needs no gradient
    expected = 3 * forward - stem
    assert (backward == expected) == (remat == "none")
    assert backward <= expected + forward


def test_traffic_is_what_products_read_and_write():
    x, w = jnp.ones((4, 8)), jnp.ones((8, 16), jnp.bfloat16)
    program = jax.make_jaxpr(lambda x, w: jnp.tanh(x.astype(w.dtype) @ w))
    moved = flops.traffic(program(x, w))
    assert moved == 2 * (4 * 8 + 8 * 16 + 4 * 16)
