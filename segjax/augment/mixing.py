"""Ops that bring something of other examples of the batch into one; see `compose.Mix`."""

from collections.abc import Sequence
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int32, UInt8
from scipy import special

from segjax.augment import compose, warp
from segjax.augment.sample import Sample
from segjax.config import kinds, rules
from segjax.errors import ConfigError
from segjax.structs import IGNORE_LABEL, Field, Key

QUANTILES = 1024
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


def mixup(
    key: Key,
    sample: Sample,
    other: Sample,
    *,
    alpha: Annotated[kinds.Real, rules.number(0.01, 100)] = 0.4,
    p: kinds.Probability = 1,
) -> Sample:
    """Blend two images; where their labels agree the label stays, elsewhere it is void.

    Zhang et al. 2018 (https://arxiv.org/abs/1710.09412) blend one-hot labels as well. An integer
    map holds no blend: where both are of one class the blend is that class, and there the loss is
    theirs; other pixels count nothing.

    Args:
        key: For this example and op.
        sample: Without instances or masks of objects, which no blend has.
        other: Of the same size.
        alpha: The share of this example is drawn from Beta(alpha, alpha).
        p: Probability.

    Raises:
        ConfigError: The data has instances or objects.
    """
    if wrong := [name for name, field in sample.schema.items() if field.kind in ("ids", "masks")]:
        raise ConfigError(
            f"mixing:mixup: expected class maps alone, got {', '.join(wrong)}: blended images show "
            "no object by itself. Use mixing:cutmix, or leave the op out."
        )
    chosen, each = jax.random.split(key)
    applied = jax.random.uniform(chosen, (), jnp.float32) < p
    share = jnp.where(applied, _beta(each, alpha), 1)
    mixed = {}
    for name, field in sample.schema.items():
        mine, theirs = sample.arrays[name], other.arrays[name]
        if field.kind == "image":
            blend = theirs + share.astype(mine.dtype) * (mine - theirs)
            mixed[name] = jnp.where(applied, blend, mine)
        elif field.is_map:
            void = jnp.asarray(field.fill, mine.dtype)
            mixed[name] = jnp.where(applied & (mine != theirs), void, mine)
    return sample.replace(**mixed)


def cutmix(
    key: Key,
    sample: Sample,
    other: Sample,
    *,
    alpha: Annotated[kinds.Real, rules.number(0.01, 100)] = 1.0,
    p: kinds.Probability = 1,
) -> Sample:
    """Show a box of the other example, labels and objects too.

    Yun et al. 2019 (https://arxiv.org/abs/1905.04899): the box has a share of the image drawn from
    Beta(alpha, alpha), its sides' ratio, and its centre anywhere; borders may cut it. French et al.
    2020 (https://arxiv.org/abs/1906.01916) for segmentation.
    """
    chosen, each, place = jax.random.split(key, 3)
    share = _beta(each, alpha)
    side = share ** (1 / len(sample.size))
    centres = jax.random.uniform(place, (len(sample.size),), jnp.float32)
    lines = [
        jnp.abs(jnp.arange(length, dtype=jnp.float32) + 0.5 - centre * length) < side * length / 2
        for length, centre in zip(sample.size, centres, strict=True)
    ]
    applied = jax.random.uniform(chosen, (), jnp.float32) < p
    return paste(sample, other, compose.box(lines) & applied)


def classmix(
    key: Key,
    sample: Sample,
    other: Sample,
    *,
    share: kinds.Probability = 0.5,
    p: kinds.Probability = 1,
) -> Sample:
    """Show all pixels of some of the other example's classes.

    Olsson et al. 2021 (https://arxiv.org/abs/2007.07936), who take half of the classes that are
    there, rounded up; void is none.

    Raises:
        ConfigError: The data has no class map.
    """
    field = sample.schema.get("label")
    if field is None or field.kind != "classes":
        raise ConfigError(
            "mixing:classmix: expected a label of one class for each pixel. Use mixing:cutmix."
        )
    label = other.arrays["label"]
    chosen, each = jax.random.split(key)
    number = jnp.arange(IGNORE_LABEL + 1)
    there = _seen(label) & (number != IGNORE_LABEL)
    order = jnp.where(there, jax.random.uniform(each, number.shape, jnp.float32), 2)
    rank = jnp.sum(
        order[:, None] > order, axis=1, dtype=jnp.float32
    )  # a table: a sort would move between devices
    taken = there & (rank < jnp.ceil(share * jnp.sum(there, dtype=jnp.float32)))
    over = jnp.take(taken, label, mode="clip")
    return paste(sample, other, over & (jax.random.uniform(chosen, (), jnp.float32) < p))


def mosaic(
    key: Key,
    sample: Sample,
    other: Sample,
    third: Sample,
    fourth: Sample,
    *,
    centre: Annotated[Sequence[kinds.Probability], rules.interval(0, 1)] = (0.3, 0.7),
    p: kinds.Probability = 1,
) -> Sample:
    """Join parts of four examples at a point: each shows what it has at that place.

    Bochkovskiy et al. 2020 (https://arxiv.org/abs/2004.10934), without their scaling: scale and
    crop before it, by `geometry:affine`. Of volumes the last two axes are split, of signals one.

    Args:
        key: For this example and op.
        sample: The first part, up and left.
        other: Up and right; of signals, the second half.
        third: Down and left.
        fourth: Down and right.
        centre: Where the point may lie along an axis, as shares of the side.
        p: Probability.
    """
    chosen, place = jax.random.split(key)
    applied = jax.random.uniform(chosen, (), jnp.float32) < p
    at = jax.random.uniform(place, (2,), jnp.float32, centre[0], centre[1])
    places = warp.centres(sample.size).axes
    right = applied & (places[-1] >= at[1] * sample.size[-1])
    down = applied & (places[-2] >= at[0] * sample.size[-2]) if len(places) > 1 else False
    for part, over in ((other, right & ~down), (third, down & ~right), (fourth, down & right)):
        sample = paste(sample, part, jnp.broadcast_to(over, sample.size))
    return sample


def paste(sample: Sample, other: Sample, over: Bool[Array, "*space"]) -> Sample:
    """Show the other example where `over` says so: all fields in space, and its objects there.

    Instances are counted on from those here. Objects are cut at the border, and one of which
    nothing is left is none; where there is no room for all, the smallest of the other's are void.
    """
    found = {
        name: _blend(field, over, sample.arrays[name], other.arrays[name])
        for name, field in sample.schema.items()
        if field.is_spatial and field.kind != "masks"
    }
    if any(name not in sample.schema for name in OBJECTS):
        return sample.replace(**found)
    masks = jnp.where(over[..., None], 0, sample.arrays["object_masks"])
    theirs = jnp.where(over[..., None], other.arrays["object_masks"], 0)
    classes, crowd = sample.arrays["object_classes"], sample.arrays["object_crowd"]
    count = classes.shape[0]
    area = jnp.where(other.arrays["object_classes"] >= 0, _areas(theirs, count), 0)
    taken = _slots(~(_there(masks, count) & (classes >= 0)), area)
    left_out = _packed((area > 0) & ~taken.any(axis=0), theirs.shape[-1])
    void = jnp.any(theirs & left_out != 0, axis=-1)
    for name, array in found.items():
        field = sample.schema[name]
        if field.is_map:
            there = void.reshape(*void.shape, *[1] * len(field.shape))
            found[name] = jnp.where(there, jnp.asarray(field.fill, array.dtype), array)
    fresh, moved = taken.any(axis=1), jnp.argmax(taken, axis=1)
    return sample.replace(
        **found,
        object_masks=masks | _move_bits(theirs, taken),
        object_classes=jnp.where(fresh, other.arrays["object_classes"][moved], classes),
        object_crowd=jnp.where(fresh, other.arrays["object_crowd"][moved], crowd),
    )


def _beta(key: Key, alpha: kinds.Real) -> Float32[Array, ""]:
    """Draw from Beta(alpha, alpha), by its quantiles.

    JAX's own draws until a draw is accepted: all devices would wait for each other's.
    """
    table = special.betaincinv(alpha, alpha, np.linspace(0, 1, QUANTILES + 1)).astype(np.float32)
    at = QUANTILES * jax.random.uniform(key, (), jnp.float32)
    low = jnp.floor(at).astype(jnp.int32)
    below, above = (jnp.asarray(table)[jnp.minimum(low + step, QUANTILES)] for step in (0, 1))
    return below + (at - low.astype(jnp.float32)) * (above - below)


def _seen(label: Int32[Array, "*space"]) -> Bool[Array, " 256"]:
    """Return which classes a map has: bits of eight words, joined without an exchange."""
    words = []
    for word in range(8):
        bit = jnp.left_shift(jnp.uint32(1), (label % 32).astype(jnp.uint32))
        bits = jnp.where(label // 32 == word, bit, jnp.uint32(0))
        words.append(jax.lax.reduce(bits, jnp.uint32(0), jax.lax.bitwise_or, range(label.ndim)))
    return (jnp.stack(words)[:, None] >> jnp.arange(32, dtype=jnp.uint32) & 1).ravel() != 0


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
