"""Boxes [... 4]: y0 x0 y1 x1 in pixels, where a pixel's own box is [y, y + 1), so ends are ends.

Their areas and overlaps, their coding as offsets of others, and those of masks.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, UInt8

Boxes = Float[Array, "*b 4"]
Around = Float[Array, "*#b 4"]
"""Boxes that are broadcast to others."""
Weights = tuple[float, float]
"""Of offsets: of the centre's two, and of the sides' two."""
LARGEST = math.log(1000 / 16)
"""The largest logarithm by which a side grows."""


def sides(boxes: Boxes) -> Float[Array, "*b 2"]:
    """Return height and width."""
    return boxes[..., 2:] - boxes[..., :2]


def area(boxes: Boxes) -> Float[Array, "*b"]:
    """Return height times width."""
    height, width = jnp.moveaxis(sides(boxes), -1, 0)
    return height * width


def clip(boxes: Boxes, size: Sequence[int]) -> Boxes:
    """Return boxes cut to an image of `size`, (height, width)."""
    return jnp.clip(boxes, 0, jnp.asarray([*size, *size], boxes.dtype))


def are_large(boxes: Boxes, least: float = 1e-3) -> Bool[Array, "*b"]:
    """Return whether both sides have at least so many pixels."""
    return (sides(boxes) >= least).all(-1)


def intersection(one: Float[Array, "*b m 4"], other: Float[Array, "*b n 4"]) -> Array:
    """Return the areas [*b m n] that boxes have in common.

    Axis by axis: an axis of two numbers behind m and n would be the one that is computed along.
    """
    a = jnp.moveaxis(one, -1, 0)[..., :, None]  # [4 *b m 1]
    b = jnp.moveaxis(other, -1, 0)[..., None, :]  # [4 *b 1 n]
    height, width = (
        jnp.maximum(jnp.minimum(a[2 + i], b[2 + i]) - jnp.maximum(a[i], b[i]), 0) for i in range(2)
    )
    return height * width


def iou(one: Float[Array, "*b m 4"], other: Float[Array, "*b n 4"]) -> Array:
    """Return the intersections over unions [*b m n]; 0 of boxes without area."""
    common = intersection(one, other)
    union = area(one)[..., :, None] + area(other)[..., None, :] - common
    return common / jnp.where(union > 0, union, 1)


def inside(one: Float[Array, "*b m 4"], other: Float[Array, "*b n 4"]) -> Array:
    """Return the shares [*b m n] of `one`'s areas that lie in `other`."""
    whole = area(one)[..., :, None]
    return intersection(one, other) / jnp.where(whole > 0, whole, 1)


def encode(boxes: Boxes, around: Around, *, weights: Weights = (1.0, 1.0)) -> Boxes:
    """Return offsets dy dx dh dw of boxes from those `around` (Faster R-CNN, equation 2).

    Args:
        boxes: What the offsets lead to.
        around: What they start from, anchors or proposals; with an area.
        weights: Factors of the offsets of centres and of sides.
    """
    own, from_sides = sides(boxes), sides(around)
    centre, from_centre = boxes[..., :2] + own / 2, around[..., :2] + from_sides / 2
    move = weights[0] * (centre - from_centre) / from_sides
    return jnp.concatenate([move, weights[1] * jnp.log(own / from_sides)], axis=-1)


def decode(offsets: Boxes, around: Around, *, weights: Weights = (1.0, 1.0)) -> Boxes:
    """Return the boxes that `encode` made offsets of; a side grows by 62.5 times at most."""
    from_sides = sides(around)
    from_centre = around[..., :2] + from_sides / 2
    centre = offsets[..., :2] / weights[0] * from_sides + from_centre
    own = jnp.exp(jnp.minimum(offsets[..., 2:] / weights[1], LARGEST)) * from_sides
    return jnp.concatenate([centre - own / 2, centre + own / 2], axis=-1)


def unpack(packed: UInt8[Array, "*b bytes"], n: int) -> Bool[Array, "*b {n}"]:
    """Return the first `n` bits of bytes, the lowest of each byte first."""
    bits = (packed[..., None] >> jnp.arange(8, dtype=jnp.uint8)) & jnp.uint8(1)
    return bits.reshape(*packed.shape[:-1], -1)[..., :n].astype(bool)


def of_masks(
    packed: UInt8[Array, "*space bytes"], n: int
) -> tuple[Float[Array, "{n} box"], Bool[Array, " {n}"]]:
    """Return the boxes of packed masks, and whether a mask has a pixel at all.

    Bytes are joined along all axes but one, for each axis, before any bit is looked at: so many
    operations on bytes as the masks have bytes, times the axes.

    Args:
        packed: Object i is bit `i % 8` of byte `i // 8`.
        n: How many objects there are.

    Returns:
        float32 [n 2 * axes], all starts, then all ends; 0 where there is no pixel. And bool [n].
    """
    starts, ends, there = [], [], jnp.zeros(n, bool)
    every = range(packed.ndim - 1)
    for axis in every:
        others = [other for other in every if other != axis]
        joined = lax.reduce(packed, jnp.uint8(0), lax.bitwise_or, others)
        seen = unpack(joined, n)  # [length n]
        there = seen.any(0)
        starts.append(jnp.argmax(seen, axis=0))
        ends.append(len(seen) - jnp.argmax(seen[::-1], axis=0))
    boxes = jnp.stack([*starts, *ends], axis=-1).astype(jnp.float32)
    return jnp.where(there[:, None], boxes, 0), there
