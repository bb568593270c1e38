"""Building blocks that the models share: convolution, normalisation, pooling, up-sampling.

Arrays are [b h w c]. Everything here shards over `b` and `h` without gathering unless its docstring
says otherwise, and takes only formulations that are fast on the CPU and no slower on accelerators.
"""

import functools
import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from segjax.errors import ConfigError

Features = Float[Array, "b h w c"]
Channels = Float[Array, " c"]
Padding = Sequence[tuple[int, int]]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": nn.relu,
    "leaky_relu": nn.leaky_relu,
    "gelu": functools.partial(nn.gelu, approximate=False),
    "silu": nn.silu,
    "hard_swish": nn.hard_swish,
    "none": lambda x: x,
}
NORMS = ("batch", "group", "layer", "none")


def choose(name: str, known: Sequence[str], *, what: str) -> str:
    """Return `name` if it is one of `known`; else raise `ConfigError`."""
    if name not in known:
        raise ConfigError(f"model: {what}={name!r} is none of {', '.join(known)}.")
    return name


class ConvNormAct(nn.Module):
    """Convolve, normalise, activate: the unit of nearly every convolutional network.

    Padding is symmetric and explicit, `dilation * (kernel - 1) // 2` on both sides as in PyTorch
    ('SAME' would pad a strided convolution unevenly), so stride `s` gives `ceil(size / s)` for odd
    kernels. A bias only without normalisation, which would subtract it again.
    """

    features: int
    kernel: Sequence[int] = (3, 3)
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    padding: Padding | None = None
    norm: str = "batch"
    activation: str = "relu"
    compute_dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Features, *, train: bool) -> Float[Array, "b y x {self.features}"]:
        """Return the features in `compute_dtype`."""
        sides = [self.dilation * (k - 1) // 2 for k in self.kernel]
        x = nn.Conv(
            self.features,
            self.kernel,
            strides=self.stride,
            padding=[(side, side) for side in sides] if self.padding is None else self.padding,
            kernel_dilation=self.dilation,
            feature_group_count=self.groups,
            use_bias=self.norm == "none",
            kernel_init=nn.initializers.he_normal(),
            dtype=self.compute_dtype,
            param_dtype=self.param_dtype,
            name="conv",
        )(x)
        x = make_norm(self.norm, train=train, param_dtype=self.param_dtype, name="norm")(x)
        return ACTIVATIONS[choose(self.activation, list(ACTIVATIONS), what="activation")](x)


def pointwise(features: int, *, compute_dtype: str, param_dtype: str, name: str) -> nn.Conv:
    """Return a 1x1 convolution with bias, as heads and projections use."""
    return nn.Conv(
        features,
        (1, 1),
        kernel_init=nn.initializers.he_normal(),
        dtype=compute_dtype,
        param_dtype=param_dtype,
        name=name,
    )


def make_norm(
    kind: str, *, train: bool, param_dtype: str = "float32", name: str | None = None
) -> Callable[[Features], Features]:
    """Return the normalisation layer `kind`: 'batch', 'group', 'layer' (over channels) or 'none'.

    It computes in float32 at least and returns its input's dtype.
    """
    choose(kind, NORMS, what="norm")
    if kind == "batch":
        return BatchNorm(train=train, param_dtype=param_dtype, name=name)
    if kind == "none":
        return lambda x: x
    return GroupNorm(per_pixel=kind == "layer", param_dtype=param_dtype, name=name)


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

    @nn.compact
    def __call__(self, x: Features) -> Features:
        """Return `x` normalised by its own statistics (train) or by the running ones."""
        wide = widen(self.param_dtype)
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, channels, self.param_dtype)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, wide)
        var = self.variable("batch_stats", "var", jnp.ones, channels, wide)
        if not self.train:
            slope = scale.astype(wide) * lax.rsqrt(var.value + self.epsilon)
            return affine(x, slope, bias.astype(wide) - mean.value * slope)
        y, new_mean, new_var = standardize(self.epsilon, x, scale, bias)  # pyright: ignore
        if not self.is_initializing():
            keep, take = self.momentum, 1 - self.momentum
            mean.value = keep * mean.value + take * new_mean.astype(wide)
            var.value = keep * var.value + take * new_var.astype(wide)
        return y


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def standardize(
    epsilon: float, x: Features, scale: Channels, bias: Channels
) -> tuple[Features, Channels, Channels]:
    """Return `scale * (x - mean) / sqrt(var + epsilon) + bias`, mean and (biased) variance.

    No gradient flows through the returned mean and variance. The gradient is written out because it
    then needs two sums over `x` instead of five.
    """
    return _standardize(epsilon, x, scale, bias)[0]


def _standardize(epsilon, x, scale, bias):
    wide = widen(x.dtype)
    count = x.size // x.shape[-1]
    mean = channel_sum(x.astype(wide)) / count
    var = jnp.maximum(channel_sum(jnp.square(x.astype(wide))) / count - jnp.square(mean), 0)
    inverse = lax.rsqrt(var + epsilon)
    slope = scale.astype(wide) * inverse
    y = affine(x, slope, bias.astype(wide) - mean * slope)
    return (y, mean, var), (x, mean, inverse, scale, bias)


def _standardize_gradient(epsilon, saved, cotangents):
    x, mean, inverse, scale, bias = saved
    wide = widen(x.dtype)
    count = x.size // x.shape[-1]
    g = cotangents[0].astype(wide)
    g_bias = channel_sum(g)
    g_scale = (channel_sum(g * x.astype(wide)) - mean * g_bias) * inverse
    # dx = slope * (g - mean(g) - x_hat * mean(g * x_hat)), as one affine map of g and x.
    slope = scale.astype(wide) * inverse
    along_x = -slope * inverse * g_scale / count
    constant = -slope * g_bias / count - along_x * mean
    g_x = slope * g + along_x * x.astype(wide) + constant
    return g_x.astype(x.dtype), g_scale.astype(scale.dtype), g_bias.astype(bias.dtype)


standardize.defvjp(_standardize, _standardize_gradient)


def channel_sum(x: Features) -> Channels:
    """Sum over all axes but the last.

    On the CPU products with ones, one for each row, are three times as fast as XLA's reduction and
    round less. Accelerators keep the reduction, which fuses there with what makes `x`.
    """
    *rows, along = range(x.ndim - 1)

    def products(x):
        ones = jnp.ones(x.shape[:-1], x.dtype)
        dimensions = (((along,), (along,)), (rows, rows))
        return lax.dot_general(ones, x, dimensions).sum(rows)

    return lax.platform_dependent(x, cpu=products, default=lambda x: x.sum((*rows, along)))


class GroupNorm(nn.Module):
    """Normalise groups of channels over space (Wu and He 2018), or per pixel: layer norm.

    Takes the greatest common divisor of `groups` and the number of channels, so any width works.
    """

    groups: int = 32
    per_pixel: bool = False
    epsilon: float = 1e-5
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Features) -> Features:
        """Return `x` normalised, each example by itself."""
        wide = widen(x.dtype)
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (channels,), self.param_dtype)
        groups = 1 if self.per_pixel else math.gcd(self.groups, channels)
        y = x.astype(wide).reshape(*x.shape[:-1], groups, channels // groups)
        axes = (-1,) if self.per_pixel else (*range(1, x.ndim - 1), -1)
        y = y - y.mean(axes, keepdims=True)
        y = y * lax.rsqrt(jnp.square(y).mean(axes, keepdims=True) + self.epsilon)
        y = y.reshape(x.shape) * scale.astype(wide) + bias.astype(wide)
        return y.astype(x.dtype)


def affine(x: Features, slope: Channels, offset: Channels) -> Features:
    """Return `x * slope + offset` per channel, in the dtype of `x`."""
    wide = widen(x.dtype)
    return (x.astype(wide) * slope.astype(wide) + offset.astype(wide)).astype(x.dtype)


def widen(dtype: jax.typing.DTypeLike) -> jax.typing.DTypeLike:
    """Return the dtype to compute statistics in: float64 for float64, float32 for all others."""
    return jnp.float64 if jnp.dtype(dtype) == jnp.float64 else jnp.float32


def max_pool_2x2(x: Features) -> Float[Array, "b (h+1)//2 (w+1)//2 c"]:
    """Take the maximum of each 2x2 window, stride 2; an odd last row or column counts alone.

    Two element-wise maxima, so the gradient is two selects (ties share it equally). That of
    `nn.max_pool` is a select-and-scatter: ten times slower on a CPU and hard to partition.
    """
    for axis in (1, 2):
        if x.shape[axis] % 2:
            x = jnp.pad(x, [(0, int(a == axis)) for a in range(x.ndim)], constant_values=-jnp.inf)
        pairs = x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :])
        first, second = (lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in (0, 1))
        x = jnp.maximum(first, second)
    return x


class UpConv(nn.Module):
    """Double height and width by a 2x2 transposed convolution of stride 2.

    Windows do not overlap: one matrix product to 4x the channels and a rearrangement do it, faster
    than `nn.ConvTranspose` and without its all-gather. `kernel[i, j]` makes the pixels at offset
    (i, j), as in PyTorch; `nn.ConvTranspose` keeps the same kernel flipped.
    """

    features: int
    compute_dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Features) -> Float[Array, "b 2*h 2*w {self.features}"]:
        """Return the enlarged features in `compute_dtype`."""
        # Each output pixel sees one input pixel, so the window does not count as fan-in.
        init = nn.initializers.he_normal(batch_axis=(0, 1))
        shape = (2, 2, x.shape[-1], self.features)
        kernel = self.param("kernel", init, shape, self.param_dtype).astype(self.compute_dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
        x = jnp.einsum("bhwc,ijck->bhwijk", x.astype(self.compute_dtype), kernel)
        return depth_to_space(x) + bias.astype(self.compute_dtype)


def depth_to_space(x: Float[Array, "b h w i j c"]) -> Float[Array, "b h*i w*j c"]:
    """Lay the [i j] block of each position out in space: [b h*i w*j c]."""
    b, h, w, i, j, c = x.shape
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * i, w * j, c)


def upsample(
    x: Features, *, factor: int, method: str = "bilinear"
) -> Float[Array, "b h*{factor} w*{factor} c"]:
    """Enlarge by a whole factor with half-pixel centres: 'bilinear' or 'nearest'.

    Equal to `resize` and to `jax.image.resize`, but made of shifted copies: rows may be sharded.
    """
    choose(method, ("bilinear", "nearest"), what="upsample method")
    for axis in (1, 2):
        if method == "bilinear":
            x = _stretch(x, axis=axis, factor=factor)
        else:
            x = jnp.repeat(x, factor, axis=axis)
    return x


def _stretch(x: Array, *, axis: int, factor: int) -> Array:
    """Interpolate linearly along `axis`, `factor` samples for one, edges repeated."""
    step = jnp.diff(x, axis=axis)
    to_previous, to_next = (
        jnp.pad(step, [side if a == axis else (0, 0) for a in range(x.ndim)])
        for side in ((1, 0), (0, 1))
    )
    offsets = [(phase + 0.5) / factor - 0.5 for phase in range(factor)]
    samples = [x + offset * (to_previous if offset < 0 else to_next) for offset in offsets]
    shape = (*x.shape[:axis], x.shape[axis] * factor, *x.shape[axis + 1 :])
    return jnp.stack(samples, axis + 1).reshape(shape)


def resize(
    x: Features, size: Sequence[int], *, method: str = "bilinear", align_corners: bool = False
) -> Float[Array, "b y x c"]:
    """Resize to `size` (height, width) as PyTorch's `F.interpolate` without antialiasing.

    Two products with interpolation matrices: exact, deterministic in its gradient (a gather's is a
    scatter) and fast on matrix units. A sharded axis is gathered: use `upsample` for whole factors.

    Args:
        x: The features or logits.
        size: Height and width to return.
        method: 'nearest' (floor, as PyTorch's), 'bilinear' or 'bicubic' (a = -0.75).
        align_corners: Map corner pixel centres onto each other; otherwise half-pixel centres.
    """
    spec = {1: "bhwc,yh->bywc", 2: "bhwc,xw->bhxc"}
    for axis, length in zip((1, 2), size, strict=True):
        if x.shape[axis] != length:
            weights = interpolation(
                x.shape[axis], length, method=method, align_corners=align_corners
            )
            x = jnp.einsum(spec[axis], x, jnp.asarray(weights, x.dtype), precision="highest")
    return x


def interpolation(size: int, to: int, *, method: str, align_corners: bool) -> np.ndarray:
    """Return the float64 matrix [to size] that interpolates `size` samples at `to` places."""
    choose(method, ("nearest", "bilinear", "bicubic"), what="resize method")
    place = np.arange(to)
    if method == "nearest":
        source = np.floor(place * size / to)
    elif align_corners:
        source = place * (size - 1) / max(to - 1, 1)
    else:
        source = (place + 0.5) * size / to - 0.5
    weights = np.zeros((to, size))
    for tap in range(-1, 3):
        index = np.floor(source) + tap
        near = _weight(np.abs(source - index), method)
        np.add.at(weights, (place, np.clip(index, 0, size - 1).astype(int)), near)
    return weights


def _weight(d: np.ndarray, method: str) -> np.ndarray:
    """Return the interpolation kernel at distance `d`: box, triangle or Keys' cubic."""
    if method == "nearest":
        return (d == 0).astype(float)
    if method == "bilinear":
        return np.maximum(1 - d, 0)
    a = -0.75
    inner = ((a + 2) * d - (a + 3)) * d**2 + 1
    outer = ((d - 5) * d + 8) * d * a - 4 * a
    return np.where(d <= 1, inner, np.where(d < 2, outer, 0))
