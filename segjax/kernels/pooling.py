"""The maximum of pairs, of which pooling is made."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from segjax.kernels.dispatch import Kernel, with_gradient


@Kernel
def larger(pairs: Array, *, axis: int) -> Array:
    """Return the larger of each pair along `axis`, which has length 2; ties share the gradient."""
    first, second = (lax.index_in_dim(pairs, i, axis, keepdims=False) for i in (0, 1))
    return jnp.maximum(first, second)


def _larger_forward(pairs: Array, *, axis: int) -> tuple[Array, Array]:
    return larger.reference(pairs, axis=axis), pairs


def _larger_backward(pairs: Array, g: Array, *, axis: int) -> tuple[Array]:
    """Take one pass, where autodiff pads two arrays of the size of `pairs` and adds them."""
    other = jnp.flip(pairs, axis)
    share = jnp.where(pairs > other, 1, jnp.where(pairs == other, 0.5, 0)).astype(g.dtype)
    return (share * jnp.expand_dims(g, axis),)


larger.everywhere(with_gradient(_larger_forward, _larger_backward))
