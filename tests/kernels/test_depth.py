"""Volumes convolved as images are volumes convolved by XLA, values and gradients."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from segjax import kernels
from segjax.costs import hlo
from segjax.kernels import conv
from segjax.runtime import sharding, xla
from tests.kernels import forms

CASES = {
    "tiles of four": (8, {}),
    "tiles of four, the last cut off": (11, {}),
    "tiles of two": (6, {}),
    "one image": (1, {}),
    "two images": (2, {}),
    "no padding": (9, {"padding": (0, 0)}),
    "uneven padding": (9, {"padding": (0, 2)}),
    "more padding than reach": (5, {"padding": (3, 3)}),
    "one tap": (5, {"taps": (1, 3, 3)}),
    "one tap, strided": (5, {"taps": (1, 3, 3), "strides": (2, 1, 1)}),
    "one tap, padded": (5, {"taps": (1, 3, 3), "padding": (1, 1)}),
    "a product, strided": (5, {"taps": (1, 1, 1), "strides": (2, 2, 2)}),
    "taps along depth alone": (7, {"taps": (3, 1, 1)}),
    "two taps": (7, {"taps": (2, 3, 3), "padding": (0, 1)}),
    "five taps": (7, {"taps": (5, 3, 3)}),
    "depth strided": (7, {"strides": (2, 1, 1)}),
    "all strided": (7, {"strides": (2, 2, 2)}),
    "images strided": (7, {"strides": (1, 2, 3)}),
    "windows of blocks": (7, {"taps": (4, 4, 4), "strides": (2, 2, 2), "padding": (1, 2)}),
    "depth dilated": (9, {"dilation": (2, 1, 1)}),
    "images dilated": (7, {"dilation": (1, 2, 1)}),
    "all dilated": (9, {"dilation": (2, 2, 2)}),
}


def convolution(taps=(3, 3, 3), strides=(1, 1, 1), dilation=(1, 1, 1), padding=None):
    """Return a convolution of volumes, with `padding` along depth and as much as needed beside."""
    sides = [(d * (n - 1) // 2,) * 2 for d, n in zip(dilation, taps, strict=True)]
    return functools.partial(
        conv.convolve, strides=strides, dilation=dilation,
        padding=[padding or sides[0], *sides[1:]],
    )  # fmt: skip


QUICK = ("tiles of four, the last cut off", "tiles of two", "one tap, strided", "all strided")


@pytest.mark.parametrize("channels", [(2, 3), pytest.param((5, 2), marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[] if case in QUICK else pytest.mark.slow) for case in CASES]
)
def test_values_and_gradients_are_those_of_the_reference(case, channels, float64):
    depth, options = CASES[case]
    kernel = forms.noise(*options.get("taps", (3, 3, 3)), *channels, seed=1)
    forms.assert_agree(convolution(**options), forms.noise(2, depth, 6, 5, channels[0]), kernel)


@pytest.mark.parametrize("channels", [(16, 8), pytest.param((8, 16), marks=pytest.mark.slow)])
def test_float32_is_exact_to_five_digits(channels):
    """Tiles of four have factors up to 8, which cost digits."""
    x = forms.noise(2, 12, 9, 7, channels[0]).astype("float32")
    kernel = forms.noise(3, 3, 3, *channels, seed=1).astype("float32")
    tuned, reference = (
        forms.under(form, convolution(), x, kernel) for form in kernels.dispatch.FORMS
    )
    for a, b in zip(*map(jax.tree.leaves, (tuned, reference)), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize("case", ["tiles of two", "uneven padding", "no padding", "five taps"])
@pytest.mark.parametrize("channels", [(5, 7), pytest.param((7, 5), marks=pytest.mark.slow)])
def test_what_onednn_gets_is_the_same_in_float64(case, channels, float64, monkeypatch):
    monkeypatch.setattr(xla, "through_onednn", lambda dtype: True)
    depth, options = CASES[case]
    kernel = forms.noise(*options.get("taps", (3, 3, 3)), *channels, seed=1)
    forms.assert_agree(convolution(**options), forms.noise(2, depth, 6, 5, channels[0]), kernel)


@pytest.mark.parametrize("channels", [(16, 8), pytest.param((8, 16), marks=pytest.mark.slow)])
def test_bfloat16_is_the_float32_result_rounded(channels):
    x, kernel = (
        forms.noise(*shape, seed=shape[0]).astype("bfloat16")
        for shape in ((2, 12, 9, 7, channels[0]), (3, 3, 3, *channels))
    )
    ct = forms.noise(2, 12, 9, 7, channels[1], seed=5).astype("bfloat16")

    def all_of(x, kernel, ct):
        y, pull = jax.vjp(convolution(), x, kernel)
        return y, *pull(ct.astype(y.dtype))

    options = xla.xla_options("bfloat16")
    got = jax.jit(all_of, compiler_options=options)(x, kernel, ct)
    wide = jax.jit(all_of)(*(a.astype("float32") for a in (x, kernel, ct)))
    for a, b in zip(got, wide, strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(a.astype("float32"), b, rtol=0, atol=0.01 * np.abs(b).max())


def convolutions_of(function, *arguments):
    """Return the ranks of all convolutions that a CPU computes, by name of the form in use."""
    ranks = {}
    for form in kernels.dispatch.FORMS:
        with kernels.use(form):
            text = jax.jit(function).lower(*arguments).compile().as_text()
        ranks[form] = [
            len(a.split(",")) for a in re.findall(r"\w+\[([\d,]+)\]\S* convolution\(", text)
        ]
    return ranks


@pytest.mark.parametrize(
    ("options", "images"), [({}, 6), ({"taps": (1, 3, 3)}, 1), ({"strides": (2, 2, 2)}, 3)]
)
def test_a_cpu_convolves_images_alone(options, images):
    x, kernel = jnp.ones((1, 8, 6, 5, 2)), jnp.ones((*options.get("taps", (3, 3, 3)), 2, 3))
    ranks = convolutions_of(convolution(**options), x, kernel)
    assert ranks == {"tuned": [4] * images, "reference": [5]}


@pytest.mark.parametrize(
    ("batch", "space"), [pytest.param(1, 4, marks=pytest.mark.slow), (2, 2), (4, 1)]
)
def test_depth_over_devices_exchanges_halos_alone(batch, space, float64):
    """Each device has images of its own, so volumes with split depth stay volumes."""
    mesh = Mesh(np.asarray(jax.devices()[: batch * space]).reshape(batch, 1, space), sharding.AXES)
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(sharding.EXAMPLES, "space"))
    x, kernel = forms.noise(4, 8, 6, 5, 2), forms.noise(3, 3, 3, 2, 3, seed=1)

    def gradients(x, kernel):
        return jax.grad(lambda *both: jnp.sin(convolution()(*both)).sum(), (0, 1))(x, kernel)

    alone = jax.jit(gradients)(x, kernel)
    with sharding.over(mesh):
        placed = (split, sharding.replicated(mesh))
        program = jax.jit(gradients, in_shardings=placed, out_shardings=placed).lower(x, kernel)
    compiled = program.compile()
    forms.close(compiled(*jax.device_put((x, kernel), placed)), alone)
    found = {collective.kind for collective in hlo.collectives_of(compiled.as_text())}
    assert found == {"all-reduce"} | ({"collective-permute"} if space > 1 else set())
