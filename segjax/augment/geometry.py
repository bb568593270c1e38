"""Ops that move pixels, images and maps together; what comes from outside the image is void.

Those that follow each other in a config are one interpolation, see `warp`: an image that is scaled,
turned and deformed is blurred once. Labels are never blended. The last axis in space is the
horizontal one, also that of signals; volumes have their depth first.
"""

import functools
import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32

from segjax.augment import compose, projection, warp
from segjax.augment.sample import Fill, Sample
from segjax.augment.warp import Move, Places
from segjax.config import kinds, rules
from segjax.config.kinds import Real
from segjax.errors import ConfigError
from segjax.structs import Key


@compose.geometric
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
    chosen = compose.draw_axes(draw, key, axes=axes, number=0) < jnp.array(chances, jnp.float32)
    # Mirroring along axes that no one mirrors would still move rows between devices.
    mirrored = [axis for axis, p in enumerate(chances) if p]
    size = sample.size

    def copy(array: Array) -> Array:
        for axis in mirrored:
            array = jnp.where(chosen[axis], jnp.flip(array, axis), array)
        return array

    def source(places: Places) -> Places:
        at = list(places.axes)
        for axis in mirrored:
            at[axis] = jnp.where(chosen[axis], size[axis] - at[axis], at[axis])
        return Places(tuple(at))

    return warp.apply(sample, Move(size, size, source, fill=None, reach=[1.0] * axes, copy=copy))


@compose.geometric
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
    shifted = jnp.where(applied, shift * (2 * moves - 1), 0)
    mirror = applied & (mirrors < jnp.array(chances, jnp.float32))
    sides = [
        _place(
            sample.size[i], size[i], jnp.where(applied, factors[i], 1), places[i], shifted[i], flip
        )
        for i, flip in enumerate(mirror)
    ]
    move = functools.partial(Move, sample.size, tuple(size), fill=fill)
    if rotate == 0:
        smallest = scale[0] / math.sqrt(max(aspect[1], 1 / aspect[0], 1))
        reach = [side.reach() for side in sides]
        scaled = move(functools.partial(_scaled, sides), reach=reach, smallest=min(smallest, 1.0))
        return warp.apply(sample, scaled)
    angle = jnp.where(applied, math.radians(rotate) * (2 * draw[9] - 1), 0)
    return warp.apply(sample, move(functools.partial(_turned, sides, angle)))


@compose.geometric
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

    def source(places: Places) -> Places:
        shift = smooth if places.centres else warp.linear(smooth, places)
        return Places(tuple(shift[..., axis] + at for axis, at in enumerate(places.axes)))

    return warp.apply(sample, Move(size, size, source, fill))


@compose.geometric
def perspective(
    key: Key,
    sample: Sample,
    *,
    distortion: kinds.Probability = 0.5,
    fill: Fill = 0,
    p: kinds.Probability = 1,
) -> Sample:
    """Look at the image, or at every slice of a volume, from aside: its corners move inwards.

    Args:
        key: For this example and op.
        sample: With at least two axes; the last two move.
        distortion: Each corner moves uniformly by up to so many halves of the sides (torchvision's
            `distortion_scale`).
        fill: Image value outside; class and multi-label maps are 255 there, instance maps 0.
        p: Probability.

    Raises:
        ConfigError: The data has one axis in space.
    """
    size = sample.size
    _check_plane("perspective", len(size))
    compose.check_fill("perspective.fill", fill, sample)
    chosen, corners = jax.random.split(key)
    applied = jax.random.uniform(chosen, (), jnp.float32) < p
    inward = distortion / 2 * jax.random.uniform(corners, (4, 2), jnp.float32)  # [corner (y, x)]
    signs = jnp.array([[1, 1], [1, -1], [-1, -1], [-1, 1]], jnp.float32)  # clockwise from 0, 0
    shown = jnp.array([[0, 0], [0, 1], [1, 1], [1, 0]], jnp.float32) + signs * inward
    back = projection.adjugate(projection.of_square(shown))
    height, width = size[-2:]

    def source(places: Places) -> Places:
        *before, y, x = places.axes
        v, u = y / height, x / width
        across, down, depth = (row[0] * u + row[1] * v + row[2] for row in back)
        ahead = depth > 1e-6  # behind the eye is nothing
        depth = jnp.where(ahead, depth, 1)
        new_y = jnp.where(ahead, down / depth * height, -1)
        new_x = jnp.where(ahead, across / depth * width, -1)
        return Places((*before, jnp.where(applied, new_y, y), jnp.where(applied, new_x, x)))

    return warp.apply(sample, Move(size, size, source, fill))


@compose.geometric
def grid_distortion(
    key: Key,
    sample: Sample,
    *,
    limit: Annotated[Real, rules.number(0, 0.9)] = 0.3,
    steps: Annotated[int, rules.whole(2, 64)] = 5,
    p: kinds.Probability = 1,
) -> Sample:
    """Stretch and shrink stripes along each axis; the borders stay, so that nothing is void.

    Args:
        key: For this example and op.
        sample: Of any size.
        limit: Stripes of the source are 1 - limit to 1 + limit as wide as those of the result,
            before all are brought to the image's side together (albumentations, `normalized=True`).
        steps: Stripes along each axis, of equal width in the result.
        p: Probability.
    """
    size, axes = sample.size, len(sample.size)
    chosen, each = jax.random.split(key)
    applied = jax.random.uniform(chosen, (), jnp.float32) < p
    slopes = 1 + limit * jax.random.uniform(each, (axes, steps), jnp.float32, -1, 1)
    slopes = slopes / slopes.mean(axis=1, keepdims=True)

    def source(places: Places) -> Places:
        moved = []
        for at, length, own in zip(places.axes, size, slopes, strict=True):
            stripe = length / steps
            parts = [slope * jnp.clip(at - i * stripe, 0, stripe) for i, slope in enumerate(own)]
            stretched = jnp.clip(sum(parts[1:], parts[0]), 0, length - 1e-3)
            moved.append(jnp.where(applied, stretched, at))
        return Places(tuple(moved))

    return warp.apply(sample, Move(size, size, source, fill=None, reach=[1.0] * axes))


@compose.geometric
def rotate_scale(
    key: Key,
    sample: Sample,
    *,
    size: Annotated[Sequence[kinds.Side], rules.length(2, 3)],
    rotate: Annotated[Real, rules.number(0, 180)] = 30,
    zoom: compose.Scale = (0.7, 1.4),
    in_plane: bool = False,
    fill: Fill = 0,
    p_rotate: kinds.Probability = 0.2,
    p_zoom: kinds.Probability = 0.2,
) -> Sample:
    """Turn about every axis, scale, and take the middle of `size`: nnU-Net's spatial transform.

    Args:
        key: For this example and op.
        sample: With as many axes as `size` has sides; larger by what turning brings in.
        size: The sides of the result.
        rotate: Largest angle either way about each axis of a volume, in the plane of an image, in
            degrees.
        zoom: Of the view, on all sides alike: above 1 shows more of the source, smaller.
        in_plane: Turn and scale every slice of a volume by itself, for thick ones.
        fill: Image value outside; class and multi-label maps are 255 there, instance maps 0.
        p_rotate: Probability of turning.
        p_zoom: Probability of scaling.

    Raises:
        ConfigError: `size` is for other data.
    """
    given, axes = sample.size, len(sample.size)
    if len(size) != axes:
        raise ConfigError(
            f"rotate_scale.size={size!r}: expected {axes} sides, as the data has {axes} "
            f"{'axes' if axes > 1 else 'axis'} in space."
        )
    compose.check_fill("rotate_scale.fill", fill, sample)
    draw = jax.random.uniform(key, (6,), jnp.float32)
    turns, scales = draw[0] < p_rotate, draw[1] < p_zoom
    angles = jnp.where(turns, math.radians(rotate) * (2 * draw[3:] - 1), 0)
    if axes == 2 or in_plane:
        angles = angles * jnp.array([1, 0, 0], jnp.float32)
    factor = jnp.where(scales, zoom[0] + draw[2] * (zoom[1] - zoom[0]), 1)
    matrix = projection.rotation(angles)[3 - axes :, 3 - axes :]
    flat = in_plane & (jnp.arange(axes) == 0) & (axes == 3)
    matrix = matrix * jnp.where(flat, 1, factor)
    still = ~(turns | scales)

    def source(places: Places) -> Places:
        # Whole pixels where nothing turns: a crop copies them.
        starts = [(old - new) // 2 for old, new in zip(given, size, strict=True)]
        off = [at - side / 2 for at, side in zip(places.axes, size, strict=True)]
        moved = []
        for axis, (row, at, start) in enumerate(zip(matrix, places.axes, starts, strict=True)):
            terms = [part * one for part, one in zip(row, off, strict=True)]
            there = sum(terms[1:], terms[0]) + given[axis] / 2
            moved.append(jnp.where(still, at + start, there))
        return Places(tuple(moved))

    return warp.apply(sample, Move(given, tuple(size), source, fill))


class Axis(NamedTuple):
    """One side of the output window on the scaled image."""

    length: int  # of the source, in its own pixels
    size: int  # of the window
    scaled: Float32[Array, ""]  # length of the scaled source, a whole number of the window's pixels
    start: Float32[Array, ""]  # the window's first pixel on the scaled source, a whole number
    mirror: Bool[Array, ""]

    def own(self, at: Float32[Array, "..."]) -> Float32[Array, "..."]:
        """Return places in the window, counted from the far end if mirrored."""
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


def _scaled(sides: Sequence[Axis], places: Places) -> Places:
    """Return the source of places in a window along each axis."""
    return Places(
        tuple(side.source(side.own(at)) for side, at in zip(sides, places.axes, strict=True))
    )


def _turned(sides: Sequence[Axis], angle: Float32[Array, ""], places: Places) -> Places:
    """Return the source of places in a window that is turned in the plane of the last two axes."""
    *first, y, x = (side.own(at) for side, at in zip(sides, places.axes, strict=True))
    *before, rows, columns = sides
    y, x = y - rows.size / 2, x - columns.size / 2
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    y, x = y * cos + x * sin, x * cos - y * sin
    y, x = rows.source(y + rows.size / 2), columns.source(x + columns.size / 2)
    return Places((*(side.source(at) for side, at in zip(before, first, strict=True)), y, x))


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


def _check_plane(op: str, axes: int) -> None:
    """Raise ConfigError if an op that needs a height and a width gets signals."""
    if axes == 1:
        raise ConfigError(
            f"{op}: expected data with a height and a width; signals have neither. Leave it out."
        )
