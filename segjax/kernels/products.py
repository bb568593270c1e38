"""Products over channels, biases, and the similarity of attention."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from segjax.kernels import sums
from segjax.kernels.dispatch import Kernel, with_gradient
from segjax.runtime import xla

Saved = tuple[Array, Array]


@Kernel
def product(x: Float[Array, "*b c"], kernel: Float[Array, "c k"]) -> Float[Array, "*b k"]:
    """Return `x @ kernel`."""
    return lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))


def by_input(g: Float[Array, "*b k"], kernel: Float[Array, "c k"]) -> Float[Array, "*b c"]:
    """Return `g @ kernel.T`, the gradient of `product` by its input."""
    return lax.dot_general(g, kernel, (((g.ndim - 1,), (1,)), ((), ())))


@Kernel
def by_kernel(x: Float[Array, "*b c"], g: Float[Array, "*b k"]) -> Float[Array, "c k"]:
    """Return the sum of outer products over all places, the gradient of `product` by its kernel.

    Autodiff has `x` and `g` the other way round and transposes the result.
    """
    every = tuple(range(x.ndim - 1))
    return lax.dot_general(x, g, ((every, every), ((), ())))


@by_kernel.on_cpu
def _by_kernel_of_one_axis(x: Float[Array, "*b c"], g: Float[Array, "*b k"]) -> Float[Array, "c k"]:
    """Make one axis of all places: XLA lays a matrix of many axes out anew for oneDNN."""
    if not xla.through_onednn(x.dtype):
        return by_kernel.reference(x, g)
    x, g = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
    return lax.dot_general(x, g, (((0,), (0,)), ((), ())))


def _product_forward(x: Array, kernel: Array) -> tuple[Array, Saved]:
    return product.reference(x, kernel), (x, kernel)


def _product_backward(saved: Saved, g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    return by_input(g, kernel), by_kernel(x, g)


product.everywhere(with_gradient(_product_forward, _product_backward))


@Kernel
def add_bias(x: Float[Array, "*b c"], bias: Float[Array, " c"]) -> Float[Array, "*b c"]:
    """Return `x + bias`."""
    return x + lax.expand_dims(bias, range(x.ndim - 1))


def _add_bias_backward(_: None, g: Array) -> tuple[Array, Array]:
    """Sum the gradient by the bias in one pass, in float32 at least."""
    (total,) = sums.channel_sums(g)
    return g, total.astype(g.dtype)


add_bias.everywhere(
    with_gradient(lambda x, bias: (add_bias.reference(x, bias), None), _add_bias_backward)
)


@Kernel
def similarity(
    query: Float[Array, "b h n d"], key: Float[Array, "b h m d"]
) -> Float[Array, "b h n m"]:
    """Return the products of all queries and keys, in float32 at least."""
    wide = sums.widen(query.dtype)
    return jnp.einsum("bhnd,bhmd->bhnm", query, key, preferred_element_type=wide)


def _similarity_forward(query: Array, key: Array) -> tuple[Array, Saved]:
    return similarity.reference(query, key), (query, key)


def _similarity_backward(saved: Saved, g: Array) -> tuple[Array, Array]:
    """Round the gradient to the dtype of queries and keys.

    Left in float32, it would make float32 products of bfloat16 ones.
    """
    query, key = saved
    g = g.astype(query.dtype)
    by_query = jnp.einsum("bhnm,bhmd->bhnd", g, key)
    return by_query, jnp.einsum("bhnm,bhnd->bhmd", g, query)


similarity.everywhere(with_gradient(_similarity_forward, _similarity_backward))


@Kernel
def softmax(scores: Float[Array, "*b m"], *, dtype: str) -> Float[Array, "*b m"]:
    """Return the softmax over the last axis, rounded to `dtype`.

    The scores are in that dtype, or float32 where it is narrower.
    """
    return jax.nn.softmax(scores).astype(dtype)


def _softmax_forward(scores: Array, *, dtype: str) -> tuple[Array, Array]:
    shares = softmax.reference(scores, dtype=dtype)
    return shares, shares


def _softmax_backward(shares: Array, g: Array, *, dtype: str) -> tuple[Array]:
    """Take the slope from the rounded shares: autodiff keeps them in float32 beside those."""
    wide = sums.widen(dtype)
    shares, g = shares.astype(wide), g.astype(wide)
    return (shares * (g - (shares * g).sum(-1, keepdims=True)),)


softmax.everywhere(with_gradient(_softmax_forward, _softmax_backward))
