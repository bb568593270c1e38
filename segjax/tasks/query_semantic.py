"""Semantic segmentation by queries: each answers a class and where it is."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Int32

from segjax.kernels import ranking
from segjax.layers import resample
from segjax.layers.queries import Outputs
from segjax.losses import points
from segjax.losses.points import Truth
from segjax.metrics import confusion
from segjax.structs import Key, Label
from segjax.tasks.queries import Queries, example_keys, probabilities


@dataclasses.dataclass(kw_only=True, eq=False)
class Task(Queries):
    """Semantic segmentation: a region for each class that an image has.

    Attributes:
        num_classes: Classes of the data set, void not counted.
    """

    needs = {"label": "classes"}

    def truth(self, batch: Mapping[str, Any], key: Key) -> tuple[Truth, Array, Array]:
        """Return a region for each class that an image has; void pixels do not count."""
        label = batch["label"]
        values = jnp.arange(self.num_classes, dtype=jnp.int32)
        there = jax.vmap(points.present, in_axes=(0, None))(label, values)
        every = jnp.broadcast_to(values, there.shape)
        nothing = jnp.zeros((*label.shape, 0), jnp.uint8)
        truth = Truth(jnp.where(there, every, -1), nothing, label, every)
        return truth, there.any(-1), example_keys(batch, key)

    def scores(self, outputs: Outputs) -> Float[Array, "b *space k"]:
        """Return for each class the sum of its probability times the masks', over all queries."""
        masks = resample.resize(outputs.last.masks.astype(jnp.float32), outputs.size)
        classes = probabilities(outputs.last)[..., :-1]
        return jnp.einsum("bhwq,bqk->bhwk", jax.nn.sigmoid(masks), classes)

    def probabilities(self, scores: Float[Array, "*space k"]) -> Float[Array, "*space k"]:
        """Return the share of each class in the sum of all."""
        return scores / jnp.maximum(scores.sum(-1, keepdims=True), 1e-12)

    def decide(self, scores: Float[Array, "b *space k"]) -> Int[Array, "b *space"]:
        """Return the class of the highest score of every pixel."""
        return ranking.place_of_largest(scores)

    def compare(self, pred: Int[Array, "b *space"], label: Label) -> Int32[Array, "b k k"]:
        """Return the confusion matrix of each class map."""
        return confusion.counts_per_example(pred, label, num_classes=self.num_classes)
