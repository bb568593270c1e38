"""The maximum of pairs, of which pooling is made."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from segjax.kernels.dispatch import Kernel, with_gradient


@Kernel
def maximum(first: Array, second: Array) -> Array:
    """Return the larger of two numbers, NaN if one is; equal ones share the gradient."""
    return jnp.maximum(first, second)


def _in_order(x: Array) -> Array:
    """Return bfloat16 numbers as int16 of the same order, NaN as the largest."""
    bits = lax.bitcast_convert_type(x, jnp.int16)
    magnitude = bits & 0x7FFF
    return jnp.where(magnitude > 0x7F80, 0x7FFF, jnp.where(bits < 0, ~magnitude, bits))


def _ordered_forward(first: Array, second: Array) -> tuple[Array, tuple[Array, Array]]:
    largest = jnp.maximum(_in_order(first), _in_order(second))
    bits = jnp.where(largest < 0, ~largest | -0x8000, largest)
    return lax.bitcast_convert_type(bits, first.dtype), (first, second)


def _ordered_backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    share = _share(*saved).astype(g.dtype)
    return share * g, (1 - share) * g


def _share(first: Array, second: Array) -> Array:
    """Return 1 where the first is larger, 0.5 where both are equal, else 0."""
    return jnp.where(first > second, 1, jnp.where(first == second, 0.5, 0))


_ordered = with_gradient(_ordered_forward, _ordered_backward)


@maximum.on_cpu
def _of_integers(first: Array, second: Array) -> Array:
    """Compare bfloat16 as integers: XLA's CPU backend widens each number to float32 and back."""
    if first.dtype != jnp.bfloat16:
        return maximum.reference(first, second)
    return _ordered(first, second)


@Kernel
def larger(pairs: Array, *, axis: int) -> Array:
    """Return the larger of each pair along `axis`, which has length 2; ties share the gradient."""
    return jnp.maximum(*_apart(pairs, axis))


def _apart(pairs: Array, axis: int) -> list[Array]:
    return [lax.index_in_dim(pairs, i, axis, keepdims=False) for i in (0, 1)]


def _larger_forward(pairs: Array, *, axis: int) -> tuple[Array, Array]:
    return maximum(*_apart(pairs, axis)), pairs


def _larger_backward(pairs: Array, g: Array, *, axis: int) -> tuple[Array]:
    """Take one pass, where autodiff pads two arrays of the size of `pairs` and adds them."""
    share = _share(pairs, jnp.flip(pairs, axis)).astype(g.dtype)
    return (share * jnp.expand_dims(g, axis),)


larger.everywhere(with_gradient(_larger_forward, _larger_backward))
