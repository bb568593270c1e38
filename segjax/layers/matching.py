"""Which true object a box stands for, and which boxes a step trains on."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from segjax.kernels import ranking
from segjax.structs import Key

POSITIVE, NEGATIVE, NEITHER = 1, 0, -1


class Matches(NamedTuple):
    """What boxes stand for.

    Attributes:
        objects: int32 [m]: the true object that each overlaps most; 0 where there is none.
        state: int32 [m]: `POSITIVE`, `NEGATIVE` (background) or `NEITHER`.
    """

    objects: Int[Array, " m"]
    state: Int[Array, " m"]


def match(
    quality: Float[Array, "n m"],
    there: Bool[Array, " n"],
    *,
    low: float,
    high: float,
    each_object: bool = False,
) -> Matches:
    """Match boxes with the objects that they overlap most.

    Args:
        quality: The overlap of each true object with each box, at least 0.
        there: Whether it is an object at all.
        low: A box that overlaps all objects by less is background.
        high: One that overlaps an object by so much stands for it.
        each_object: The boxes that overlap an object more than all other boxes do count as
            positive too, however little that is, but for none at all.
    """
    quality = jnp.where(there[:, None], quality, -1)
    best, objects = quality.max(0), quality.argmax(0).astype(jnp.int32)
    positive = best >= high
    if each_object:
        most = quality.max(1, keepdims=True)
        positive |= ((quality == most) & (most > 0)).any(0)
    state = jnp.where(best < low, NEGATIVE, NEITHER)
    return Matches(objects, jnp.where(positive, POSITIVE, state).astype(jnp.int32))


def draw(key: Key, among: Bool[Array, " m"], count: Int[Array, ""] | int) -> Bool[Array, " m"]:
    """Return `count` random ones of those `among`, all where there are fewer."""
    lot = jnp.where(among, jax.random.uniform(key, among.shape, jnp.float32), -1)
    return among & ranking.best(lot, jnp.minimum(count, among.sum(dtype=jnp.int32)))


def balance(key: Key, state: Int[Array, " m"], *, count: int, positives: int) -> Int[Array, " m"]:
    """Return `state` with `NEITHER` for all but `count` boxes, `positives` of them at most.

    Where positive ones are few, there are the more negative ones.
    """
    keys = jax.random.split(key)
    chosen = draw(keys[0], state == POSITIVE, positives)
    rest = draw(keys[1], state == NEGATIVE, count - chosen.sum(dtype=jnp.int32))
    return jnp.where(chosen | rest, state, NEITHER)
