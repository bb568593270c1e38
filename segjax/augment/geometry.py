"""Ops that move pixels: image and label together, label by nearest pixel, what comes from outside is void.

Coordinates are continuous: pixel i covers [i, i + 1). An output pixel shows the source around the point
under its centre, and its label is that of the pixel which covers the point: labels are never blended.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int32

from segjax.augment import compose
from segjax.augment.compose import Interval, Real
from segjax.errors import ConfigError
from segjax.structs import IGNORE_LABEL, Key

Fill: TypeAlias = Real | Sequence[Real]
"""Image value outside, in [0, 1]: one, or one per channel. The label there is 255."""


def flip(
    key: Key,
    image: Float[Array, "h w c"],
    label: Int32[Array, "h w"],
    *,
    horizontal: Real = 0.5,
    vertical: Real = 0,
) -> tuple[Float[Array, "h w c"], Int32[Array, "h w"]]:
    """Mirror left-right and upside-down, each with its probability."""
    compose.check_probability("flip.horizontal", horizontal)
    compose.check_probability("flip.vertical", vertical)
    draw = jax.random.uniform(key, (2,), jnp.float32)
    for axis, p in ((0, vertical), (1, horizontal)):
        image = jnp.where(draw[axis] < p, jnp.flip(image, axis), image)
        label = jnp.where(draw[axis] < p, jnp.flip(label, axis), label)
    return image, label


def affine(
    key: Key,
    image: Float[Array, "h w c"],
    label: Int32[Array, "h w"],
    *,
    size: Sequence[int],
    scale: Interval = (1, 1),
    aspect: Interval = (1, 1),
    rotate: Real = 0,
    shift: Real = 0,
    horizontal: Real = 0,
    vertical: Real = 0,
    fill: Fill = 0,
    p: Real = 1,
) -> tuple[Float[Array, "H W c"], Int32[Array, "H W"]]:
    """Scale, crop or pad to `size`, rotate and mirror, in one resampling.

    A window of `size` is laid on the scaled image, uniformly over all places where it fits or, along a
    side where the image is the shorter, where the image fits into it; then it is turned about its centre.
    Without rotation a shrunken image is filtered (triangle, as PIL's bilinear); with rotation the
    interpolation is plain bilinear.

    Args:
        key: For this example and op.
        image: In [0, 1].
        label: Classes, 255 = ignore.
        size: Height and width of the result.
        scale: Factor on both sides.
        aspect: Factor on width / height at constant area, log-uniform.
        rotate: Largest angle either way, in degrees.
        shift: Largest extra move of the window along each side, as a fraction of `size`.
        horizontal: Probability of mirroring left-right.
        vertical: Probability of mirroring upside-down.
        fill: Image value outside.
        p: Probability of everything but the crop to `size`.
    """
    _check_affine(size, scale, aspect, rotate, shift)
    for name, value in (("horizontal", horizontal), ("vertical", vertical), ("p", p)):
        compose.check_probability(f"affine.{name}", value)
    draw = jax.random.uniform(key, (10,), jnp.float32)
    applied = draw[0] < p
    factor = scale[0] + draw[1] * (scale[1] - scale[0])
    stretch = jnp.exp(0.5 * (math.log(aspect[0]) + draw[2] * math.log(aspect[1] / aspect[0])))
    move = jnp.where(applied, shift * (2 * draw[3:5] - 1), 0)
    mirror = applied & (draw[5:7] < jnp.array([vertical, horizontal], jnp.float32))
    height = jnp.where(applied, factor / stretch, 1)
    width = jnp.where(applied, factor * stretch, 1)
    rows = _place(image.shape[0], size[0], height, draw[7], move[0], mirror[0])
    columns = _place(image.shape[1], size[1], width, draw[8], move[1], mirror[1])
    if rotate == 0:
        shortest = scale[0] / math.sqrt(max(aspect[1], 1 / aspect[0], 1))
        return _resample(image, label, rows, columns, min(shortest, 1), fill)
    angle = jnp.where(applied, math.radians(rotate) * (2 * draw[9] - 1), 0)
    y, x = (axis.centres() - axis.size / 2 for axis in (rows, columns))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    y, x = y[:, None] * cos + x * sin, x * cos - y[:, None] * sin
    y, x = rows.source(y + rows.size / 2), columns.source(x + columns.size / 2)
    return _gather(image, label, y, x, fill)


def elastic(
    key: Key,
    image: Float[Array, "h w c"],
    label: Int32[Array, "h w"],
    *,
    std: Real,
    grid: int = 3,
    fill: Fill = 0,
    p: Real = 1,
) -> tuple[Float[Array, "h w c"], Int32[Array, "h w"]]:
    """Deform smoothly: random displacements on a coarse grid, interpolated bicubically.

    Ronneberger et al. 2015 (U-Net), section 3.1: `std=10` on a 3 x 3 grid.

    Args:
        key: For this example and op.
        image: In [0, 1].
        label: Classes, 255 = ignore.
        std: Standard deviation of the grid's displacements, in pixels.
        grid: Grid points along each side.
        fill: Image value outside.
        p: Probability.
    """
    compose.check_at_least("elastic.std", std, 0)
    compose.check_at_least("elastic.grid", grid, 2)
    compose.check_probability("elastic.p", p)
    chosen, noise = jax.random.split(key)
    height, width, _ = image.shape
    coarse = std * jax.random.normal(noise, (grid, grid, 2), jnp.float32)
    smooth = jax.image.resize(coarse, (height, width, 2), "cubic")
    smooth = jnp.where(jax.random.bernoulli(chosen, p), smooth, 0)
    y = smooth[..., 0] + _centres(height)[:, None]
    x = smooth[..., 1] + _centres(width)
    return _gather(image, label, y, x, fill)


class Axis(NamedTuple):
    """One side of the output window on the scaled image."""

    length: int  # of the source, in its own pixels
    size: int  # of the window
    scaled: Float32[Array, ""]  # length of the scaled source, a whole number of the window's pixels
    start: Float32[Array, ""]  # the window's first pixel on the scaled source, a whole number
    mirror: Bool[Array, ""]

    def centres(self) -> Float32[Array, " n"]:
        """Return the window's pixel centres, from the far end if mirrored."""
        at = _centres(self.size)
        return jnp.where(self.mirror, self.size - at, at)

    def source(self, at: Float32[Array, "..."]) -> Float32[Array, "..."]:
        """Return the source coordinates of places in the window."""
        return (at + self.start) * (self.length / self.scaled)


def _place(
    length: int,
    size: int,
    factor: Float32[Array, ""],
    draw: Float32[Array, ""],
    move: Float32[Array, ""],
    mirror: Bool[Array, ""],
) -> Axis:
    """Lay a window of `size` on a source scaled by `factor`, uniformly over the places that fit.

    Scaled length and start are whole, so that a window at scale 1 copies pixels instead of blurring them.
    """
    scaled = jnp.maximum(jnp.round(length * factor), 1)
    slack = scaled - size
    start = jnp.sign(slack) * jnp.floor(draw * (jnp.abs(slack) + 1))
    return Axis(length, size, scaled, start + jnp.round(move * size), mirror)


def _resample(
    image: Float[Array, "h w c"],
    label: Int32[Array, "h w"],
    rows: Axis,
    columns: Axis,
    shortest: float,
    fill: Fill,
) -> tuple[Float[Array, "H W c"], Int32[Array, "H W"]]:
    """Resample along rows, then along columns; `shortest` is the smallest factor (at most 1)."""
    # A matrix unit multiplies faster than it gathers; on a CPU the few pixels under the filter win
    # (360 x 480: 0.6 ms against 6 ms).
    along = _along_taps if jax.default_backend() == "cpu" else _along_matrix
    y, x = (axis.source(axis.centres()) for axis in (rows, columns))
    height, width, channels = image.shape
    flat = along(image.reshape(height, width * channels), 0, y, rows, shortest)
    moved = along(flat.reshape(rows.size, width, channels), 1, x, columns, shortest)
    label = jnp.take(label, _covering(y), axis=0, mode="clip")
    label = jnp.take(label, _covering(x), axis=1, mode="clip")
    return _void_outside(moved, label, _inside(y, height)[:, None] & _inside(x, width), fill)
