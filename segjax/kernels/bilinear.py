"""Which pixels of a map lie around a point, and what each counts: bilinear sampling.

A point is (y, x) from 0 to 1, so that it lies at the same place of a map of any resolution. What
lies outside of a map is 0.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

Points = Float[Array, "*n p 2"]


class Taps(NamedTuple):
    """The four pixels around each point.

    Attributes:
        pixel: Their numbers, row by row; 0 where there is none.
        share: What each counts; 0 where there is none.
    """

    pixel: Int32[Array, "*n p 4"]
    share: Float[Array, "*n p 4"]


def taps(points: Points, size: Sequence[int]) -> Taps:
    """Return the pixels around points of a map of `size`."""
    return around(points * jnp.asarray(size, points.dtype) - 0.5, size)


def around(place: Points, size: Sequence[int]) -> Taps:
    """Return the pixels around places in pixels of a map of `size`; the first one's centre is 0.

    By a place on a pixel's centre the gradient is that towards the next pixel, as PyTorch has it.
    """
    sides = jnp.asarray(size, place.dtype)
    low = jnp.floor(place)
    far = place - low
    near = jnp.stack([low, low + 1])  # [2 *n p axis]
    inside = (near >= 0) & (near < sides)
    share = jnp.where(inside, jnp.stack([1 - far, far]), 0)
    index = jnp.where(inside, near, 0).astype(jnp.int32)
    pixels, shares = [], []
    for i in range(2):
        for j in range(2):
            pixels.append(index[i, ..., 0] * size[1] + index[j, ..., 1])
            shares.append(share[i, ..., 0] * share[j, ..., 1])
    return Taps(jnp.stack(pixels, axis=-1), jnp.stack(shares, axis=-1))
