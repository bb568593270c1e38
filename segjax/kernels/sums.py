"""Sums over everything but channels, and over everything."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from segjax.kernels import fusion
from segjax.kernels.dispatch import Kernel
from segjax.structs import Features

Channels = Float[Array, " c"]
AT_ONCE = 9
"""Arrays in one pass at most."""


def widen(dtype: jax.typing.DTypeLike) -> jax.typing.DTypeLike:
    """Return the dtype to compute statistics in: float64 for float64, float32 for all others."""
    return jnp.float64 if jnp.dtype(dtype) == jnp.float64 else jnp.float32


@Kernel
def channel_sums(*xs: Features) -> tuple[Channels, ...]:
    """Return the sums of arrays of one shape over all axes but the last, in float32 at least."""
    return tuple(x.astype(widen(x.dtype)).sum(range(x.ndim - 1)) for x in xs)


@channel_sums.on_cpu
def _in_one_pass(*xs: Features) -> tuple[Channels, ...]:
    """Sum all arrays along the rows in one pass, in which they are computed and never stored.

    Eight neighbours come first: LLVM unrolls a loop that short, and then works on many channels at
    once, as long as registers hold their sums. Tokens and signals may be sharded along, and come in
    any number: they are multiplied.
    """
    if len(xs) > AT_ONCE:
        return _in_one_pass(*xs[:AT_ONCE]) + _in_one_pass(*xs[AT_ONCE:])
    *rows, along = range(xs[0].ndim - 1)
    if len(rows) < 2:
        return tuple(map(_times_ones, xs))
    xs = tuple(x.astype(widen(x.dtype)) for x in xs)
    shape, near = xs[0].shape, math.gcd(xs[0].shape[along], 8)

    def add(left: tuple[Array, ...], right: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(map(jnp.add, left, right))

    def add_along(axis: int, *xs: Array) -> tuple[Array, ...]:
        zeros = tuple(jnp.zeros((), x.dtype) for x in xs)
        return lax.reduce(xs, zeros, add, (axis,))

    # [b *rows along c] to [b *rows along/near near c]
    eights = (x.reshape(*shape[:along], -1, near, shape[-1]) for x in xs)
    # XLA would make one sum of both again.
    sums = add_along(along, *fusion.barrier(add_along(along + 1, *eights)))
    return tuple(x.sum(rows) for x in sums)


def _times_ones(x: Features) -> Channels:
    every, ones = tuple(range(x.ndim - 1)), jnp.ones(x.shape[:-1], x.dtype)
    axes = (every, every), ((), ())
    return lax.dot_general(ones, x, axes, preferred_element_type=widen(x.dtype))


@Kernel
def square_sum(x: Array) -> Array:
    """Return the sum of the squares of all numbers in `x`."""
    return jnp.square(x).sum()


@square_sum.on_cpu
def _times_itself(x: Array) -> Array:
    """Multiply `x` by itself: XLA's CPU backend is faster at products than at sums."""
    every = tuple(range(x.ndim))
    return lax.dot_general(x, x, ((every, every), ((), ())))
