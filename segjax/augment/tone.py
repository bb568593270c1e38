"""Pillow's ImageOps and ImageEnhance as functions of images in [0, 1], of any dimension.

Pillow counts in bytes; where its rule does, values are rounded to the nearest of 256 first. What an
image of bytes gives is then Pillow's result, exactly or within the rounding that a function names.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32

from segjax.config import kinds

Image = Float[Array, "*space c"]
Number = kinds.Real | Float[Array, ""]
LEVELS = 256


def to_bits(image: Image, bits: int | Int[Array, ""]) -> Image:
    """Keep the first `bits` of 8 (`ImageOps.posterize`)."""
    step = jnp.left_shift(1, 8 - jnp.asarray(bits, jnp.int32))
    return from_bytes(to_bytes(image) // step * step, image)


def above_inverted(image: Image, threshold: Number) -> Image:
    """Invert values from `threshold` on (`ImageOps.solarize`, whose threshold is 255 times it)."""
    return jnp.where(image < threshold, image, 1 - image)


def equalized(image: Image) -> Image:
    """Make all levels of each channel as frequent (`ImageOps.equalize`)."""
    values = to_bytes(image)
    channels = image.shape[-1]
    slots = values + LEVELS * jnp.arange(channels, dtype=jnp.int32)
    counts = jnp.zeros(channels * LEVELS, jnp.int32).at[slots.ravel()].add(1, mode="drop")
    counts = counts.reshape(channels, LEVELS)
    last = LEVELS - 1 - jnp.argmax(counts[:, ::-1] > 0, axis=1)
    of_last = jnp.take_along_axis(counts, last[:, None], axis=1)
    step = (counts.sum(1, keepdims=True) - of_last) // (LEVELS - 1)
    before = jnp.cumsum(counts, axis=1) - counts
    table = jnp.minimum((step // 2 + before) // jnp.maximum(step, 1), LEVELS - 1)
    table = jnp.where(step == 0, jnp.arange(LEVELS, dtype=jnp.int32), table)
    return from_bytes(jnp.take(table.ravel(), slots, mode="clip"), image)


def stretched(image: Image) -> Image:
    """Bring the least value of each channel to 0 and the largest to 1 (`ImageOps.autocontrast`).

    Pillow's result is this one, cut to bytes.
    """
    space = tuple(range(image.ndim - 1))
    low, high = image.min(space), image.max(space)
    flat = high <= low
    return jnp.where(flat, image, jnp.clip((image - low) / jnp.where(flat, 1, high - low), 0, 1))


def sharpened(image: Image, factor: Number) -> Image:
    """Move away from a blurred image above factor 1, towards it below (`ImageEnhance.Sharpness`).

    The blur weighs a pixel 5 and each neighbour 1, and leaves the border as it is. Pillow's result
    is this one, within a byte: it rounds the blurred image.
    """
    axes = range(image.ndim - 1)
    total = functools.reduce(_three, axes, image)
    inside = np.zeros(image.shape[:-1], bool)
    inside[(slice(1, -1),) * len(axes)] = True
    blurred = jnp.where(inside[..., None], (total + 4 * image) / (3 ** len(axes) + 4), image)
    return jnp.clip(blurred + factor * (image - blurred), 0, 1)


def blended(image: Image, other: Float[Array, "*space _"] | Number, factor: Number) -> Image:
    """Go from `other`, at factor 0, over the image, at 1, beyond it; clipped to [0, 1]."""
    return jnp.clip(other + factor * (image - other), 0, 1)


def to_bytes(image: Image) -> Int32[Array, "*space c"]:
    """Return values in [0, 1] as the nearest of 0 to 255."""
    return jnp.clip(jnp.round(image * (LEVELS - 1)), 0, LEVELS - 1).astype(jnp.int32)


def from_bytes(values: Int32[Array, "*space c"], like: Image) -> Image:
    """Return 0 to 255 as values in [0, 1]."""
    return values.astype(like.dtype) / (LEVELS - 1)


def _three(image: Image, axis: int) -> Image:
    """Return the sum of each pixel and both its neighbours along an axis; 0 beyond the border."""
    widths = [(int(i == axis), int(i == axis)) for i in range(image.ndim)]
    padded = jnp.pad(image, widths)
    first, middle, last = (
        jax.lax.slice_in_dim(padded, start, start + image.shape[axis], axis=axis)
        for start in range(3)
    )
    return first + middle + last
