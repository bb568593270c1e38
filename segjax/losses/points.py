"""Maps at points of an image, bilinearly (Mask2Former, arXiv:2112.01527, section 3.3.3).

A point is (y, x) from 0 to 1, so that it lies at the same place of a map of any resolution. What
lies outside of a map is 0.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int32, Integer, UInt8

from segjax.kernels import ranking
from segjax.kernels.bilinear import taps
from segjax.structs import IGNORE_LABEL, Key


def sample(maps: Float[Array, "h w c"], points: Float[Array, "p 2"]) -> Float[Array, "p c"]:
    """Return all channels at the same points."""
    pixel, share = taps(points.astype(maps.dtype), maps.shape[:2])
    found = maps.reshape(-1, maps.shape[-1])[pixel]  # [p 4 c]
    return jnp.einsum("ptc,pt->pc", found, share)


def sample_each(
    maps: Float[Array, "h w c"], channels: Int32[Array, " n"], points: Float[Array, "n p 2"]
) -> Float[Array, "n p"]:
    """Return some channels, each at points of its own."""
    pixel, share = taps(points.astype(maps.dtype), maps.shape[:2])
    place = pixel * maps.shape[-1] + channels[:, None, None]
    return (maps.reshape(-1)[place] * share).sum(-1)


class Truth(NamedTuple):
    """The true regions of an image, whose pixels are looked up where they are asked for.

    There are as many as the bits of `packed`, then as many as there are `values`.

    Attributes:
        classes: Of each region; -1: there is none.
        packed: Masks of objects: object i is bit `i % 8` of byte `i // 8`; none: no byte.
        label: A class map, 255 where nothing is known; None: there is none, and all is known.
        values: A region of the label for each of them: where it has that value.
    """

    classes: Int32[Array, " n"]
    packed: UInt8[Array, "h w bytes"]
    label: Integer[Array, "h w"] | None = None
    values: Int32[Array, " k"] | None = None


class Seen(NamedTuple):
    """What of some regions is true at points.

    Attributes:
        inside: Which share of what is known around a point is inside of the region.
        known: Which share of what is around a point is known.
    """

    inside: Float[Array, "..."]
    known: Float[Array, "..."]


def see(truth: Truth, points: Float[Array, "p 2"]) -> Seen:
    """Return all regions [p n] at the same points, and what is known there [p 1]."""
    pixel, share = taps(points, truth.packed.shape[:2])
    objects = len(truth.classes) - (0 if truth.values is None else len(truth.values))
    number = jnp.arange(objects)
    height, width, count = truth.packed.shape
    packed = truth.packed.reshape(height * width, count)[pixel]  # [p 4 bytes]
    byte = packed[..., number // 8] if objects else packed[..., :0]
    bits = ((byte >> (number % 8).astype(jnp.uint8)) & 1).astype(bool)
    void = jnp.zeros_like(share)
    if truth.label is not None:
        value = truth.label.reshape(-1)[pixel]  # [p 4]
        void = jnp.where(value == IGNORE_LABEL, share, 0)
        if truth.values is not None:
            bits = jnp.concatenate([bits, value[..., None] == truth.values], axis=-1)
    inside = jnp.einsum("ptn,pt->pn", bits.astype(share.dtype), share)
    return known_share(inside, (void.sum(-1) / share.sum(-1))[:, None])


def see_each(truth: Truth, points: Float[Array, "n p 2"]) -> Seen:
    """Return each region [n p] at points of its own, and what is known there [n p]."""
    pixel, share = taps(points, truth.packed.shape[:2])
    regions, of_label = len(truth.classes), 0 if truth.values is None else len(truth.values)
    number = jnp.arange(regions - of_label)
    place = pixel[: len(number)] * truth.packed.shape[-1] + (number // 8)[:, None, None]
    byte = truth.packed.reshape(-1)[place] if len(number) else place.astype(jnp.uint8)
    bits = ((byte >> (number % 8).astype(jnp.uint8)[:, None, None]) & 1).astype(bool)
    void = jnp.zeros_like(share)
    if truth.label is not None:
        value = truth.label.reshape(-1)[pixel]  # [n p 4]
        void = jnp.where(value == IGNORE_LABEL, share, 0)
        if truth.values is not None:
            own = value[len(number) :] == truth.values[:, None, None]
            bits = jnp.concatenate([bits, own])
    return known_share(jnp.where(bits, share, 0).sum(-1), void.sum(-1) / share.sum(-1))


def known_share(inside: Float[Array, "..."], void: Float[Array, "..."]) -> Seen:
    """Return what is inside of what is known: void neighbours of a point do not count.

    Args:
        inside: The share of a region around points.
        void: The share of void in what of the image is around them.
    """
    known = 1 - void
    there = known > 1e-6
    return Seen(
        jnp.where(there, inside / jnp.where(there, known, 1), 0), jnp.where(there, known, 0)
    )


def uncertain(
    maps: Float[Array, "h w c"],
    channels: Int32[Array, " n"],
    key: Key,
    *,
    count: int,
    oversample: float,
    importance: float,
) -> Float[Array, "n {count} 2"]:
    """Return points for each of some channels, most of them where its logit is near 0.

    Args:
        maps: Logits.
        channels: Which of them.
        key: To draw points.
        count: How many to return.
        oversample: How many are looked at, for each of `count`.
        importance: The share of the points that are the most uncertain of those.
    """
    n, certain, rest = len(channels), int(importance * count), count - int(importance * count)
    first, second = jax.random.split(key)
    dtype = maps.dtype
    drawn = jax.random.uniform(first, (n, int(oversample * count), 2), dtype)
    logits = sample_each(lax.stop_gradient(maps), channels, drawn)
    index = smallest(jnp.abs(logits), certain)
    chosen = jnp.take_along_axis(drawn, index[..., None], axis=1)
    others = jax.random.uniform(second, (n, rest, 2), dtype)
    return jnp.concatenate([chosen, others], axis=1)


def smallest(values: Float[Array, "n p"], count: int) -> Int32[Array, "n {count}"]:
    """Return the places of the smallest values of each row, in the order of places."""
    chosen = jax.vmap(lambda row: ranking.best(-row, count))(values)
    before = jnp.cumsum(chosen, axis=1, dtype=jnp.int32)
    wanted = jnp.arange(1, count + 1, dtype=jnp.int32)
    return jax.vmap(lambda row: jnp.searchsorted(row, wanted))(before).astype(jnp.int32)


def present(label: Integer[Array, "h w"], values: Int32[Array, " k"]) -> Bool[Array, " k"]:
    """Return which values a label has anywhere."""
    return (label[..., None] == values).any((0, 1))
