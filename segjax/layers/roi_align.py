"""ROIAlign (He et al. 2017, arXiv:1703.06870, section 3): features of boxes, on grids of one size.

Along each axis a cell is the mean of samples, and a sample blends two neighbours. Levels are
taken together: each box reads its own.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from segjax.kernels import sums
from segjax.layers import boxes as boxes_lib
from segjax.structs import Features

CANONICAL_SIDE, CANONICAL_STRIDE = 224, 16
"""A square box of that side reads the level of that stride (Lin et al. 2017, equation 1)."""


def levels_of(boxes: Float[Array, "m 4"], strides: Sequence[int]) -> Int[Array, " m"]:
    """Return the number of the level that each box reads: twice as large, one coarser."""
    side = jnp.sqrt(boxes_lib.area(boxes))
    first, last = (int(math.log2(stride)) for stride in (strides[0], strides[-1]))
    # Away from the threshold by as much as torchvision, so that rounding decides nothing.
    level = jnp.floor(math.log2(CANONICAL_STRIDE) + jnp.log2(side / CANONICAL_SIDE) + 1e-6)
    return jnp.clip(level, first, last).astype(jnp.int32) - first


def spans(boxes: Float[Array, "m 4"], *, aligned: bool) -> tuple[Array, Array]:
    """Return the starts and the lengths [m 2] of boxes as they are sampled.

    Args:
        boxes: In cells of the features.
        aligned: The centre of the first cell is at 0.5, as detectron2 has it; otherwise it is at 0,
            and no box is shorter than a cell, as in torchvision's models.
    """
    starts, lengths = boxes[:, :2], boxes_lib.sides(boxes)
    return (starts - 0.5, lengths) if aligned else (starts, jnp.maximum(lengths, 1))


def taps(
    start: Float[Array, " m"],
    length: Float[Array, " m"],
    extent: Int[Array, " m"],
    *,
    cells: int,
    sampling: int,
) -> tuple[Array, Array]:
    """Return which places along an axis each cell reads, and their weights: both [m cells taps].

    Args:
        start: Of the sampled span.
        length: Of the sampled span.
        extent: How many places there are along the axis.
        cells: Of the grid, along the axis.
        sampling: Samples of each cell.
    """
    share = (np.arange(cells)[:, None] + (np.arange(sampling) + 0.5) / sampling) / cells
    place = start[:, None, None] + jnp.asarray(share, start.dtype) * length[:, None, None]
    last = extent[:, None, None] - 1
    place = jnp.clip(place, 0, last.astype(start.dtype))
    low = jnp.floor(place).astype(jnp.int32)
    far = place - low.astype(start.dtype)
    places = jnp.stack([low, jnp.minimum(low + 1, last)], axis=-1)
    weights = jnp.stack([1 - far, far], axis=-1) / sampling
    shape = (len(start), cells, 2 * sampling)
    return places.reshape(shape), weights.reshape(shape)


def matrix(
    start: Float[Array, ""], length: Float[Array, ""], *, extent: int, cells: int
) -> Float[Array, "{cells} {extent}"]:
    """Return the weights of every place along an axis, of as many samples as a cell is long.

    torchvision and detectron2 sample so where they are given no number: `ceil(length / cells)`.
    """
    most = max(1, -(-extent // cells))
    count = jnp.clip(jnp.ceil(length / cells), 1, most)
    number = jnp.arange(most).astype(start.dtype)
    step = length / cells
    place = start + (jnp.arange(cells).astype(start.dtype)[:, None] + (number + 0.5) / count) * step
    near = jnp.clip(place, 0, extent - 1)[..., None] - jnp.arange(extent).astype(start.dtype)
    weight = jnp.maximum(1 - jnp.abs(near), 0)  # [cells most extent]
    return jnp.where((number < count)[:, None], weight, 0).sum(1) / count


def pool(
    levels: Sequence[Features],
    boxes: Float[Array, "b m 4"],
    *,
    strides: Sequence[int],
    cells: int,
    sampling: int = 2,
    aligned: bool = False,
) -> Float[Array, "b m {cells} {cells} c"]:
    """Return the features of boxes, each of the level that its size asks for.

    Boxes have no gradient. With a number of samples every tap is one gather of all boxes, in a
    loop: little memory, and a gradient that is as many scatters. With as many samples as cells are
    long, products with a matrix for each box: several times as slow.

    Args:
        levels: [b h w c] each, the finest first.
        boxes: In pixels of the image.
        strides: Pixels of the image from place to place of each level, powers of two.
        cells: Along each side of the grids.
        sampling: Samples of each cell along each side; 0: as many as a cell is long.
        aligned: See `spans`.
    """
    boxes, dtype = lax.stop_gradient(boxes), levels[0].dtype
    wide = [x.astype(sums.widen(dtype)) for x in levels]
    options: dict[str, Any] = {"strides": strides, "cells": cells, "aligned": aligned}
    if sampling:
        options |= {"sampling": sampling, "sizes": [x.shape[1:3] for x in levels]}
        flat = jnp.concatenate([x.reshape(x.shape[0], -1, x.shape[-1]) for x in wide], axis=1)
        found = jax.vmap(lambda x, own: _gathered(x, own, **options))(flat, boxes)
    else:
        found = jax.vmap(lambda x, own: _multiplied(x, own, **options))(wide, boxes)
    return found.astype(dtype)


def _gathered(
    flat: Float[Array, "places c"],
    boxes: Float[Array, "m 4"],
    *,
    sizes: Sequence[Sequence[int]],
    strides: Sequence[int],
    cells: int,
    sampling: int,
    aligned: bool,
) -> Float[Array, "m {cells} {cells} c"]:
    """Return the features of one image's boxes, all levels' places in a row."""
    level = levels_of(boxes, strides)
    own = boxes / jnp.asarray(strides, boxes.dtype)[level][:, None]
    starts, lengths = spans(own, aligned=aligned)
    size = jnp.asarray(sizes, jnp.int32)[level]
    first = np.cumsum([0, *(h * w for h, w in sizes[:-1])])
    (ys, of_ys), (xs, of_xs) = (
        taps(starts[:, axis], lengths[:, axis], size[:, axis], cells=cells, sampling=sampling)
        for axis in range(2)
    )
    rows = jnp.asarray(first, jnp.int32)[level][:, None, None] + ys * size[:, 1, None, None]
    places = rows[:, :, None, :, None] + xs[:, None, :, None, :]  # [m y x taps taps]
    weights = of_ys[:, :, None, :, None] * of_xs[:, None, :, None, :]
    count = (2 * sampling) ** 2

    def add(total: Array, tap: tuple[Array, Array]) -> tuple[Array, None]:
        place, weight = tap
        return total + weight[:, None].astype(flat.dtype) * flat[place], None

    by_tap = places.reshape(-1, count).T, weights.reshape(-1, count).T
    zeros = jnp.zeros((len(boxes) * cells**2, flat.shape[-1]), flat.dtype)
    return lax.scan(add, zeros, by_tap)[0].reshape(len(boxes), cells, cells, -1)


def _multiplied(
    levels: Sequence[Float[Array, "_ _ c"]],
    boxes: Float[Array, "m 4"],
    *,
    strides: Sequence[int],
    cells: int,
    aligned: bool,
) -> Float[Array, "m {cells} {cells} c"]:
    """Return the features of one image's boxes, every level read for every box."""
    level, found = levels_of(boxes, strides), []
    for number, (x, stride) in enumerate(zip(levels, strides, strict=True)):
        starts, lengths = spans(boxes / stride, aligned=aligned)

        def one(item: tuple[Array, Array, Array], x: Array = x) -> Array:
            start, length, mine = item
            ys, xs = (
                matrix(start[axis], length[axis], extent=x.shape[axis], cells=cells)
                for axis in range(2)
            )
            ys = jnp.where(mine, ys, 0).astype(x.dtype)
            rows = jnp.einsum("ph,hwc->pwc", ys, x)
            return jnp.einsum("qw,pwc->pqc", xs.astype(x.dtype), rows)

        found.append(lax.map(one, (starts, lengths, level == number)))
    return sum(found[1:], start=found[0])


def masks(
    packed: Any, objects: Int[Array, " m"], boxes: Float[Array, "m 4"], *, cells: int
) -> Float[Array, "m {cells} {cells}"]:
    """Return the share of an object in each cell of a grid on each box, as torchvision samples it.

    Args:
        packed: uint8 [h w bytes], see `boxes.of_masks`.
        objects: Which object's mask each box reads.
        boxes: In pixels.
        cells: Along each side of the grids.
    """
    starts, lengths = spans(boxes, aligned=False)

    def one(item: tuple[Array, Array, Array]) -> Array:
        number, start, length = item
        byte = jnp.take(packed, number // 8, axis=-1)
        inside = ((byte >> (number % 8).astype(jnp.uint8)) & jnp.uint8(1)).astype(boxes.dtype)
        ys, xs = (
            matrix(start[axis], length[axis], extent=packed.shape[axis], cells=cells)
            for axis in range(2)
        )
        return ys @ inside @ xs.T

    return lax.map(one, (objects, starts, lengths), batch_size=min(8, len(boxes)))
