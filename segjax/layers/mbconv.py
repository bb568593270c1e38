"""The inverted residual of mobile networks (MobileNetV2 and V3, EfficientNet)."""

import functools

import flax.linen as nn
from jaxtyping import Array, Float

from segjax.layers import conv, dense
from segjax.structs import Features


class InvertedResidual(nn.Module):
    """Expand 1x1, convolve each channel by itself, weigh channels, project 1x1, add the input.

    Sandler et al. 2018 (arXiv:1801.04381, figure 3b), with the channels' weights of Howard et al.
    2019 (arXiv:1905.02244, figure 4). No expansion where it would change no width; no addition
    where the block changes size or width.

    Attributes:
        features: Channels to return.
        expanded: Channels in between.
        kernel: Window of the depthwise convolution.
        padding: Low and high padding of each axis for it, where not that of `conv.Conv`.
        squeeze: Channels that weigh channels (`SqueezeExcite`); 0: none.
        squeeze_activation: Between its layers.
        gate: What makes its weights.
        drop_path: Rate of stochastic depth.
        epsilon: Added to the variance by `norm`.
        momentum: Share of its running statistics that batch norm keeps.
    """

    features: int
    expanded: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    padding: conv.Padding | None = None
    squeeze: int = 0
    activation: str = "relu"
    squeeze_activation: str = "relu"
    gate: str = "sigmoid"
    drop_path: float = 0.0
    norm: str = "batch"
    epsilon: float = 1e-5
    momentum: float = 0.9
    compute_dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Features, *, train: bool) -> Float[Array, "b ... {self.features}"]:
        """Return the block's features."""
        unit = functools.partial(
            conv.ConvNormAct,
            activation=self.activation,
            norm=self.norm,
            epsilon=self.epsilon,
            momentum=self.momentum,
            **conv.dtypes_of(self),
        )
        y = x
        if self.expanded != x.shape[-1]:
            y = unit(self.expanded, kernel=1, name="expand")(y, train=train)
        y = unit(
            self.expanded, kernel=self.kernel, stride=self.stride, dilation=self.dilation,
            groups=-1, padding=self.padding, name="depthwise",
        )(y, train=train)  # fmt: skip
        if self.squeeze:
            y = SqueezeExcite(
                self.squeeze, self.squeeze_activation, self.gate, **conv.dtypes_of(self), name="se"
            )(y)
        y = unit(self.features, kernel=1, activation="none", name="project")(y, train=train)
        if self.stride > 1 or self.features != x.shape[-1]:
            return y
        return x + conv.DropPath(self.drop_path)(y, train=train)


class SqueezeExcite(nn.Module):
    """Weigh channels by what two layers make of their means (Hu et al. 2018, arXiv:1709.01507)."""

    squeeze: int
    activation: str
    gate: str
    compute_dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: Features) -> Features:
        """Return `x`, each channel times its weight."""
        dtypes = conv.dtypes_of(self)
        means = x.mean(tuple(range(1, x.ndim - 1)), keepdims=True)
        y = dense.Dense(self.squeeze, **dtypes, name="reduce")(means)
        y = conv.activation(self.activation)(y)
        y = dense.Dense(x.shape[-1], **dtypes, name="expand")(y)
        return x * conv.activation(self.gate)(y)


def divisible(channels: int | float) -> int:
    """Return the nearest multiple of 8 that is at least 8 and takes away 10 % at most."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest
