"""Sums in one pass, and by a product, are sums."""

import jax.numpy as jnp
import pytest

from segjax.kernels import sums
from tests.kernels.forms import assert_agree, close, noise

SHAPES = [(2, 5, 3), (2, 5, 4, 3), (3, 7, 16, 5), (2, 3, 5, 24, 3), (4, 1), (1, 1, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 2, 11])
def test_channel_sums_are_sums(shape, count, float64):
    """They stand in written-out gradients only, and have no gradient themselves."""
    arrays = [noise(*shape, seed=i) for i in range(count)]
    assert_agree(sums.channel_sums, *arrays, gradients=False)
    for got, array in zip(sums.channel_sums(*arrays), arrays, strict=True):
        close(got, array.sum(tuple(range(array.ndim - 1))))


@pytest.mark.parametrize("shape", [(), (5,), (3, 7), (3, 3, 4, 5)])
def test_the_sum_of_squares_is_that_of_all_numbers(shape, float64):
    x = noise(*shape)
    assert_agree(sums.square_sum, x)
    close(sums.square_sum(x), (x**2).sum())


def test_only_float64_is_wider_than_float32(float64):
    assert [jnp.dtype(sums.widen(name)).name for name in ("bfloat16", "float32", "float64")] == [
        "float32", "float32", "float64",
    ]  # fmt: skip
