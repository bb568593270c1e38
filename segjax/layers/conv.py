"""Convolve, normalise, activate: what nearly every network here is made of."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from segjax.config import lookup, rules
from segjax.kernels import activations, sums
from segjax.kernels import conv as conv_lib
from segjax.layers import norm as norm_lib
from segjax.structs import Features

Padding = Sequence[tuple[int, int]]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": nn.relu,
    "relu6": nn.relu6,
    "leaky_relu": nn.leaky_relu,
    "gelu": activations.gelu,
    "silu": nn.silu,
    "sigmoid": nn.sigmoid,
    "hard_swish": nn.hard_swish,
    "hard_sigmoid": nn.hard_sigmoid,
    "none": norm_lib.same,
}
ActivationName: TypeAlias = Annotated[str, rules.one_of(*ACTIVATIONS)]


class Conv(nn.Module):
    """Convolve in as many dimensions as the input has: the one convolution of all networks here.

    Padding is symmetric and explicit, `dilation * (kernel - 1) // 2` on both sides as in PyTorch
    ('SAME' would pad a strided convolution unevenly), so stride `s` gives `ceil(size / s)` for odd
    kernels. Parameters are those of `nn.Conv`; the kernel starts as He et al. 2015 have it.

    Attributes:
        features: Channels to return.
        kernel: Window, one length for all axes or one for each.
        groups: Groups of channels; -1: each channel by itself (depthwise).
        padding: Low and high padding of each axis, where not the one above.
        bias: Add a bias.
    """

    features: int
    kernel: int | Sequence[int] = 3
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    padding: Padding | None = None
    bias: bool = True
    compute_dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Features, *, affine: tuple[sums.Channels, sums.Channels] | None = None
    ) -> Float[Array, "b ... {self.features}"]:
        """Return the features in `compute_dtype`.

        Args:
            x: Features.
            affine: Slope and offset of each channel that the features are to go through, in
                float32 at least, which is then their dtype.
        """
        spatial, channels = x.ndim - 2, x.shape[-1]
        window = (self.kernel,) * spatial if isinstance(self.kernel, int) else tuple(self.kernel)
        sides = [self.dilation * (n - 1) // 2 for n in window]
        groups = channels if self.groups == -1 else self.groups
        shape = (*window, channels // groups, self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape, self.param_dtype)
        x = jnp.asarray(x, self.compute_dtype)
        slides: dict[str, Any] = {
            "strides": (self.stride,) * spatial,
            "padding": [(side, side) for side in sides] if self.padding is None else self.padding,
            "dilation": (self.dilation,) * spatial,
        }
        bias = None
        if self.bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
        if affine is not None:
            slope, offset = affine
            offset = offset if bias is None else offset + bias.astype(slope.dtype) * slope
            return conv_lib.normalized(x, kernel, slope, offset, **slides)
        x = conv_lib.convolve(x, jnp.asarray(kernel, self.compute_dtype), **slides)
        if bias is None:
            return x
        bias = jnp.asarray(bias, self.compute_dtype)
        return x + bias.reshape(*[1] * (x.ndim - 1), self.features)


class ConvNormAct(nn.Module):
    """Convolve as `Conv`, normalise, activate.

    Attributes:
        features: Channels to return.
        kernel: Window, one length for all axes or one for each.
        groups: Groups of channels; -1: each channel by itself (depthwise).
        padding: Low and high padding of each axis, where not that of `Conv`.
        bias: Add a bias before a normalisation too, which subtracts it again; without `norm` there
            always is one.
        epsilon: Added to the variance by `norm`.
        momentum: Share of its running statistics that batch norm keeps.
    """

    features: int
    kernel: int | Sequence[int] = 3
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    padding: Padding | None = None
    bias: bool = False
    norm: str = "batch"
    activation: str = "relu"
    epsilon: float = 1e-5
    momentum: float = 0.9
    compute_dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Features, *, train: bool) -> Float[Array, "b ... {self.features}"]:
        """Return the features in `compute_dtype`."""
        layer = Conv(
            self.features, self.kernel, self.stride, self.dilation, self.groups, self.padding,
            bias=self.bias or self.norm == "none", **dtypes_of(self), name="conv",
        )  # fmt: skip
        norm = norm_lib.make_norm(
            self.norm, train=train, epsilon=self.epsilon, momentum=self.momentum,
            param_dtype=self.param_dtype, activation=activation(self.activation), name="norm",
        )  # fmt: skip
        if norm_lib.merges(norm):
            y = layer(x, affine=norm.known())
            return norm.activation(y).astype(self.compute_dtype)
        return norm(layer(x))


class SeparableConv(nn.Module):
    """Convolve each channel by itself, mix channels by a 1x1 convolution, normalise, activate.

    Nothing stands between the two convolutions, not even a bias (Chollet 2016, arXiv:1610.02357;
    DeepLabv3+'s decoder). Networks that normalise there too take two `ConvNormAct`.
    """

    features: int
    kernel: int = 3
    dilation: int = 1
    norm: str = "batch"
    activation: str = "relu"
    compute_dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Features, *, train: bool) -> Float[Array, "b ... {self.features}"]:
        """Return the features in `compute_dtype`."""
        x = Conv(
            x.shape[-1], self.kernel, dilation=self.dilation, groups=-1, bias=False,
            **dtypes_of(self), name="depthwise",
        )(x)  # fmt: skip
        mix = ConvNormAct(
            self.features, kernel=1, norm=self.norm, activation=self.activation,
            **dtypes_of(self), name="pointwise",
        )  # fmt: skip
        return mix(x, train=train)


def activation(name: str) -> Callable[[Array], Array]:
    """Return the activation `name`, a key of `ACTIVATIONS`."""
    return ACTIVATIONS[lookup.choose(name, list(ACTIVATIONS), what="activation")]


def dtypes_of(module: Any) -> dict[str, Any]:
    """Return the dtype fields of `module` as keyword arguments for what it is made of."""
    return {"compute_dtype": module.compute_dtype, "param_dtype": module.param_dtype}


class DropPath(nn.Module):
    """Drop a residual branch of whole examples in training (stochastic depth, Huang et al. 2016).

    What is kept is divided by the share kept, so the expectation stays. Draws from the 'dropout'
    key.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Features, *, train: bool) -> Features:
        """Return `x`, zero in a share `rate` of its examples while training."""
        if not train or self.rate == 0:
            return x
        shape = (x.shape[0], *[1] * (x.ndim - 1))
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, shape)
        return x * (keep.astype(x.dtype) / (1 - self.rate))
