"""GELU in float32 at least, with a slope that is computed anew from what it was given.

JAX's goes through `erfc`, which XLA makes of two branches and an exponential, and autodiff keeps
what the forward pass found on the way; oneDNN knows the form here, and computes it along with the
product before it.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from segjax.kernels import fusion
from segjax.kernels.dispatch import Kernel, with_gradient
from segjax.kernels.sums import widen


@Kernel
def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return `x` times the share of a standard normal below it (arXiv:1606.08415, section 2)."""
    return jax.nn.gelu(x, approximate=False)


def _gelu(x: Array) -> Array:
    wide = x.astype(widen(x.dtype))
    return (0.5 * wide * (1 + lax.erf(wide * math.sqrt(0.5)))).astype(x.dtype)


def _gelu_forward(x: Array) -> tuple[Array, Array]:
    """Keep `x` apart, which the slope needs too: XLA hands both what oneDNN made of it already.

    It does so to narrow types alone; what is wide comes from a norm, whose pass this belongs to.
    """
    x = x if x.dtype == widen(x.dtype) else fusion.barrier(x)
    return _gelu(x), x


def _gelu_backward(x: Array, g: Array) -> tuple[Array]:
    wide = x.astype(widen(x.dtype))
    share = 0.5 * (1 + lax.erf(wide * math.sqrt(0.5)))
    density = jnp.exp(-0.5 * jnp.square(wide)) / math.sqrt(2 * math.pi)
    return ((g.astype(wide.dtype) * (share + wide * density)).astype(x.dtype),)


gelu.everywhere(with_gradient(_gelu_forward, _gelu_backward, primal=_gelu))
