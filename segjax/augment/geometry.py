"""Ops that move pixels, image and label together; what comes from outside the image is void.

Coordinates are continuous: pixel i covers [i, i + 1). An output pixel shows the source around the
point under its centre, and takes the label of the pixel that covers it: labels are never blended.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int32

from segjax.augment import compose
from segjax.augment.compose import Fill, Interval, Real
from segjax.errors import ConfigError
from segjax.kernels import resize
from segjax.structs import IGNORE_LABEL, Key


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
        if p == 0:
            continue  # mirroring rows that no one sees would still move them between devices
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

    A window of `size` is laid on the scaled image, uniformly over the places where it fits (along a
    side where the image is shorter: where the image fits into it), then turned about its centre.
    Without `rotate` a shrunken image is filtered (triangle, as PIL's bilinear); with it the
    interpolation is plain bilinear, whatever the angle.

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
        fill: Image value outside; the label there is 255.
        p: Probability of everything but the crop to `size`.
    """
    _check_affine(size, scale, aspect, rotate, shift)
    for name, value in (("horizontal", horizontal), ("vertical", vertical), ("p", p)):
        compose.check_probability(f"affine.{name}", value)
    compose.check_fill("affine.fill", fill, image.shape[-1])
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
        smallest = scale[0] / math.sqrt(max(aspect[1], 1 / aspect[0], 1))
        return _resample(image, label, rows, columns, min(smallest, 1.0), fill)
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
        fill: Image value outside; the label there is 255.
        p: Probability.
    """
    compose.check_number("elastic.std", std)
    compose.check_number("elastic.grid", grid, lowest=2)
    compose.check_fill("elastic.fill", fill, image.shape[-1])
    compose.check_probability("elastic.p", p)
    chosen, noise = jax.random.split(key)
    height, width, _ = image.shape
    coarse = std * jax.random.normal(noise, (grid, grid, 2), jnp.float32)
    smooth = jax.image.resize(coarse, (height, width, 2), "cubic")
    smooth = jnp.where(jax.random.uniform(chosen, (), jnp.float32) < p, smooth, 0)
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
        # The quotient first: at scale 1 it is exactly 1, however XLA rewrites the division.
        return (at + self.start) * (self.length / self.scaled)

    def reach(self) -> Float32[Array, ""]:
        """Return the half-width of the interpolation filter, in source pixels."""
        return jnp.maximum(self.length / self.scaled, 1)


def _place(
    length: int,
    size: int,
    factor: Float32[Array, ""],
    draw: Float32[Array, ""],
    move: Float32[Array, ""],
    mirror: Bool[Array, ""],
) -> Axis:
    """Lay a window of `size` on a source scaled by `factor`, uniformly over the places that fit.

    Scaled length and start are whole: a window at scale 1 copies pixels instead of blurring them.
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
    smallest: float,
    fill: Fill,
) -> tuple[Float[Array, "H W c"], Int32[Array, "H W"]]:
    """Resample along rows, then columns; `smallest` is the least factor that a side can get."""
    y, x = (axis.source(axis.centres()) for axis in (rows, columns))
    height, width, channels = image.shape
    flat = resize.filtered(
        image.reshape(height, width * channels), y, rows.reach(), axis=0, smallest=smallest
    )
    flat = flat.reshape(rows.size, width, channels)
    image = resize.filtered(flat, x, columns.reach(), axis=1, smallest=smallest)
    label = jnp.take(label, _pixel(y), axis=0, mode="clip")
    label = jnp.take(label, _pixel(x), axis=1, mode="clip")
    return _fill_outside(image, label, _inside(y, height)[:, None] & _inside(x, width), fill)


def _gather(
    image: Float[Array, "h w c"],
    label: Int32[Array, "h w"],
    y: Float32[Array, "H W"],
    x: Float32[Array, "H W"],
    fill: Fill,
) -> tuple[Float[Array, "H W c"], Int32[Array, "H W"]]:
    """Look up image (bilinear) and label (covering pixel) at any source coordinates."""
    height, width, channels = image.shape
    top, left = _pixel(y - 0.5), _pixel(x - 0.5)
    down = (y - 0.5 - top.astype(jnp.float32)).astype(image.dtype)[..., None]
    right = (x - 0.5 - left.astype(jnp.float32)).astype(image.dtype)[..., None]
    pixels = image.reshape(height * width, channels)

    def at(row: Int32[Array, "H W"], column: Int32[Array, "H W"]) -> Int32[Array, "H W"]:
        return jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1)

    def blend(row: Int32[Array, "H W"]) -> Float[Array, "H W c"]:
        near = jnp.take(pixels, at(row, left), axis=0, mode="clip")
        far = jnp.take(pixels, at(row, left + 1), axis=0, mode="clip")
        return near * (1 - right) + far * right

    image = blend(top) * (1 - down) + blend(top + 1) * down
    label = jnp.take(label.reshape(-1), at(_pixel(y), _pixel(x)), mode="clip")
    return _fill_outside(image, label, _inside(y, height) & _inside(x, width), fill)


def _fill_outside(
    image: Float[Array, "H W c"],
    label: Int32[Array, "H W"],
    inside: Bool[Array, "H W"],
    fill: Fill,
) -> tuple[Float[Array, "H W c"], Int32[Array, "H W"]]:
    """Put `fill` into the image and void into the label where the source has no pixel."""
    image = jnp.where(inside[..., None], image, jnp.asarray(fill, image.dtype))
    return image, jnp.where(inside, label, IGNORE_LABEL)


def _centres(size: int) -> Float32[Array, " n"]:
    return jnp.arange(size, dtype=jnp.float32) + 0.5


def _pixel(at: Float32[Array, "..."]) -> Int32[Array, "..."]:
    """Return the index of the pixel that covers a coordinate."""
    return jnp.floor(at).astype(jnp.int32)


def _inside(at: Float32[Array, "..."], length: int) -> Bool[Array, "..."]:
    return (at >= 0) & (at < length)


def _check_affine(
    size: Sequence[int], scale: Interval, aspect: Interval, rotate: Real, shift: Real
) -> None:
    """Raise ConfigError for arguments of `affine` that make no sense."""
    whole = isinstance(size, (tuple, list)) and all(isinstance(side, int) for side in size)
    if not whole or len(size) != 2 or min(size) < 1:
        raise ConfigError(
            f"affine.size={size!r}: expected (height, width) in whole pixels, as (360, 480)."
        )
    compose.check_interval("affine.scale", scale, positive=True)
    compose.check_interval("affine.aspect", aspect, positive=True)
    compose.check_number("affine.rotate", rotate, highest=180)
    compose.check_number("affine.shift", shift)
