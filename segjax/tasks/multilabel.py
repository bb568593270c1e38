"""Multi-label segmentation: of every pixel, for each class by itself, whether it is of it."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, Integer, UInt8

from segjax.config import kinds, rules
from segjax.errors import ConfigError
from segjax.metrics import confusion
from segjax.structs import Amounts, Kind, Labels, Outputs
from segjax.tasks.base import DeepWeights, LossSections, Supervised

LOWEST, HIGHEST = 1e-6, 1 - 1e-6
Threshold: TypeAlias = Annotated[kinds.Real, rules.number(LOWEST, HIGHEST)]


class Task(Supervised):
    """Weigh losses of logits against a map for each class; predict all classes that are probable.

    Classes may overlap, and a pixel may be of none; there is no background among them. The losses
    are those with `activation='sigmoid'`.

    Args:
        losses: Sections such as `dict(type='pixel:cross_entropy', activation='sigmoid',
            weight=1.0)`, see `Supervised`.
        threshold: A pixel is of a class whose probability is above it: one for all classes, or one
            for each. Between 0 and 1.
        aux_weight: Factor of the same losses on every auxiliary head.
        deep_weights: Factors of the logits and of the model's deep ones, see `Supervised`.
        amounts: How much of each class the data has, see `Supervised`.
        num_classes: Classes of the data set.

    Raises:
        ConfigError: Losses, weights or thresholds that cannot be used, see `Supervised`.
    """

    needs: Mapping[str, Kind] = {"label": "labels"}
    multilabel = True

    def __init__(
        self,
        *,
        losses: LossSections,
        num_classes: int,
        threshold: Threshold | Sequence[Threshold] = 0.5,
        aux_weight: kinds.NotNegative = 0.4,
        deep_weights: DeepWeights = (),
        amounts: Amounts | None = None,
    ):
        super().__init__(
            losses, num_classes=num_classes, aux_weight=aux_weight, deep_weights=deep_weights,
            amounts=amounts,
        )  # fmt: skip
        each = threshold if isinstance(threshold, Sequence) else [threshold] * num_classes
        if len(each) != num_classes:
            raise ConfigError(
                f"config.task.threshold has {len(each)} values, expected {num_classes}, one for "
                "each class. Give one per class in the order of class_names, or one number."
            )
        self.cuts = tuple(math.log(p / (1 - p)) for p in each)

    def scores(self, outputs: Outputs) -> Float[Array, "b *space k"]:
        """Return float32 logits, which may be resized and blended before classes are chosen."""
        return outputs.logits.astype(jnp.float32)

    def probabilities(self, scores: Float[Array, "*space k"]) -> Float[Array, "*space k"]:
        """Return the probability of each class by itself, the sigmoid of its logit."""
        return jax.nn.sigmoid(scores)

    def decide(self, scores: Float[Array, "b *space k"]) -> UInt8[Array, "b *space k"]:
        """Return 1 for every class of a pixel whose probability is above its threshold, else 0."""
        return (scores > jnp.asarray(self.cuts, scores.dtype)).astype(jnp.uint8)

    def compare(self, pred: Integer[Array, "b *space k"], label: Labels) -> Int32[Array, "b k 2 2"]:
        """Return the confusion matrix of each class by itself, true answers as rows."""
        return confusion.binary_counts_per_example(pred, label)
