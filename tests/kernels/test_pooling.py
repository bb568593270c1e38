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


def test_bfloat16_is_compared_by_every_bit():
    """All numbers but subnormal ones, NaN of either sign, both zeros and infinities."""
    bits = np.arange(65536, dtype=np.uint16)
    bits = bits[(bits & 0x7F80 != 0) | (bits & 0x7F == 0)]  # XLA takes subnormal numbers for 0
    some = np.concatenate([bits[::977], np.uint16([0, 0x8000, 0x7F80, 0xFF80, 0x7FC0, 0xFFC0])])
    pairs = np.broadcast_arrays(bits[:, None], some)
    first, second = (jax.lax.bitcast_convert_type(each, jnp.bfloat16) for each in pairs)
    found = under("tuned", pooling.maximum, first, second, gradients=False)
    expected = under("reference", pooling.maximum, first, second, gradients=False)
    np.testing.assert_array_equal(found.astype(np.float32), expected.astype(np.float32))


def test_bfloat16_has_the_gradient_of_its_numbers():
    first, second = (jnp.round(2 * noise(50, seed=seed)).astype(jnp.bfloat16) for seed in range(2))

    def gradients(first, second):
        def total(first, second):
            return pooling.maximum(first, second).astype(jnp.float32).sum()

        return jax.grad(total, (0, 1))(first, second)

    tuned, reference = (
        under(form, gradients, first, second, gradients=False) for form in ("tuned", "reference")
    )
    for ours, theirs in zip(tuned, reference, strict=True):
        np.testing.assert_array_equal(ours.astype(np.float32), theirs.astype(np.float32))
