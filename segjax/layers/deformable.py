"""Deformable attention at several resolutions (Zhu et al. 2020, arXiv:2010.04159, section 4.1)."""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from segjax.kernels import bilinear, sums
from segjax.layers import style

Sizes = Sequence[Sequence[int]]
"""Height and width of each level, whose places lie one after the other, row by row."""


class Attention(style.Block):
    """Let every place average a few points of each level, which it chooses around itself.

    Attributes:
        heads: In how many parts of the channels to do so, each with its own points.
        points: Of each head on each level.
        sizes: Of the levels.
    """

    heads: int
    points: int
    sizes: tuple[tuple[int, ...], ...]

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n c"], memory: Float[Array, "b n c"]
    ) -> Float[Array, "b n c"]:
        """Return as many channels as `x` has.

        Args:
            x: Who asks: it says where points lie, in pixels of their level from its own place, and
                how much they count.
            memory: What there is, at the same places.
        """
        dense, (count, channels) = self.style.dense, x.shape[1:]
        every = self.heads * len(self.sizes) * self.points
        offsets = dense(
            2 * every, kernel_init=nn.initializers.zeros, bias_init=self.start, name="offsets"
        )(x)
        shares = dense(every, kernel_init=nn.initializers.zeros, name="shares")(x)
        wide = sums.widen(x.dtype)
        shares = shares.astype(wide).reshape(x.shape[0], count, self.heads, -1)
        axes = (x.shape[0], count, self.heads, len(self.sizes), self.points)
        value = dense(channels, name="value")(memory)
        found = sample(
            value.reshape(x.shape[0], count, self.heads, -1),
            offsets.astype(wide).reshape(*axes, 2),
            nn.softmax(shares).reshape(axes),
            self.sizes,
        )
        return dense(channels, name="out")(found.reshape(x.shape).astype(x.dtype))

    def start(self, key: Any, shape: Any, dtype: Any) -> jax.Array:
        """Return the offsets to start with: each head looks along one direction, 1, 2, … far."""
        del key
        angle = np.arange(self.heads) * (2 * math.pi / self.heads)
        towards = np.stack([np.sin(angle), np.cos(angle)], axis=-1)
        towards /= np.abs(towards).max(-1, keepdims=True)
        far = np.arange(1, self.points + 1)[:, None]
        offsets = np.broadcast_to(
            towards[:, None, None] * far, (self.heads, len(self.sizes), self.points, 2)
        )
        return jnp.asarray(offsets.reshape(shape), dtype)


def sample(
    value: Float[Array, "b n h d"],
    offsets: Float[Array, "b n h levels points 2"],
    shares: Float[Array, "b n h levels points"],
    sizes: Sizes,
) -> Float[Array, "b n h d"]:
    """Return for each place and head the sum of the values at its points, times their shares.

    Four numbers are read for each point and channel: `8 * levels * points` operations a place and
    channel, however large the image is. One point of all places is taken after the other, and read
    anew for the gradient: memory holds one. The gradient by the values is a scatter.

    Args:
        value: At the places of all levels, one after the other.
        offsets: In pixels of the level, y and x, from the same place there.
        shares: Of the points of all levels, together 1.
        sizes: Of the levels.
    """
    first = np.cumsum([0, *(height * width for height, width in sizes[:-1])])
    here = jnp.asarray(places(sizes), offsets.dtype)
    every = []
    for level, size in enumerate(sizes):
        place = here[:, level, None, None] + offsets[:, :, :, level]  # [b n h points 2]
        pixel, share = bilinear.around(place, size)
        every.append((pixel + int(first[level]), share * shares[:, :, :, level, :, None]))
    pixel, share = (jnp.concatenate(parts, axis=3) for parts in zip(*every, strict=True))
    by_head = jnp.moveaxis(value, 2, 1)  # [b h n d]

    @jax.checkpoint
    def read(value: Array, pixel: Array, share: Array) -> Array:
        flat = pixel.reshape(*pixel.shape[:2], -1)  # [b h n*4]
        found = jnp.take_along_axis(value, flat[..., None], axis=2, mode="promise_in_bounds")
        found = found.reshape(*pixel.shape, -1)
        return jnp.einsum("bhntd,bhnt->bhnd", found.astype(share.dtype), share)

    def add(total: Array, point: tuple[Array, Array]) -> tuple[Array, None]:
        return total + read(by_head, *point), None

    points_first = (3, 0, 2, 1, 4)
    by_point = pixel.transpose(points_first), share.transpose(points_first)
    zeros = jnp.zeros(by_head.shape, share.dtype)
    return jnp.moveaxis(lax.scan(add, zeros, by_point)[0], 1, 2)


def places(sizes: Sizes) -> np.ndarray:
    """Return where each place of all levels lies on every level [n levels 2], in its pixels."""
    shares = [
        np.stack(
            np.meshgrid(*((np.arange(n) + 0.5) / n for n in size), indexing="ij"), axis=-1
        ).reshape(-1, 2)
        for size in sizes
    ]
    return np.concatenate(shares)[:, None] * np.asarray(sizes) - 0.5
