"""Semantic segmentation: a class for every pixel."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Int32

from segjax.config import kinds
from segjax.kernels import ranking
from segjax.metrics import confusion
from segjax.structs import Amounts, Kind, Label, Outputs
from segjax.tasks.base import DeepWeights, LossSections, Supervised


class Task(Supervised):
    """Weigh losses of logits against a class map; predict the most probable class.

    Args:
        losses: Sections such as `dict(type='pixel:cross_entropy', weight=1.0)`, see `Supervised`.
        aux_weight: Factor of the same losses on every auxiliary head.
        deep_weights: Factors of the logits and of the model's deep ones, see `Supervised`.
        amounts: How much of each class the data has, see `Supervised`.
        num_classes: Classes of the data set, void not counted.

    Raises:
        ConfigError: Losses or weights that cannot be used, see `Supervised`.
    """

    needs: Mapping[str, Kind] = {"label": "classes"}

    def __init__(
        self,
        *,
        losses: LossSections,
        num_classes: int,
        aux_weight: kinds.NotNegative = 0.4,
        deep_weights: DeepWeights = (),
        amounts: Amounts | None = None,
    ):
        super().__init__(
            losses, num_classes=num_classes, aux_weight=aux_weight, deep_weights=deep_weights,
            amounts=amounts,
        )  # fmt: skip

    def scores(self, outputs: Outputs) -> Float[Array, "b *space k"]:
        """Return float32 logits, which may be resized and blended before a class is chosen."""
        return outputs.logits.astype(jnp.float32)

    def probabilities(self, scores: Float[Array, "*space k"]) -> Float[Array, "*space k"]:
        """Return the probability of each class of all, the softmax of the logits."""
        return jax.nn.softmax(scores)

    def decide(self, scores: Float[Array, "b *space k"]) -> Int[Array, "b *space"]:
        """Return the most probable class of every pixel."""
        return ranking.place_of_largest(scores)

    def compare(self, pred: Int[Array, "b *space"], label: Label) -> Int32[Array, "b k k"]:
        """Return the confusion matrix of each class map."""
        return confusion.counts_per_example(pred, label, num_classes=self.num_classes)
