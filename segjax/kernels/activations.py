"""Activations in float32 at least, whose slopes are computed anew from what they were given.

JAX's GELU goes through `erfc`, which XLA makes of two branches and an exponential, and autodiff
keeps what the forward pass found on the way; oneDNN knows the form here, and computes it along with
the product before it.
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


def _kept(x: Array) -> Array:
    """Return `x`, which the slope needs too: XLA would hand both what oneDNN made of it already.

    It does so to narrow types alone, and what is wide comes from a normalisation that it fuses.
    """
    return x if x.dtype == widen(x.dtype) else fusion.barrier(x)


def _gelu(x: Array) -> Array:
    wide = x.astype(widen(x.dtype))
    return (0.5 * wide * (1 + lax.erf(wide * math.sqrt(0.5)))).astype(x.dtype)


def _gelu_forward(x: Array) -> tuple[Array, Array]:
    x = _kept(x)
    return _gelu(x), x


def _gelu_backward(x: Array, g: Array) -> tuple[Array]:
    wide = x.astype(widen(x.dtype))
    share = 0.5 * (1 + lax.erf(wide * math.sqrt(0.5)))
    density = jnp.exp(-0.5 * jnp.square(wide)) / math.sqrt(2 * math.pi)
    return ((g.astype(wide.dtype) * (share + wide * density)).astype(x.dtype),)


gelu.everywhere(with_gradient(_gelu_forward, _gelu_backward, primal=_gelu))


@Kernel
def silu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return `x` times its logistic function (arXiv:1606.08415, section 4; Swish)."""
    return jax.nn.silu(x)


def _silu(x: Array) -> Array:
    return jax.nn.silu(x.astype(widen(x.dtype))).astype(x.dtype)


def _silu_forward(x: Array) -> tuple[Array, Array]:
    x = _kept(x)
    return _silu(x), x


def _silu_backward(x: Array, g: Array) -> tuple[Array]:
    wide = x.astype(widen(x.dtype))
    share = lax.logistic(wide)
    return ((g.astype(wide.dtype) * share * (1 + wide * (1 - share))).astype(x.dtype),)


silu.everywhere(with_gradient(_silu_forward, _silu_backward, primal=_silu))
