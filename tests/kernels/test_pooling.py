"""The larger of two, and its gradient in one pass."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.kernels import pooling
from tests.kernels.forms import assert_agree, noise, under


@pytest.mark.parametrize(("shape", "axis"), [((4, 2), 1), ((2, 2, 5, 3), 1), ((3, 5, 7, 2, 4), 3)])
def test_the_larger_of_each_pair_has_autodiffs_gradient(shape, axis, float64):
    x = noise(*shape)
    larger = functools.partial(pooling.larger, axis=axis)
    assert_agree(larger, x)
    np.testing.assert_array_equal(larger(x), x.max(axis))
    assert_agree(larger, jnp.round(x))  # ties


@pytest.mark.parametrize("form", ["tuned", "reference"])
def test_ties_share_the_gradient_equally(form):
    def gradient(x):
        return jax.grad(lambda x: pooling.larger(x, axis=0).sum())(x)

    shares = under(form, gradient, jnp.asarray([[1.0, 0, 0], [0, 0, 2]]), gradients=False)
    np.testing.assert_array_equal(shares, [[1, 0.5, 0], [0, 0.5, 1]])
