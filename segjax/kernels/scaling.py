"""Scale and shift channels, by given numbers or by those of batch normalisation."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from segjax.kernels import sums
from segjax.kernels.dispatch import Kernel, with_gradient
from segjax.kernels.sums import Channels, widen
from segjax.structs import Features

Saved = tuple[Array, ...]


def affine(x: Features, slope: Channels, offset: Channels) -> Features:
    """Return `x * slope + offset` per channel, float32 at least."""
    wide = widen(x.dtype)
    return x.astype(wide) * slope.astype(wide) + offset.astype(wide)


@Kernel
def rescale(x: Features, scale: Channels, bias: Channels) -> Features:
    """Return `x * scale + bias` per channel, float32 at least."""
    return affine(x, scale, bias)


def _rescale_forward(x: Features, scale: Channels, bias: Channels) -> tuple[Features, Saved]:
    return affine(x, scale, bias), (x, scale)


def _rescale_backward(saved: Saved, g: Features) -> tuple[Array, ...]:
    """Sum the gradients by scale and bias in one pass."""
    x, scale = saved
    return g * scale, *sums.channel_sums(g * x, g)


rescale.everywhere(with_gradient(_rescale_forward, _rescale_backward))


@Kernel
def standardize(
    x: Features, scale: Channels, bias: Channels, *, epsilon: float
) -> tuple[Features, Channels, Channels]:
    """Return `scale * (x - mean) / sqrt(var + epsilon) + bias`, mean and (biased) variance.

    They are float32, or float64 where `x` is. No gradient flows through the returned mean and
    variance.
    """
    wide = x.astype(widen(x.dtype))
    axes = range(x.ndim - 1)
    mean, var = wide.mean(axes), wide.var(axes)
    y = affine((wide - mean) * lax.rsqrt(var + epsilon), scale, bias)
    return y, lax.stop_gradient(mean), lax.stop_gradient(var)


def _standardize_forward(
    x: Features, scale: Channels, bias: Channels, *, epsilon: float
) -> tuple[tuple[Features, Channels, Channels], Saved]:
    wide = widen(x.dtype)
    count = x.size // x.shape[-1]
    total, squares = sums.channel_sums(x.astype(wide), jnp.square(x.astype(wide)))
    mean = total / count
    var = jnp.maximum(squares / count - jnp.square(mean), 0)
    inverse = lax.rsqrt(var + epsilon)
    slope = scale.astype(wide) * inverse
    y = affine(x, slope, bias.astype(wide) - mean * slope)
    return (y, mean, var), (x, mean, inverse, scale, bias)


def _standardize_backward(
    saved: Saved, cotangents: tuple[Array, ...], *, epsilon: float
) -> tuple[Array, ...]:
    """Take two sums over `x`, where autodiff takes five."""
    x, mean, inverse, scale, bias = saved
    wide = widen(x.dtype)
    count = x.size // x.shape[-1]
    g = cotangents[0].astype(wide)
    g_bias, along = sums.channel_sums(g, g * x.astype(wide))
    g_scale = (along - mean * g_bias) * inverse
    # dx = slope * (g - mean(g) - x_hat * mean(g * x_hat)), as one affine map of g and x.
    slope = scale.astype(wide) * inverse
    along_x = -slope * inverse * g_scale / count
    constant = -slope * g_bias / count - along_x * mean
    g_x = slope * g + along_x * x.astype(wide) + constant
    return g_x.astype(x.dtype), g_scale.astype(scale.dtype), g_bias.astype(bias.dtype)


standardize.everywhere(with_gradient(_standardize_forward, _standardize_backward))
