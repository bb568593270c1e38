"""Normalisation by name: batch, group, layer."""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from segjax.config import lookup
from segjax.structs import Features

Channels = Float[Array, " c"]

Activation = Callable[[Array], Array]


def same(x: Array) -> Array:
    """Return `x`."""
    return x


NORMS = ("batch", "group", "layer", "none")


def make_norm(
    kind: str,
    *,
    train: bool,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    param_dtype: str = "float32",
    activation: Activation = same,
    name: str | None = None,
) -> Callable[[Features], Features]:
    """Return the normalisation layer `kind`: 'batch', 'group', 'layer' (over channels) or 'none'.

    It computes in float32 at least, applies the activation, and returns its input's dtype: what
    lies between is neither rounded nor written to memory.
    """
    lookup.choose(kind, NORMS, what="norm")
    if kind == "none":
        return activation
    options: dict[str, Any] = {
        "epsilon": epsilon, "param_dtype": param_dtype, "activation": activation, "name": name
    }  # fmt: skip
    if kind == "batch":
        return BatchNorm(train=train, momentum=momentum, **options)
    return GroupNorm(per_pixel=kind == "layer", **options)


class BatchNorm(nn.Module):
    """Normalise each channel over batch and space (Ioffe and Szegedy 2015, algorithms 1 and 2).

    `batch_stats` are float32 at least, `momentum` the share that they keep (PyTorch's 0.1 is 0.9).
    On a sharded batch the statistics are those of the global batch. `nn.BatchNorm` in numbers; its
    arithmetic mixes dtypes and its gradient takes twice the time on a CPU.
    """

    train: bool
    momentum: float = 0.9
    epsilon: float = 1e-5
    param_dtype: str = "float32"
    activation: Activation = same

    @nn.compact
    def __call__(self, x: Features) -> Features:
        """Return `x` normalised by its own statistics (train) or by the running ones, activated."""
        wide = widen(self.param_dtype)
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, channels, self.param_dtype)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, wide)
        var = self.variable("batch_stats", "var", jnp.ones, channels, wide)
        if not self.train:
            slope = scale.astype(wide) * lax.rsqrt(var.value + self.epsilon)
            y = affine(x, slope, bias.astype(wide) - mean.value * slope)
            return self.activation(y).astype(x.dtype)
        y, new_mean, new_var = standardize(self.epsilon, x, scale, bias)  # pyright: ignore
        if not self.is_initializing():
            keep, take = self.momentum, 1 - self.momentum
            mean.value = keep * mean.value + take * new_mean.astype(wide)
            var.value = keep * var.value + take * new_var.astype(wide)
        return self.activation(y).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def standardize(
    epsilon: float, x: Features, scale: Channels, bias: Channels
) -> tuple[Features, Channels, Channels]:
    """Return `scale * (x - mean) / sqrt(var + epsilon) + bias`, mean and (biased) variance.

    They are float32, or float64 where `x` is. No gradient flows through the returned mean and
    variance. The gradient is written out because it then needs two sums over `x` instead of five.
    """
    return _standardize(epsilon, x, scale, bias)[0]


def _standardize(epsilon, x, scale, bias):
    wide = widen(x.dtype)
    count = x.size // x.shape[-1]
    total, squares = channel_sums(x.astype(wide), jnp.square(x.astype(wide)))
    mean = total / count
    var = jnp.maximum(squares / count - jnp.square(mean), 0)
    inverse = lax.rsqrt(var + epsilon)
    slope = scale.astype(wide) * inverse
    y = affine(x, slope, bias.astype(wide) - mean * slope)
    return (y, mean, var), (x, mean, inverse, scale, bias)


def _standardize_gradient(epsilon, saved, cotangents):
    x, mean, inverse, scale, bias = saved
    wide = widen(x.dtype)
    count = x.size // x.shape[-1]
    g = cotangents[0].astype(wide)
    g_bias, along = channel_sums(g, g * x.astype(wide))
    g_scale = (along - mean * g_bias) * inverse
    # dx = slope * (g - mean(g) - x_hat * mean(g * x_hat)), as one affine map of g and x.
    slope = scale.astype(wide) * inverse
    along_x = -slope * inverse * g_scale / count
    constant = -slope * g_bias / count - along_x * mean
    g_x = slope * g + along_x * x.astype(wide) + constant
    return g_x.astype(x.dtype), g_scale.astype(scale.dtype), g_bias.astype(bias.dtype)


standardize.defvjp(_standardize, _standardize_gradient)


def channel_sums(*xs: Features) -> tuple[Channels, ...]:
    """Sum arrays of one shape over all axes but the last.

    On the CPU all are summed along the rows in one pass, and none of them is in memory before it:
    five to fifteen times as fast as XLA's own sums, which accelerators fuse. Eight neighbours come
    first: LLVM unrolls a loop that short, and then works on many channels at once.
    """
    *rows, along = range(xs[0].ndim - 1)
    shape, near = xs[0].shape, math.gcd(xs[0].shape[along], 8)

    def each(*xs):
        return tuple(x.sum((*rows, along)) for x in xs)

    if len(rows) < 2:  # tokens and signals may be sharded along, which only single sums take
        return each(*xs)

    def add_along(axis, *xs):
        zeros = tuple(jnp.zeros((), x.dtype) for x in xs)
        return lax.reduce(xs, zeros, lambda a, b: tuple(map(jnp.add, a, b)), (axis,))

    def one_pass(*xs):
        eights = (x.reshape(*shape[:along], -1, near, shape[-1]) for x in xs)
        # XLA would make one sum of both again.
        parts = lax.optimization_barrier(add_along(along + 1, *eights))
        sums = add_along(along, *parts)
        return tuple(x.sum(rows) for x in sums)

    return lax.platform_dependent(*xs, cpu=one_pass, default=each)


class GroupNorm(nn.Module):
    """Normalise groups of channels over space (Wu and He 2018), or per pixel: layer norm.

    Takes the greatest common divisor of `groups` and the number of channels, so any width works.
    """

    groups: int = 32
    per_pixel: bool = False
    epsilon: float = 1e-5
    param_dtype: str = "float32"
    activation: Activation = same

    @nn.compact
    def __call__(self, x: Features) -> Features:
        """Return `x` normalised, each example by itself, and activated."""
        wide = widen(x.dtype)
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (channels,), self.param_dtype)
        groups = 1 if self.per_pixel else math.gcd(self.groups, channels)
        y = x.astype(wide).reshape(*x.shape[:-1], groups, channels // groups)
        axes = (-1,) if self.per_pixel else (*range(1, x.ndim - 1), -1)
        y = y - y.mean(axes, keepdims=True)
        y = y * lax.rsqrt(jnp.square(y).mean(axes, keepdims=True) + self.epsilon)
        y = rescale(y.reshape(x.shape), scale.astype(wide), bias.astype(wide))
        return self.activation(y).astype(x.dtype)


@jax.custom_vjp
def rescale(x: Features, scale: Channels, bias: Channels) -> Features:
    """Return `x * scale + bias` per channel; the gradients of both are summed in one pass."""
    return affine(x, scale, bias)


def _rescale_gradient(saved: tuple[Features, Channels], g: Features) -> tuple[Array, ...]:
    x, scale = saved
    return g * scale, *channel_sums(g * x, g)


rescale.defvjp(lambda x, scale, bias: (rescale(x, scale, bias), (x, scale)), _rescale_gradient)


def affine(x: Features, slope: Channels, offset: Channels) -> Features:
    """Return `x * slope + offset` per channel, float32 at least."""
    wide = widen(x.dtype)
    return x.astype(wide) * slope.astype(wide) + offset.astype(wide)


def widen(dtype: jax.typing.DTypeLike) -> jax.typing.DTypeLike:
    """Return the dtype to compute statistics in: float64 for float64, float32 for all others."""
    return jnp.float64 if jnp.dtype(dtype) == jnp.float64 else jnp.float32
