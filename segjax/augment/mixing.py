"""Ops that bring something of another example of the batch into one; see `compose.Mix`."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int32, UInt8

from segjax.augment.compose import Sample
from segjax.config import kinds
from segjax.errors import ConfigError
from segjax.structs import Field, Key

OBJECTS = ("object_masks", "object_classes", "object_crowd")


def copy_paste(
    key: Key,
    sample: Sample,
    other: Sample,
    *,
    share: kinds.Probability = 0.5,
    p: kinds.Probability = 1,
) -> Sample:
    """Paste objects of the other example where they are there, over what is here.

    Ghiasi et al. 2021, Simple Copy-Paste, without blending, which they found to change nothing. All
    fields in space are the other's where a pasted object is; objects below are cut, and one of
    which nothing is left is none. Crowds are not pasted. Where there is no room for all, the
    smallest are not.

    Args:
        key: For this example and op.
        sample: With the fields of objects.
        other: Of the same size.
        share: Of the other's objects that are pasted.
        p: Probability that any is.

    Raises:
        ConfigError: The data has no objects.
    """
    if missing := [name for name in OBJECTS if name not in sample.schema]:
        raise ConfigError(
            f"mixing:copy_paste: expected a batch with objects, which lacks {', '.join(missing)}. "
            "Set config.input.source.objects and a task that finds objects, or leave the op out."
        )
    masks, theirs = sample.arrays["object_masks"], other.arrays["object_masks"]
    classes = sample.arrays["object_classes"]
    count = classes.shape[0]
    chance, each = jax.random.split(key)
    wanted = jax.random.uniform(each, (count,), jnp.float32) < share
    wanted &= jax.random.uniform(chance, (), jnp.float32) < p
    wanted &= (other.arrays["object_classes"] >= 0) & ~other.arrays["object_crowd"]
    here = _there(masks, count) & (classes >= 0)
    taken = _slots(~here, jnp.where(wanted, _areas(theirs, count), 0))
    over = jnp.any(theirs & _packed(taken.any(axis=0), theirs.shape[-1]) != 0, axis=-1)
    found = {
        name: _blend(field, over, sample.arrays[name], other.arrays[name])
        for name, field in sample.schema.items()
        if field.is_spatial and field.kind != "masks"
    }
    fresh = taken.any(axis=1)
    moved = jnp.argmax(taken, axis=1)
    return sample.replace(
        **found,
        object_masks=jnp.where(over[..., None], _move_bits(theirs, taken), masks),
        object_classes=jnp.where(fresh, other.arrays["object_classes"][moved], classes),
        object_crowd=sample.arrays["object_crowd"] & ~fresh,
    )


def _packed(chosen: Bool[Array, " n"], width: int) -> UInt8[Array, " width"]:
    """Return the bits of chosen objects in so many bytes."""
    bits = jnp.pad(chosen, (0, 8 * width - len(chosen))).reshape(width, 8)
    own = bits.astype(jnp.uint8) << jnp.arange(8, dtype=jnp.uint8)
    return jnp.sum(own, axis=1, dtype=jnp.uint8)


def _there(masks: UInt8[Array, "*space _"], count: int) -> Bool[Array, " n"]:
    """Return which of `count` packed masks have a pixel."""
    space = tuple(range(masks.ndim - 1))
    some = jax.lax.reduce(masks, jnp.uint8(0), jax.lax.bitwise_or, space)
    return (some[:, None] >> jnp.arange(8, dtype=jnp.uint8) & 1).reshape(-1)[:count] != 0


def _areas(masks: UInt8[Array, "*space _"], count: int) -> Int32[Array, " n"]:
    """Return the pixels of each of `count` packed masks.

    Of a few rows at a time bytes hold the sums: a CPU adds up four times as many of them.
    """
    rows, width = masks.shape[0], masks.shape[-1]
    few = next(step for step in range(min(rows, 255), 0, -1) if rows % step == 0)
    groups = masks.reshape(rows // few, few, -1)
    found = []
    for bit in range(8):
        sums = jnp.sum(groups >> bit & 1, axis=1, dtype=jnp.uint8)
        found.append(jnp.sum(sums.reshape(-1, width), axis=0, dtype=jnp.int32))
    return jnp.stack(found, axis=-1).reshape(-1)[:count]


def _slots(free: Bool[Array, " n"], area: Int32[Array, " n"]) -> Bool[Array, "n n"]:
    """Return which object [slot, object] each free slot takes: the largest first, 0 pixels never.

    Tables of n x n instead of sorting: what is looked up would move between devices.
    """
    number = jnp.arange(len(area))
    larger = area[:, None] > area
    before = larger | ((area[:, None] == area) & (number[:, None] < number))
    rank = jnp.sum(before, axis=0)
    place = jnp.cumsum(free) - 1
    return free[:, None] & (place[:, None] == rank) & (area > 0)


def _move_bits(
    masks: UInt8[Array, "*space k"], taken: Bool[Array, "n n"]
) -> UInt8[Array, "*space k"]:
    """Return packed masks in which each slot has the object that it takes, or none."""
    count, width = len(taken), masks.shape[-1]
    source = jnp.where(taken.any(axis=1), jnp.argmax(taken, axis=1), -1)
    source = jnp.pad(source, (0, 8 * width - count), constant_values=-1).reshape(width, 8)
    found = jnp.zeros_like(masks)
    for bit in range(8):
        own = source[:, bit]
        byte = jnp.take(masks, jnp.maximum(own, 0) // 8, axis=-1, mode="clip")
        shown = byte >> (own % 8).astype(jnp.uint8) & (own >= 0).astype(jnp.uint8)
        found |= shown << bit
    return found


def _blend(field: Field, over: Bool[Array, "*space"], mine: Array, theirs: Array) -> Array:
    """Return a field in space that is the other example's where `over` says so."""
    if field.kind == "ids":  # theirs are counted on from mine
        theirs = jnp.where(theirs > 0, theirs + jnp.max(mine), 0).astype(mine.dtype)
    return jnp.where(over.reshape(*over.shape, *[1] * len(field.shape)), theirs, mine)
