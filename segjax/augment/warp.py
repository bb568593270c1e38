"""Move the pixels of an example: the one place that knows how each kind of field moves.

A geometric op says by a `Move` where each place of its result lies in what it is given. Moves that
follow each other are one function, from the last result to the first source: however many there
are, an image is interpolated once.

Coordinates are continuous: pixel i covers [i, i + 1). A pixel of a result shows the source around
the point under its centre, and takes the label of the pixel that covers it.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int32, Integer

from segjax.augment.sample import Fill, Sample
from segjax.kernels import resize


class Places(NamedTuple):
    """Points, as their coordinates in pixels.

    Attributes:
        axes: Along each axis in space; together they broadcast to the size of a result.
        centres: Whether they are the centres of its pixels, each in its own place.
    """

    axes: tuple[Float32[Array, "..."], ...]
    centres: bool = False


class Move(NamedTuple):
    """One geometric step.

    Attributes:
        given: The sides of what moves.
        size: The sides of the result.
        source: From places in the result to places in what moves.
        fill: Image value where these lie outside; None: none does.
        reach: Half the width of the filter that an image needs along each axis, in pixels, where
            places keep to their axes: the coordinate along one depends on no other. Empty: they do
            not, and an image is interpolated between the nearest pixels, whatever the scale.
        smallest: `1 / smallest` is at least `reach`.
        copy: Moves any array without interpolation; taken where nothing before needs one.
    """

    given: tuple[int, ...]
    size: tuple[int, ...]
    source: Callable[[Places], Places]
    fill: Fill | None = 0
    reach: Sequence[float | Float32[Array, ""]] = ()
    smallest: float = 1.0
    copy: Callable[[Array], Array] | None = None


def apply(sample: Sample, move: Move) -> Sample:
    """Move every field by its kind: images are interpolated, maps never blended, values stay.

    What comes from outside the source is `fill` in images, void in class maps and no instance in
    instance maps. Of a sample that collects moves nothing moves before `settle`.
    """
    if sample.moves is None:
        return _moved(sample, (move,))
    return dataclasses.replace(sample, moves=(*sample.moves, move))


def settle(sample: Sample) -> Sample:
    """Return a sample whose collected moves are made; it collects no more."""
    moves, sample = sample.moves, dataclasses.replace(sample, moves=None)
    return _moved(sample, moves) if moves else sample


def centres(size: Sequence[int]) -> Places:
    """Return the centres of the pixels of a grid."""
    lines = [jnp.arange(length, dtype=jnp.float32) + 0.5 for length in size]
    return Places(tuple(across(line, axis, len(size)) for axis, line in enumerate(lines)), True)


def across(line: Float32[Array, " n"], axis: int, axes: int) -> Float32[Array, "..."]:
    """Return numbers along one of several axes, shaped to broadcast over the others."""
    return line.reshape(-1, *[1] * (axes - 1 - axis))


def _moved(sample: Sample, moves: Sequence[Move]) -> Sample:
    """Return the sample after all moves, interpolated once; first ones that copy just copy."""
    spatial = {name: field for name, field in sample.schema.items() if field.is_spatial}
    while moves and (copy := moves[0].copy) is not None:
        sample = sample.replace(**{name: copy(sample.arrays[name]) for name in spatial})
        moves = moves[1:]
    if not moves:
        return sample
    along = all(move.reach for move in moves)
    places, outside = centres(moves[-1].size), []
    reach: list[float | Float32[Array, ""]] = [1.0] * len(places.axes)
    for move in reversed(moves):
        places = move.source(places)
        if move.fill is not None:
            outside.append((_inside(places, move.given), move.fill))
        reach = [mine * other for mine, other in zip(reach, move.reach or reach, strict=True)]
    smallest = math.prod(move.smallest for move in moves)
    moved = {}
    for name, field in spatial.items():
        array = sample.arrays[name]
        if field.is_map:
            moved[name] = nearest(array, places, along=along)
        elif along:
            moved[name] = _filtered(array, places, reach, smallest)
        else:
            moved[name] = linear(array, places)
    return _filled(sample.replace(**moved), outside, moves[-1].size)


def _filled(
    sample: Sample, outside: Sequence[tuple[Bool[Array, "..."], Fill]], size: Sequence[int]
) -> Sample:
    """Fill what each move, the last one first, saw outside of what it was given."""
    shown = [inside for inside, _ in outside]
    fills = [fill for _, fill in outside]
    if all(fill == fills[0] for fill in fills):  # one pass
        shown, fills = [functools.reduce(jnp.logical_and, shown)] if shown else [], fills[:1]
    for inside, fill in zip(reversed(shown), reversed(fills), strict=True):
        sample = sample.keep(jnp.broadcast_to(inside, size), fill=fill)
    return sample


def linear(array: Float[Array, "*space c"], places: Places) -> Float[Array, "*out c"]:
    """Interpolate an image at places, between the nearest pixels; its border's repeat beyond it."""
    size = array.shape[:-1]
    flat = array.reshape(math.prod(size), array.shape[-1])
    lows = [_pixel(at - 0.5) for at in places.axes]
    shares = [
        (at - 0.5 - low.astype(jnp.float32)).astype(array.dtype)[..., None]
        for at, low in zip(places.axes, lows, strict=True)
    ]

    def blend(*chosen: Int32[Array, "..."]) -> Float[Array, "..."]:
        """Interpolate along the axes of which no pixel is chosen yet."""
        axis = len(chosen)
        if axis == len(size):
            return jnp.take(flat, _number(chosen, size), axis=0, mode="clip")
        low, share = lows[axis], shares[axis]
        return blend(*chosen, low) * (1 - share) + blend(*chosen, low + 1) * share

    return blend()


def nearest(array: Integer[Array, "..."], places: Places, *, along: bool) -> Integer[Array, "..."]:
    """Take, of a map [*space ...], the pixel that covers each place.

    With `along` every coordinate depends on the place along its own axis alone.
    """
    pixels = [_pixel(at) for at in places.axes]
    if along:
        for axis, pixel in enumerate(pixels):
            array = jnp.take(array, pixel.reshape(-1), axis=axis, mode="clip")
        return array
    size = array.shape[: len(pixels)]
    flat = array.reshape(math.prod(size), *array.shape[len(size) :])
    return jnp.take(flat, _number(pixels, size), axis=0, mode="clip")


def _filtered(
    array: Float[Array, "*space c"],
    places: Places,
    reach: Sequence[float | Float32[Array, ""]],
    smallest: float,
) -> Float[Array, "*out c"]:
    """Resample along one axis after the other."""
    for axis, (at, width) in enumerate(zip(places.axes, reach, strict=True)):
        *before, length = array.shape[: axis + 1]
        behind = array.shape[axis + 1 :]
        lead = [math.prod(before)] if before else []
        flat = array.reshape(*lead, length, math.prod(behind))
        flat = resize.filtered(
            flat, at.reshape(-1), jnp.float32(width), axis=len(lead), smallest=smallest
        )
        array = flat.reshape(*before, at.size, *behind)
    return array


def _number(pixels: Sequence[Int32[Array, "..."]], size: Sequence[int]) -> Int32[Array, "..."]:
    """Return the numbers of pixels in a flat image, of the nearest for those outside."""
    numbers = jnp.clip(pixels[0], 0, size[0] - 1)
    for at, length in zip(pixels[1:], size[1:], strict=True):
        numbers = numbers * length + jnp.clip(at, 0, length - 1)
    return numbers


def _pixel(at: Float32[Array, "..."]) -> Int32[Array, "..."]:
    """Return the index of the pixel that covers a coordinate."""
    return jnp.floor(at).astype(jnp.int32)


def _inside(places: Places, size: Sequence[int]) -> Bool[Array, "..."]:
    inside = [(at >= 0) & (at < length) for at, length in zip(places.axes, size, strict=True)]
    return functools.reduce(jnp.logical_and, inside)
