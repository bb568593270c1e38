"""What detectors do with scores and offsets of boxes: propose regions, sample some, find objects.

Shapes are fixed: what is missing is marked as not valid, never left out.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from segjax.kernels import ranking
from segjax.layers import boxes as boxes_lib
from segjax.layers import matching, nms
from segjax.structs import Key

CROWD = 0.7
"""A box of which a crowd covers such a share is no background."""


class Proposals(NamedTuple):
    """Regions that may hold an object.

    Attributes:
        boxes: [b m 4] in pixels of the canvas.
        valid: bool [b m]: False where there were no more.
    """

    boxes: Float[Array, "b m 4"]
    valid: Bool[Array, "b m"]


def rows(x: Array, places: Int[Array, "b m"]) -> Array:
    """Return the rows [b m ...] of each example's `x` [b n ...] at its places."""
    return jax.vmap(lambda own, at: own[at])(x, places)


def tops(x: Float[Array, "b n"], count: int) -> tuple[Array, Array]:
    """Return the `count` largest numbers of each example, and their places."""
    return jax.vmap(lambda own: ranking.top(own, count))(x)


def where_needed(
    function: Callable[..., Array], needed: Bool[Array, "b p"], *slots: Array, parts: int = 4
) -> Array:
    """Return what a function makes of slots, 0 for parts of them in which no example needs any.

    Slots that are needed come first in each example, and are seldom all. A part is computed where
    any example of the batch needs one of it, so that all devices do the same.

    Args:
        function: From arrays [b p/parts ...] to one, each slot by itself.
        needed: Which slots are.
        slots: [b p ...].
        parts: How many; where they do not divide p, there is one.
    """
    count = needed.shape[1]
    if count % parts:
        return function(*slots)

    def split(x: Array) -> Array:
        return jnp.moveaxis(x.reshape(x.shape[0], parts, -1, *x.shape[2:]), 1, 0)

    def one(item: tuple[Array, ...]) -> Array:
        any_needed, *own = item
        shape = jax.eval_shape(function, *own)
        nothing = functools.partial(jnp.zeros, shape.shape, shape.dtype)
        return jax.lax.cond(any_needed, lambda: function(*own), nothing)

    found = jax.lax.map(one, (split(needed).any((1, 2)), *map(split, slots)))
    return jnp.moveaxis(found, 0, 1).reshape(len(needed), count, *found.shape[3:])


def propose(
    scores: Sequence[Float[Array, "b _"]],
    offsets: Sequence[Float[Array, "b _ 4"]],
    anchors: Sequence[np.ndarray],
    size: Sequence[int],
    *,
    before: int,
    after: int,
    threshold: float,
) -> Proposals:
    """Return the best boxes of all levels that do not overlap a better one of their level.

    Args:
        scores: Of each level's anchors; only their order counts.
        offsets: Of the boxes from the anchors.
        anchors: [_ 4] of each level.
        size: Of the canvas, to which boxes are cut; those without area go.
        before: How many of a level's boxes suppression sees, the best.
        after: How many are returned.
        threshold: Of suppression.
    """
    most = min(before, max(x.shape[1] for x in scores))
    found = []
    for score, offset, around in zip(scores, offsets, anchors, strict=True):
        best, places = tops(score, min(most, score.shape[1]))
        start = jnp.asarray(around, offset.dtype)[places]
        boxes = boxes_lib.clip(boxes_lib.decode(rows(offset, places), start), size)
        valid = boxes_lib.are_large(boxes)
        missing = [(0, 0), (0, most - best.shape[1])]
        level = (
            jnp.pad(best, missing), jnp.pad(boxes, [*missing, (0, 0)]), jnp.pad(valid, missing),
        )  # fmt: skip
        found.append(level)
    best, boxes, valid = (jnp.stack(x, axis=1) for x in zip(*found, strict=True))  # [b level most]

    def survive(own: Array, there: Array) -> Array:
        return nms.survivors(own, there, threshold=threshold)

    keep = jax.vmap(jax.vmap(survive))(boxes, valid)
    best = jnp.where(keep, best, -jnp.inf).reshape(len(best), -1)
    best, places = tops(best, min(after, best.shape[1]))
    return Proposals(rows(boxes.reshape(len(best), -1, 4), places), best > -jnp.inf)


def assign(
    boxes: Float[Array, "m 4"],
    truth: Float[Array, "n 4"],
    learned: Bool[Array, " n"],
    crowd: Bool[Array, " n"],
    *,
    low: float,
    high: float,
    each_object: bool = False,
) -> matching.Matches:
    """Match boxes with true ones; those that a crowd covers are never background.

    Args:
        boxes: Anchors or proposals.
        truth: Boxes of objects.
        learned: Which of them are to be found.
        crowd: Which of them are crowds.
        low: See `matching.match`.
        high: See `matching.match`.
        each_object: See `matching.match`.
    """
    quality = boxes_lib.iou(truth, boxes)
    found = matching.match(quality, learned, low=low, high=high, each_object=each_object)
    covered = jnp.where(crowd, boxes_lib.inside(boxes, truth), 0).max(-1) > CROWD
    spared = covered & (found.state == matching.NEGATIVE)
    return found._replace(state=jnp.where(spared, matching.NEITHER, found.state))


class Sample(NamedTuple):
    """The regions of one image that a step trains on, the positive ones first.

    Attributes:
        boxes: [m 4]. Where there are fewer, they stand there several times.
        objects: int32 [m]: the true object that each stands for.
        positive: bool [m]: it stands for one.
        valid: bool [m]: False where it stands there again.
        repeated: int32 [p]: places of positive ones, in turn.
    """

    boxes: Float[Array, "m 4"]
    objects: Int[Array, " m"]
    positive: Bool[Array, " m"]
    valid: Bool[Array, " m"]
    repeated: Int[Array, " p"]


def sample(
    key: Key,
    boxes: Float[Array, "m 4"],
    found: matching.Matches,
    *,
    count: int,
    positives: int,
) -> Sample:
    """Return `count` boxes, `positives` of them at most for an object, drawn by `key`."""
    state = matching.balance(key, found.state, count=count, positives=positives)
    rank = jnp.where(state == matching.NEITHER, 0, 1 + state)  # negative 1, positive 2
    _, places = ranking.top(rank, min(count, len(rank)))
    slots = jnp.arange(len(places), dtype=jnp.int32)
    valid = slots < (rank > 0).sum(dtype=jnp.int32)
    places = places[slots % jnp.maximum(valid.sum(dtype=jnp.int32), 1)]
    positive = valid & (state[places] == matching.POSITIVE)
    repeated = slots[: max(positives, 1)] % jnp.maximum(positive.sum(dtype=jnp.int32), 1)
    return Sample(boxes[places], found.objects[places], positive, valid, repeated)


class Found(NamedTuple):
    """The objects of one image, the most probable first.

    Attributes:
        boxes: [m 4] in pixels of the canvas; 0 where there is none.
        scores: [m]; 0 where there is none.
        classes: int32 [m].
    """

    boxes: Float[Array, "m 4"]
    scores: Float[Array, " m"]
    classes: Int[Array, " m"]


def find(
    probabilities: Float[Array, "m k"],
    boxes: Float[Array, "m k 4"],
    valid: Bool[Array, " m"],
    *,
    least: float,
    candidates: int,
    threshold: float,
    most: int,
) -> Found:
    """Return the objects that regions hold, those of a class without overlaps.

    Args:
        probabilities: Of each class.
        boxes: One for each class.
        valid: Whether there is such a region.
        least: A probability must be above it.
        candidates: How many of all boxes suppression sees, the most probable.
        threshold: Of suppression among the boxes of a class.
        most: How many objects to return.
    """
    num_classes = probabilities.shape[1]
    fits = valid[:, None] & (probabilities > least) & boxes_lib.are_large(boxes, 1e-2)
    scores = jnp.where(fits, probabilities, 0).ravel()
    scores, places = ranking.top(scores, min(candidates, len(scores)))
    boxes, classes = boxes.reshape(-1, 4)[places], places % num_classes
    keep = nms.survivors(boxes, scores > 0, threshold=threshold, groups=classes)
    scores, places = ranking.top(jnp.where(keep, scores, 0), min(most, len(scores)))
    found = jnp.where(scores[:, None] > 0, boxes[places], 0)
    return Found(found, scores, classes[places].astype(jnp.int32))
