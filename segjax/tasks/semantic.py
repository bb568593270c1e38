"""Semantic segmentation: a class for every pixel."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Int32

from segjax.config import annotations, kinds, lookup, rules
from segjax.errors import ConfigError
from segjax.losses.base import Loss, as_loss
from segjax.metrics import confusion
from segjax.structs import Batch, Key, Kind, Label, Outputs, Scalar, Term


class Task:
    """Weigh losses of logits against a class map; predict the most probable class.

    Args:
        losses: Sections such as `dict(type='pixel:cross_entropy', weight=1.0)`; the loss is their
            sum, each times its `weight`. Two of one type are logged as `tversky` and `tversky-2`.
        aux_weight: Factor of the same losses on every auxiliary head (PSPNet and FCN use 0.4).
        num_classes: Classes of the data set, void not counted.

    Raises:
        ConfigError: No loss, one without a weight of at least 0, one twice, one that cannot be
            built, or no weight above 0.
    """

    needs: Mapping[str, Kind] = {"label": "classes"}

    def __init__(
        self,
        *,
        losses: Annotated[Sequence[kinds.Section], rules.length(1, 100)],
        num_classes: int,
        aux_weight: kinds.NotNegative = 0.4,
    ):
        self.num_classes, self.aux_weight = num_classes, aux_weight
        self.losses: dict[str, tuple[float, Loss]] = {}
        seen: list[dict[str, Any]] = []
        for number, section in enumerate(losses):
            own = dict(section)
            where = f"config.task.losses[{number}]"
            if "weight" not in own:
                raise ConfigError(
                    f"{where}: needs 'weight', its factor in the sum. Add weight=1.0."
                )
            factor = own.pop("weight")
            if wrong := annotations.fault(kinds.NotNegative, factor, f"{where}.weight"):
                raise ConfigError(
                    f"{wrong.where}={rules.shown(factor)}: expected {wrong.expected}. 1.0 is "
                    "common, 0 leaves it out."
                )
            name = str(own.get("type", "")).rpartition(":")[2]
            if own in seen:
                raise ConfigError(f"{where}: {name!r} stands twice. Put its weight in one place.")
            seen.append(own)
            same = sum(other["type"] == own["type"] for other in seen if "type" in own)
            name = f"{name}-{same}" if same > 1 else name
            takes = ("logits", "label")
            loss = as_loss(lookup.build("losses", own, where=where, takes=takes, also=["weight"]))
            loss.check(num_classes)
            self.losses[name] = factor, loss
        if not any(factor for factor, _ in self.losses.values()):
            raise ConfigError(
                "config.task.losses: every weight is 0, expected one above 0: nothing is learned. "
                "Set weight=1.0."
            )

    def weights(self, batch: Batch) -> dict[str, Scalar]:
        """Return the weight of each loss."""
        return {
            name: loss.weight(batch["label"], num_classes=self.num_classes)
            for name, (_, loss) in self.losses.items()
        }

    def loss(self, outputs: Outputs, batch: Batch, key: Key) -> dict[str, Term]:
        """Return a term for each loss, on the logits and on those of every auxiliary head."""
        del key  # nothing is drawn
        heads = {"": (1.0, outputs.logits)}
        heads |= {f"aux{i}_": (self.aux_weight, logits) for i, logits in enumerate(outputs.aux)}
        terms = {}
        for head, (share, logits) in heads.items():
            for name, (factor, loss) in self.losses.items():
                total, weight = loss(logits, batch["label"])
                terms[head + name] = Term(total, weight, share * factor, divisor=name)
        return terms

    def scores(self, outputs: Outputs) -> Float[Array, "b *space k"]:
        """Return float32 logits, which may be resized and blended before a class is chosen."""
        return outputs.logits.astype(jnp.float32)

    def decide(self, scores: Float[Array, "b *space k"]) -> Int[Array, "b *space"]:
        """Return the most probable class of every pixel."""
        return jnp.argmax(scores, axis=-1).astype(jnp.int32)

    def compare(self, pred: Int[Array, "b *space"], label: Label) -> Int32[Array, "b k k"]:
        """Return the confusion matrix of each class map."""
        return confusion.counts_per_example(pred, label, num_classes=self.num_classes)
