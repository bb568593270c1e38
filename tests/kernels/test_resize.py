"""Enlarging and filtering by sums is the product with their matrices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.kernels import resize
from segjax.layers import resample
from tests.kernels.forms import assert_agree, close, noise


def weights_of(n, factor, method, *, align_corners=False):
    return resample.interpolation(n, n * factor, method=method, align_corners=align_corners)


@pytest.mark.parametrize("factor", [2, 3, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize(
    "size", [(5,), (4, 7), pytest.param((2, 3, 5), marks=pytest.mark.slow), (1, 2)]
)
def test_stretching_is_the_product_with_its_matrix(factor, method, size, float64):
    x = noise(2, *size, 3)
    for axis, n in enumerate(size, 1):
        weights = weights_of(n, factor, method)
        assert_agree(functools.partial(resize.stretch, weights=weights, axis=axis), x)
        expected = np.moveaxis(np.tensordot(weights, x, (1, axis)), 0, axis)
        close(resize.stretch(x, weights=weights, axis=axis), expected)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_aligned_corners_stretch_too(method, float64):
    weights = weights_of(5, 3, method, align_corners=True)
    assert_agree(functools.partial(resize.stretch, weights=weights, axis=2), noise(2, 4, 5, 3))


def test_a_bfloat16_gradient_of_stretching_is_rounded_once():
    x, weights = noise(1, 8, 8, 3).astype("bfloat16"), weights_of(8, 4, "bilinear")
    y, pull = jax.vjp(lambda x: resize.stretch(x, weights=weights, axis=1), x)
    g = noise(*y.shape, seed=1).astype("bfloat16")
    exact = jnp.einsum("yh,bywc->bhwc", weights.astype("float32"), g.astype("float32"))
    np.testing.assert_allclose(pull(g)[0].astype("float32"), exact, rtol=2**-8 * 1.01, atol=1e-6)


@pytest.mark.parametrize("by", [-3, -1, 0, 2])
def test_shifting_moves_and_fills(by, float64):
    x = np.asarray(noise(2, 5, 3))
    expected = np.full_like(x, 7.0)
    rows = np.arange(5)
    inside = rows[(rows - by >= 0) & (rows - by < 5)]
    expected[:, inside] = x[:, inside - by]
    np.testing.assert_array_equal(resize.shift(jnp.asarray(x), by, axis=1, fill=7.0), expected)


@pytest.mark.parametrize(("shape", "axis"), [((9,), 0), ((9, 5), 0), ((4, 11, 3), 1)])
@pytest.mark.parametrize("factor", [0.3, 0.5, 1.0, 1.7])
def test_filtering_by_taps_is_the_product_with_the_filters(shape, axis, factor, float64):
    length = shape[axis]
    places = (jnp.arange(round(length * factor), dtype=float) + 0.5) / factor
    function = functools.partial(resize.filtered, axis=axis, smallest=min(factor, 1.0))
    assert_agree(lambda image: function(image, places, jnp.maximum(1 / factor, 1.0)), noise(*shape))


def test_places_between_pixels_are_differentiable(float64):
    places = jnp.asarray([1.3, 4.9, 2.2])
    function = functools.partial(resize.filtered, axis=0, smallest=1.0)
    assert_agree(lambda image, at: function(image, at, jnp.ones(())), noise(7, 2), places)
