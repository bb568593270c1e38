"""Pooling and resizing that shard over rows and have cheap gradients. Arrays are [b *space c]."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from segjax.config import lookup
from segjax.kernels import fusion, pooling, products
from segjax.kernels import resize as resize_lib
from segjax.structs import Features


def max_pool(x: Features, *, window: int = 2) -> Features:
    """Take the maximum of each window of 2 (or 3, centred on even positions), stride 2.

    Sizes are halved and rounded up: an odd last row or column counts alone, no invented pixel is
    ever the maximum (PyTorch's `ceil_mode=True`, or `padding=1` for a window of 3).

    One or two element-wise maxima an axis, and a gradient that is one pass (ties share it equally).
    That of `nn.max_pool` is a select-and-scatter: ten times slower on a CPU and hard to partition.
    """
    for axis in range(1, x.ndim - 1):
        if x.shape[axis] % 2:
            x = jnp.pad(x, [(0, int(a == axis)) for a in range(x.ndim)], constant_values=-jnp.inf)
        pairs = x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :])
        x = pooling.larger(fusion.gradient_barrier(pairs), axis=axis + 1)
        if window == 3:
            odd = lax.index_in_dim(pairs, 1, axis + 1, keepdims=False)
            x = pooling.maximum(x, resize_lib.shift(odd, 1, axis=axis, fill=-jnp.inf))
    return x


def crop(x: Features, size: Sequence[int]) -> Features:
    """Return `x` without the rows and columns that `size` leaves no room for."""
    return x[(slice(None), *map(slice, size))]


class UpConv(nn.Module):
    """Double every spatial axis by a transposed convolution with windows of 2 and stride 2.

    Windows do not overlap: one matrix product to 4x the channels and a rearrangement do it, faster
    than `nn.ConvTranspose` and without its all-gather. `kernel[i, j]` makes the pixels at offset
    (i, j), as in PyTorch; `nn.ConvTranspose` keeps the same kernel flipped.
    """

    features: int
    compute_dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Features) -> Float[Array, "b ... {self.features}"]:
        """Return the enlarged features in `compute_dtype`."""
        window = (2,) * (x.ndim - 2)
        # Each output pixel sees one input pixel, so the window does not count as fan-in.
        init = nn.initializers.he_normal(batch_axis=tuple(range(len(window))))
        shape = (*window, x.shape[-1], self.features)
        kernel = self.param("kernel", init, shape, self.param_dtype).astype(self.compute_dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
        flat = jnp.moveaxis(kernel, -2, 0).reshape(x.shape[-1], -1)
        x = products.product(x.astype(self.compute_dtype), flat)
        x = depth_to_space(x.reshape(*x.shape[:-1], *window, self.features))
        return products.add_bias(x, jnp.asarray(bias, self.compute_dtype))


def depth_to_space(x: Float[Array, "b ... c"]) -> Any:
    """Lay the block of each position out in space: [b h w i j c] becomes [b h*i w*j c]."""
    spatial = (x.ndim - 2) // 2
    axes = range(1, 1 + spatial)
    order = [0, *(a for axis in axes for a in (axis, axis + spatial)), x.ndim - 1]
    size = [x.shape[axis] * x.shape[axis + spatial] for axis in axes]
    return fusion.gradient_barrier(x).transpose(order).reshape(x.shape[0], *size, x.shape[-1])


def upsample(x: Features, *, factor: int, method: str = "bilinear") -> Features:
    """Enlarge every spatial axis by a whole factor: 'bilinear' (half-pixel centres) or 'nearest'.

    Bilinear is linear along each axis, in one, two or three dimensions.
    """
    return resize(x, [factor * n for n in x.shape[1:-1]], method=method)


def resize(
    x: Features, size: Sequence[int], *, method: str = "bilinear", align_corners: bool = False
) -> Features:
    """Resize to `size` (one length an axis) as PyTorch's `F.interpolate` without antialiasing.

    Whole factors are sums of shifted copies: rows may be sharded, and only a halo is exchanged.
    Other sizes are products with interpolation matrices: exact, deterministic in the gradient (a
    gather's is a scatter), fast on matrix units; a sharded axis is gathered.

    Args:
        x: The features or logits.
        size: The spatial size to return.
        method: 'nearest' (floor, as PyTorch's), 'bilinear' or 'bicubic' (a = -0.75).
        align_corners: Map corner pixel centres onto each other; otherwise half-pixel centres.
    """
    for axis, length in zip(range(1, x.ndim - 1), size, strict=True):
        if x.shape[axis] == length:
            continue
        if method == "nearest" and length % x.shape[axis] == 0:
            x = jnp.repeat(x, length // x.shape[axis], axis=axis)
            continue
        weights = interpolation(x.shape[axis], length, method=method, align_corners=align_corners)
        whole = length % x.shape[axis] == 0
        x = (resize_lib.stretch if whole else resize_lib.matrix)(x, weights=weights, axis=axis)
    return x


def adaptive_avg_pool(x: Features, size: Sequence[int]) -> Features:
    """Average into `size` bins an axis, which may overlap, as `nn.AdaptiveAvgPool2d`."""
    for axis, bins in zip(range(1, x.ndim - 1), size, strict=True):
        n = x.shape[axis]
        weights = np.zeros((bins, n))
        for i in range(bins):
            first, last = i * n // bins, -(-(i + 1) * n // bins)
            weights[i, first:last] = 1 / (last - first)
        x = resize_lib.matrix(x, weights, axis=axis)
    return x


def interpolation(size: int, to: int, *, method: str, align_corners: bool) -> np.ndarray:
    """Return the float64 matrix [to size] that interpolates `size` samples at `to` places."""
    lookup.choose(method, ("nearest", "bilinear", "bicubic"), what="resize method")
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
