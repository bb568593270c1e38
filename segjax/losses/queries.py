"""The loss of queries that each answer a class and a mask, matched with the true regions.

Mask2Former's (Cheng et al. 2022, arXiv:2112.01527, section 3.3), as EoMT trains by it.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int32

from segjax.kernels import sums
from segjax.losses import assignment, points
from segjax.losses.points import Seen, Truth
from segjax.structs import Key

Logits = Float[Array, "h w q"]


class Sums(NamedTuple):
    """The loss of one image, before any division.

    Attributes:
        classes: Cross-entropy over all queries, those of no region weighted down.
        masks: Binary cross-entropy, the mean over points, over all regions.
        dice: One less twice the overlap over the sum, over all regions.
    """

    classes: Float[Array, ""]
    masks: Float[Array, ""]
    dice: Float[Array, ""]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matched:
    """What queries are matched by and weighed with.

    Attributes:
        class_weight: Of the class, in the match and in the loss.
        mask_weight: Of the masks' cross-entropy.
        dice_weight: Of the masks' overlap.
        no_object_weight: Of a query that stands for no region, in the loss of classes.
        points: At how many points masks are compared.
        oversample: How many points are looked at for each that the loss takes.
        importance: The share of those that are the most uncertain.
    """

    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    no_object_weight: float = 0.1
    points: int = 12544
    oversample: float = 3.0
    importance: float = 0.75

    def costs(
        self, classes: Float[Array, "q k"], masks: Logits, truth: Truth, where: Float[Array, "p 2"]
    ) -> Float[Array, "n q"]:
        """Return what it costs to match each region with each query, at the same points."""
        logits, seen = points.sample(masks, where), points.see(truth, where)
        inside, known = (x.astype(logits.dtype) for x in seen)
        probability = jax.nn.softmax(classes)[:, jnp.maximum(truth.classes, 0)].T
        count = jnp.maximum(known.sum(), 1e-6)
        # The cross-entropy of a point of no region is softplus(x), of one inside x less.
        entropy = (known * jax.nn.softplus(logits)).sum(0) - (known * inside).T @ logits
        p = jax.nn.sigmoid(logits) * known
        top = 2 * inside.T @ p
        bottom = p.sum(0) + (known * inside).sum(0)[:, None]
        dice = 1 - (top + 1) / (bottom + 1)
        return (
            self.mask_weight * entropy / count
            + self.dice_weight * dice
            - self.class_weight * probability
        )

    def match(
        self, classes: Float[Array, "l b q k"], masks: Float[Array, "l b h w q"], truth: Truth,
        keys: Array,
    ) -> Int32[Array, "l b n"]:  # fmt: skip
        """Return the query of each region of each image by each layer's answers; -1: none.

        Args:
            classes: Logits.
            masks: Logits.
            truth: Of each image.
            keys: Of each layer and image.
        """

        def one(truth: Truth, classes: Array, masks: Array, key: Key) -> Array:
            where = jax.random.uniform(key, (self.points, 2), masks.dtype)
            return self.costs(classes, masks, truth, where)

        classes, masks = lax.stop_gradient((classes, masks))
        costs = jax.vmap(jax.vmap(one), in_axes=(None, 0, 0, 0))(truth, classes, masks, keys)
        there = jnp.broadcast_to(truth.classes >= 0, costs.shape[:-1])
        return assignment.assign_all(costs, there)

    def of_classes(
        self,
        logits: Float[Array, "q k"],
        classes: Int32[Array, " n"],
        query: Int32[Array, " n"],
        known: Bool[Array, ""],
    ) -> Float[Array, ""]:
        """Return the cross-entropy of an image's queries; 0 where nothing of it is known."""
        none = logits.shape[-1] - 1
        mine = query[:, None] == jnp.arange(logits.shape[0], dtype=query.dtype)  # [n q]
        matched = mine.any(0)
        label = jnp.where(
            matched, jnp.where(mine, classes[:, None], 0).sum(0, dtype=classes.dtype), none
        )
        weight = jnp.where(known, jnp.where(matched, 1.0, self.no_object_weight), 0.0)
        truth = label[:, None] == jnp.arange(none + 1, dtype=label.dtype)
        entropy = jax.nn.logsumexp(logits, axis=-1) - jnp.where(truth, logits, 0).sum(-1)
        return (weight.astype(entropy.dtype) * entropy).sum()

    def of_masks(
        self, masks: Logits, truth: Truth, query: Int32[Array, " n"], key: Key
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Return both losses of an image's masks, at points drawn for each region."""
        channel = jnp.maximum(query, 0)
        where = points.uncertain(
            masks, channel, key, count=self.points, oversample=self.oversample,
            importance=self.importance,
        )  # fmt: skip
        logits = points.sample_each(masks, channel, where)
        return at_points(logits, points.see_each(truth, where), query >= 0)

    def weight_of_classes(
        self, regions: Int32[Array, " b"], known: Bool[Array, " b"], queries: int
    ) -> Float[Array, ""]:
        """Return the weights of all queries of images that have so many regions."""
        matched = jnp.minimum(regions, queries).astype(float)
        weight = matched + self.no_object_weight * (queries - matched)
        return jnp.where(known, weight, 0).sum()

    def __call__(
        self, classes: Float[Array, "l b q k"], masks: Float[Array, "l b h w q"], truth: Truth,
        known: Bool[Array, " b"], keys: Array,
    ) -> Sums:  # fmt: skip
        """Return the sums [l] of each layer's answers over all images.

        Args:
            classes: Logits of each class, and last of none.
            masks: Logits.
            truth: Of each image.
            known: Whether anything of an image is.
            keys: Of each image.
        """
        wide = sums.widen(masks.dtype)
        classes, masks = classes.astype(wide), masks.astype(wide)
        layers = jnp.arange(classes.shape[0], dtype=jnp.int32)
        keys = jax.vmap(lambda layer: jax.vmap(lambda key: two(key, layer))(keys))(layers)
        query = self.match(classes, masks, truth, keys[..., 0])

        def layer(item: tuple[Array, ...]) -> Sums:
            classes, masks, query, keys = item
            entropy = jax.vmap(self.of_classes)(classes, truth.classes, query, known)
            pixels, dice = jax.vmap(self.of_masks)(masks, truth, query, keys)
            return Sums(entropy.sum(), pixels.sum(), dice.sum())

        return lax.map(layer, (classes, masks, query, keys[..., 1]))


def two(key: Key, layer: Int32[Array, ""]) -> Array:
    """Return the keys of an image for one layer: of the match, and of the loss."""
    return jax.random.split(jax.random.fold_in(key, layer))


def at_points(
    logits: Float[Array, "n p"], seen: Seen, there: Bool[Array, " n"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the cross-entropy and the Dice loss of masks at points, summed over regions.

    Points of which nothing is known do not count, nor do regions that are not `there`.
    """
    inside, known = (x.astype(logits.dtype) for x in seen)
    logits = jnp.where(known > 0, logits, 0)
    count = known.sum(-1)
    entropy = (known * (jax.nn.softplus(logits) - inside * logits)).sum(-1)
    entropy = entropy / jnp.where(count > 0, count, 1)
    p = jax.nn.sigmoid(logits) * known
    dice = 1 - (2 * (p * inside).sum(-1) + 1) / (p.sum(-1) + (known * inside).sum(-1) + 1)
    counted = there & (count > 0)
    return jnp.where(counted, entropy, 0).sum(), jnp.where(counted, dice, 0).sum()
