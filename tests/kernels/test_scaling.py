"""The written-out gradients of scaling and of batch normalisation are autodiff's."""

import functools

import pytest

from segjax.kernels import scaling
from tests.kernels.forms import assert_agree, close, noise

SHAPES = [(4, 6), (2, 5, 3), (3, 5, 7, 4), (2, 3, 4, 5, 3)]


@pytest.mark.parametrize("shape", SHAPES)
def test_rescaling_has_autodiffs_gradient(shape, float64):
    assert_agree(scaling.rescale, noise(*shape), noise(shape[-1], seed=1), noise(shape[-1], seed=2))


@pytest.mark.parametrize("shape", SHAPES)
def test_standardizing_has_autodiffs_gradient(shape, float64):
    x, scale, bias = 3 + 2 * noise(*shape), noise(shape[-1], seed=1), noise(shape[-1], seed=2)
    standardize = functools.partial(scaling.standardize, epsilon=1e-5)
    assert_agree(standardize, x, scale, bias)
    y, mean, var = standardize(x, scale, bias)
    axes = tuple(range(x.ndim - 1))
    close((mean, var), (x.mean(axes), x.var(axes)))
    close((y.mean(axes), y.std(axes)), (bias, abs(scale) * (var / (var + 1e-5)) ** 0.5))
