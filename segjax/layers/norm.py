"""Normalisation by name: batch, group, layer."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Annotated, Any, TypeAlias, TypeGuard

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from segjax.config import lookup, rules
from segjax.kernels import scaling, sums
from segjax.structs import Features

Activation = Callable[[Array], Array]


def same(x: Array) -> Array:
    """Return `x`."""
    return x


NORMS = ("batch", "group", "layer", "none")
Norm: TypeAlias = Annotated[str, rules.one_of(*NORMS)]


_merging = jax.make_user_context(False)


def merging() -> AbstractContextManager[None]:
    """Return a context in which convolutions take the normalisation behind them into themselves.

    For programs that infer, where its statistics are known beforehand. The modules of both are then
    none that anyone could listen to: the convolution's returns what is normalised.
    """
    return _merging(True)


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
    On a sharded batch the statistics are those of the global batch.
    """

    train: bool
    momentum: float = 0.9
    epsilon: float = 1e-5
    param_dtype: str = "float32"
    activation: Activation = same

    @nn.compact
    def __call__(self, x: Features) -> Features:
        """Return `x` normalised by its own statistics (train) or by the running ones, activated."""
        wide, channels = sums.widen(self.param_dtype), x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, channels, self.param_dtype)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, wide)
        var = self.variable("batch_stats", "var", jnp.ones, channels, wide)
        if self.train:
            y, new_mean, new_var = scaling.standardize(x, scale, bias, epsilon=self.epsilon)
            if not self.is_initializing():
                keep, take = self.momentum, 1 - self.momentum
                mean.value = keep * mean.value + take * new_mean.astype(wide)
                var.value = keep * var.value + take * new_var.astype(wide)
        else:
            y = scaling.affine(x, *self.known())
        return self.activation(y).astype(x.dtype)

    def known(self) -> tuple[sums.Channels, sums.Channels]:
        """Return slope and offset of the running statistics, float32 at least."""
        scale, bias = (self.get_variable("params", name) for name in ("scale", "bias"))
        mean, var = (self.get_variable("batch_stats", name) for name in ("mean", "var"))
        slope = scale.astype(var.dtype) * lax.rsqrt(var + self.epsilon)
        return slope, bias.astype(var.dtype) - mean * slope


def merges(norm: Activation) -> TypeGuard[BatchNorm]:
    """Return whether a convolution before `norm` is to do its work, see `merging`."""
    if not _merging.value or not isinstance(norm, BatchNorm):
        return False
    return not norm.train and not norm.is_initializing()


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
        wide = sums.widen(x.dtype)
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (channels,), self.param_dtype)
        groups = 1 if self.per_pixel else math.gcd(self.groups, channels)
        y = x.astype(wide).reshape(*x.shape[:-1], groups, channels // groups)
        axes = (-1,) if self.per_pixel else (*range(1, x.ndim - 1), -1)
        y = y - y.mean(axes, keepdims=True)
        y = y * lax.rsqrt(jnp.square(y).mean(axes, keepdims=True) + self.epsilon)
        y = scaling.rescale(y.reshape(x.shape), scale.astype(wide), bias.astype(wide))
        return self.activation(y).astype(x.dtype)
