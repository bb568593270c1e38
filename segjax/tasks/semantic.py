"""Semantic segmentation: a class for every pixel."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from segjax.config import lookup
from segjax.errors import ConfigError
from segjax.metrics import confusion
from segjax.structs import Batch, Outputs

Terms = dict[str, tuple[float, jax.Array, jax.Array]]


class Task:
    """The two verbs of semantic segmentation, `loss` and `predict`, and `measure` for evaluation.

    Args:
        losses: Sections such as `dict(type='pixel:cross_entropy', weight=1.0)`; the loss is their
            sum, each times its `weight`.
        aux_weight: Factor of the same losses on every auxiliary head (PSPNet and FCN use 0.4).
        num_classes: Classes of the data set, void not counted.
    """

    def __init__(
        self, *, losses: Sequence[Mapping[str, Any]], num_classes: int, aux_weight: float = 0.4
    ):
        if not losses:
            raise ConfigError(
                "config.task.losses is empty. Add one, e.g. type='pixel:cross_entropy'."
            )
        self.num_classes = num_classes
        self.aux_weight = aux_weight
        self.losses = {}
        for number, section in enumerate(losses):
            own = dict(section)
            where = f"config.task.losses[{number}]"
            if "weight" not in own:
                raise ConfigError(
                    f"{where}: needs 'weight', its factor in the sum. Add weight=1.0."
                )
            factor = own.pop("weight")
            name = own.get("type", "").rpartition(":")[2]
            if name in self.losses:
                raise ConfigError(f"{where}: {name!r} stands twice. Put its weight in one place.")
            self.losses[name] = (factor, lookup.build("losses", own, where=where))

    def loss(self, outputs: Outputs, batch: Batch) -> Terms:
        """Return `{name: (factor, sum, weight)}`: each term is factor · sum / weight."""
        terms = {
            name: (factor, *fn(outputs.logits, batch["label"]))
            for name, (factor, fn) in self.losses.items()
        }
        for head, logits in enumerate(outputs.aux):
            for name, (factor, fn) in self.losses.items():
                total, weight = fn(logits, batch["label"])
                terms[f"aux{head}_{name}"] = (self.aux_weight * factor, total, weight)
        return terms

    def predict(self, outputs: Outputs) -> Int[Array, "b h w"]:
        """Return the most probable class of every pixel."""
        return jnp.argmax(outputs.logits, axis=-1).astype(jnp.int32)

    def measure(self, outputs: Outputs, batch: Batch) -> dict[str, Any]:
        """Return `pred`, the confusion `counts` `[b k k]` and `loss` as the terms of one batch."""
        pred = self.predict(outputs)
        counts = confusion.counts_per_example(pred, batch["label"], num_classes=self.num_classes)
        return {"pred": pred, "counts": counts, "loss": self.loss(outputs, batch)}
