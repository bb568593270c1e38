"""The best of many numbers, as `lax.top_k` has them, equal ones and infinite ones too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from segjax.kernels import ranking


def numbers(kind: str) -> jax.Array:
    """Return 300 numbers, many of them equal."""
    made = np.random.default_rng(0).integers(-9, 9, 300)
    if kind == "int32":
        return jnp.asarray(made, jnp.int32)
    floats = made / 4.0
    floats[::7], floats[3], floats[5] = -np.inf, np.inf, -0.0
    return jnp.asarray(floats, kind)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int32"])
@pytest.mark.parametrize("count", [1, 37, 300])
def test_the_best_are_those_of_top_k(kind, count):
    x = numbers(kind)
    values, places = jax.jit(ranking.top, static_argnums=1)(x, count)
    expected, there = lax.top_k(x, count)
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(places, there)


def test_doubles_are_told_apart_by_their_last_bit(float64):
    x = 1 + np.arange(50) * np.finfo(float).eps
    np.testing.assert_array_equal(ranking.top(jnp.asarray(x), 9)[1], np.arange(49, 40, -1))


@pytest.mark.parametrize("count", [0, 1, 50, 300])
def test_exactly_so_many_are_chosen(count):
    """How many may be known only at run time, and be none."""
    chosen = jax.jit(ranking.best)(numbers("float32"), jnp.asarray(count))
    assert chosen.sum() == count


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
@pytest.mark.parametrize("count", [1, 24, 25, 150])
def test_the_largest_of_equal_ones_is_the_first(kind, count):
    """Of many numbers as of few, with zeros of either sign, infinities and NaN, as `jnp.argmax`."""
    made = np.random.default_rng(0).integers(-3, 4, (50, 7, count)) / 4.0
    made[0], made[1], made[2] = -np.inf, np.inf, np.nan
    made[3, :, count // 2], made[4, :, :1], made[5, :, -1:] = np.nan, -0.0, np.inf
    x = jnp.asarray(made, kind)
    found = jax.jit(ranking.place_of_largest)(x)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, jnp.argmax(x, axis=-1))
