"""Ops that move pixels, images and maps together; what comes from outside the image is void.

Coordinates are continuous: pixel i covers [i, i + 1). An output pixel shows the source around the
point under its centre, and takes the label of the pixel that covers it: labels are never blended.
The last axis in space is the horizontal one, also that of signals; volumes have their depth first.
"""

import functools
import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int32, Integer

from segjax.augment import compose, warp
from segjax.augment.compose import Fill, Sample
from segjax.augment.warp import Warp
from segjax.config import kinds, rules
from segjax.config.kinds import Real
from segjax.errors import ConfigError
from segjax.kernels import resize
from segjax.structs import Key


def flip(
    key: Key,
    sample: Sample,
    *,
    horizontal: kinds.Probability = 0.5,
    vertical: kinds.Probability = 0,
    depth: kinds.Probability = 0,
) -> Sample:
    """Mirror left-right, upside-down and front-back, each with its probability."""
    axes = len(sample.size)
    chances = _mirror_chances("flip", axes, depth, vertical, horizontal)
    draw = jax.random.uniform(key, (2,), jnp.float32)
    for axis, (p, drawn) in enumerate(
        zip(chances, compose.draw_axes(draw, key, axes=axes, number=0), strict=True)
    ):
        if p == 0:
            continue  # mirroring rows that no one sees would still move them between devices

        def mirror(array: Array, axis: int = axis, chosen: Array = drawn < p) -> Array:
            return jnp.where(chosen, jnp.flip(array, axis), array)

        sample = warp.apply(sample, Warp(mirror, mirror))
    return sample


def affine(
    key: Key,
    sample: Sample,
    *,
    size: Annotated[Sequence[kinds.Side], rules.length(1, 3)],
    scale: compose.Scale = (1, 1),
    aspect: compose.Scale = (1, 1),
    rotate: Annotated[Real, rules.number(0, 180)] = 0,
    shift: Annotated[Real, rules.number(0, 100)] = 0,
    horizontal: kinds.Probability = 0,
    vertical: kinds.Probability = 0,
    depth: kinds.Probability = 0,
    fill: Fill = 0,
    p: kinds.Probability = 1,
) -> Sample:
    """Scale, crop or pad to `size`, rotate and mirror, in one resampling.

    A window of `size` is laid on the scaled image, uniformly over the places where it fits (along a
    side where the image is shorter: where the image fits into it), then turned about its centre.
    Without `rotate` a shrunken image is filtered (triangle, as PIL's bilinear); with it the
    interpolation is plain linear, whatever the angle.

    Args:
        key: For this example and op.
        sample: Of any size, with as many axes as `size` has sides.
        size: The sides of the result.
        scale: Factor on all sides.
        aspect: Factor on width / height at constant area, log-uniform.
        rotate: Largest angle either way in the plane of the last two axes, in degrees.
        shift: Largest extra move of the window along each side, as a fraction of `size`.
        horizontal: Probability of mirroring left-right.
        vertical: Probability of mirroring upside-down.
        depth: Probability of mirroring front-back.
        fill: Image value outside; class and multi-label maps are 255 there, instance maps 0.
        p: Probability of everything but the crop to `size`.

    Raises:
        ConfigError: An argument out of range, or one that the data has no axes for.
    """
    axes = len(sample.size)
    _check_affine(size, axes, aspect, rotate)
    chances = _mirror_chances("affine", axes, depth, vertical, horizontal)
    compose.check_fill("affine.fill", fill, sample)
    draw = jax.random.uniform(key, (10,), jnp.float32)
    moves, mirrors, places = (
        compose.draw_axes(draw[first : first + 2], key, axes=axes, number=first)
        for first in (3, 5, 7)
    )
    applied = draw[0] < p
    factor = scale[0] + draw[1] * (scale[1] - scale[0])
    factors = [factor] * axes
    if axes > 1:
        stretch = jnp.exp(0.5 * (math.log(aspect[0]) + draw[2] * math.log(aspect[1] / aspect[0])))
        factors[-2:] = factor / stretch, factor * stretch
    move = jnp.where(applied, shift * (2 * moves - 1), 0)
    mirror = applied & (mirrors < jnp.array(chances, jnp.float32))
    sides = [
        _place(sample.size[i], size[i], jnp.where(applied, factors[i], 1), places[i], move[i], flip)
        for i, flip in enumerate(mirror)
    ]
    if rotate == 0:
        smallest = scale[0] / math.sqrt(max(aspect[1], 1 / aspect[0], 1))
        return warp.apply(sample, _resampling(sides, min(smallest, 1.0)), fill=fill)
    *before, rows, columns = sides
    angle = jnp.where(applied, math.radians(rotate) * (2 * draw[9] - 1), 0)
    y, x = (axis.centres() - axis.size / 2 for axis in (rows, columns))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    y, x = y[:, None] * cos + x * sin, x * cos - y[:, None] * sin
    y, x = rows.source(y + rows.size / 2), columns.source(x + columns.size / 2)
    first = [axis.source(axis.centres())[:, None, None] for axis in before]
    return warp.apply(sample, _gathering(sample.size, [*first, y, x]), fill=fill)


def elastic(
    key: Key,
    sample: Sample,
    *,
    std: Annotated[Real, rules.number(0, 1e6)],
    grid: Annotated[int, rules.whole(2, 256)] = 3,
    fill: Fill = 0,
    p: kinds.Probability = 1,
) -> Sample:
    """Deform smoothly: random displacements on a coarse grid, interpolated bicubically.

    Ronneberger et al. 2015 (U-Net), section 3.1: `std=10` on a 3 x 3 grid.

    Args:
        key: For this example and op.
        sample: Of any size.
        std: Standard deviation of the grid's displacements, in pixels.
        grid: Grid points along each side.
        fill: Image value outside; class and multi-label maps are 255 there, instance maps 0.
        p: Probability.
    """
    compose.check_fill("elastic.fill", fill, sample)
    chosen, noise = jax.random.split(key)
    size, axes = sample.size, len(sample.size)
    coarse = std * jax.random.normal(noise, (*[grid] * axes, axes), jnp.float32)
    smooth = jax.image.resize(coarse, (*size, axes), "cubic")
    smooth = jnp.where(jax.random.uniform(chosen, (), jnp.float32) < p, smooth, 0)
    coordinates = [
        smooth[..., axis] + _centres(length).reshape(-1, *[1] * (axes - 1 - axis))
        for axis, length in enumerate(size)
    ]
    return warp.apply(sample, _gathering(size, coordinates), fill=fill)


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


def _resampling(sides: Sequence[Axis], smallest: float) -> Warp:
    """Resample along one axis after the other; `smallest` is the least factor that a side gets."""
    sources = [side.source(side.centres()) for side in sides]

    def image(array: Float[Array, "*space c"]) -> Float[Array, "*out c"]:
        for axis, (side, source) in enumerate(zip(sides, sources, strict=True)):
            *before, length = array.shape[: axis + 1]
            behind = array.shape[axis + 1 :]
            lead = [math.prod(before)] if before else []
            flat = array.reshape(*lead, length, math.prod(behind))
            flat = resize.filtered(flat, source, side.reach(), axis=len(lead), smallest=smallest)
            array = flat.reshape(*before, side.size, *behind)
        return array

    def nearest(array: Integer[Array, "..."]) -> Integer[Array, "..."]:
        for axis, source in enumerate(sources):
            array = jnp.take(array, _pixel(source), axis=axis, mode="clip")
        return array

    inside = [_inside(at, side.length) for side, at in zip(sides, sources, strict=True)]
    return Warp(image, nearest, compose.box(inside))


def _gathering(size: Sequence[int], coordinates: Sequence[Float32[Array, "..."]]) -> Warp:
    """Look up images (linearly) and maps (the covering pixel) at any source coordinates.

    Args:
        size: The sides of the source.
        coordinates: Along each of its axes; together they broadcast to the result's size.
    """
    lows = [_pixel(at - 0.5) for at in coordinates]

    def number(pixels: Sequence[Int32[Array, "..."]]) -> Int32[Array, "..."]:
        """Return the numbers of pixels in the flat source, of the nearest for those outside."""
        numbers = jnp.clip(pixels[0], 0, size[0] - 1)
        for at, length in zip(pixels[1:], size[1:], strict=True):
            numbers = numbers * length + jnp.clip(at, 0, length - 1)
        return numbers

    def image(array: Float[Array, "*space c"]) -> Float[Array, "*out c"]:
        flat = array.reshape(math.prod(size), array.shape[-1])
        shares = [
            (at - 0.5 - low.astype(jnp.float32)).astype(array.dtype)[..., None]
            for at, low in zip(coordinates, lows, strict=True)
        ]

        def blend(*chosen: Int32[Array, "..."]) -> Float[Array, "..."]:
            """Interpolate along the axes of which no pixel is chosen yet."""
            axis = len(chosen)
            if axis == len(size):
                return jnp.take(flat, number(chosen), axis=0, mode="clip")
            low, share = lows[axis], shares[axis]
            return blend(*chosen, low) * (1 - share) + blend(*chosen, low + 1) * share

        return blend()

    def nearest(array: Integer[Array, "..."]) -> Integer[Array, "..."]:
        pixels = [_pixel(at) for at in coordinates]
        flat = array.reshape(math.prod(size), *array.shape[len(size) :])
        return jnp.take(flat, number(pixels), axis=0, mode="clip")

    inside = [_inside(at, length) for at, length in zip(coordinates, size, strict=True)]
    return Warp(image, nearest, functools.reduce(jnp.logical_and, inside))


def _centres(size: int) -> Float32[Array, " n"]:
    return jnp.arange(size, dtype=jnp.float32) + 0.5


def _pixel(at: Float32[Array, "..."]) -> Int32[Array, "..."]:
    """Return the index of the pixel that covers a coordinate."""
    return jnp.floor(at).astype(jnp.int32)


def _inside(at: Float32[Array, "..."], length: int) -> Bool[Array, "..."]:
    return (at >= 0) & (at < length)


def _mirror_chances(
    op: str, axes: int, depth: Real, vertical: Real, horizontal: Real
) -> list[Real]:
    """Return the probability of mirroring each axis that there is, first to last.

    Raises:
        ConfigError: One is for an axis that the data has not.
    """
    chances = {"depth": depth, "vertical": vertical, "horizontal": horizontal}
    for number, (name, p) in enumerate(chances.items()):
        if p and number < 3 - axes:
            raise ConfigError(
                f"{op}.{name}={p}: the data has {axes} {'axes' if axes > 1 else 'axis'} in space, "
                f"expected {3 - number} for it. Leave it out."
            )
    return list(chances.values())[3 - axes :]


def _check_affine(size: Sequence[int], axes: int, aspect: compose.Pair, rotate: Real) -> None:
    """Raise ConfigError for arguments of `affine` that do not go with the data."""
    if len(size) != axes:
        wanted = ("(length,) as (512,)", "(height, width) as (360, 480)", "(depth, height, width)")
        raise ConfigError(
            f"affine.size={size!r}: expected {wanted[axes - 1]}, as the data has "
            f"{axes} {'axes' if axes > 1 else 'axis'} in space."
        )
    if axes == 1 and (rotate or tuple(aspect) != (1, 1)):
        raise ConfigError(
            f"affine.rotate={rotate}, affine.aspect={aspect}: expected data with a height and a "
            "width; signals have neither. Leave both out."
        )
