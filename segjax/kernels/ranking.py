"""The best of many numbers. XLA gathers `lax.top_k` of all examples on to every device; not these.

The k-th best is found bit by bit, each by a count over all numbers, and only k are ever sorted.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt

from segjax.kernels.dispatch import Kernel

Numbers = Float[Array, " n"] | Int[Array, " n"]
UNROLLED = 24
"""Up to so many numbers LLVM compares by straight code."""


def keys_of(x: Numbers) -> UInt[Array, " n"]:
    """Return unsigned integers in the same order; -0.0 is below 0.0, as `lax.top_k` has it."""
    width = 8 * x.dtype.itemsize
    signed, unsigned = jnp.dtype(f"int{width}"), jnp.dtype(f"uint{width}")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return lax.bitcast_convert_type(x, unsigned) ^ jnp.asarray(1 << (width - 1), unsigned)
    bits = lax.bitcast_convert_type(x, signed)
    negative = bits < 0
    bits = lax.bitcast_convert_type(bits, unsigned)
    return jnp.where(negative, ~bits, bits | jnp.asarray(1 << (width - 1), unsigned))


def best(x: Numbers, count: Int[Array, ""] | int) -> Bool[Array, " n"]:
    """Return which numbers are the `count` largest; of equal ones the first are.

    Args:
        x: Not NaN.
        count: At most as many as there are.
    """
    keys = keys_of(x)
    width = 8 * keys.dtype.itemsize

    def add_bit(i: Array, least: Array) -> Array:
        bit = jnp.asarray(1, keys.dtype) << (width - 1 - i).astype(keys.dtype)
        enough = (keys >= least | bit).sum(dtype=jnp.int32) >= count
        return jnp.where(enough, least | bit, least)

    least = lax.fori_loop(0, width, add_bit, jnp.zeros((), keys.dtype))  # the count-th largest
    above, equal = keys > least, keys == least
    left = count - above.sum(dtype=jnp.int32)
    return above | equal & (jnp.cumsum(equal, dtype=jnp.int32) <= left)


def top(x: Numbers, count: int) -> tuple[Array, Int[Array, " {count}"]]:
    """Return the `count` largest numbers, the largest first, and their places, as `lax.top_k`."""
    chosen = jnp.cumsum(best(x, count), dtype=jnp.int32)
    number = jnp.arange(1, count + 1, dtype=jnp.int32)
    places = jnp.searchsorted(chosen, number).astype(jnp.int32)
    found = x[places]
    _, places = lax.sort((~keys_of(found), places), num_keys=1, is_stable=True)
    return x[places], places


@Kernel
def place_of_largest(x: Float[Array, "... n"]) -> Int[Array, "..."]:
    """Return where along the last axis the largest number stands, int32; of equal ones the first.

    NaN counts as larger than all, as `jnp.argmax` has it.
    """
    return jnp.argmax(x, axis=-1).astype(jnp.int32)


@place_of_largest.on_cpu
def _largest_then_first(x: Float[Array, "... n"]) -> Int[Array, "..."]:
    """Look for the largest, then for its first place, each on many numbers at once.

    Number and place together LLVM follows one by one, unless it unrolls the loop.
    """
    if x.shape[-1] <= UNROLLED:
        return place_of_largest.reference(x)
    largest = jnp.max(x, axis=-1, keepdims=True)
    places = jnp.arange(x.shape[-1], dtype=jnp.int32)
    return jnp.min(jnp.where((x == largest) | jnp.isnan(x), places, x.shape[-1]), axis=-1)
