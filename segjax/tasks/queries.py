"""Segmentation by queries, each of which answers a class and a mask: semantic, instance, panoptic.

Trained as Mask2Former and EoMT are (arXiv:2112.01527, arXiv:2503.19108), see `losses.queries`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from segjax.config import kinds, rules
from segjax.errors import ConfigError
from segjax.layers.queries import Answers, Outputs
from segjax.losses.points import Truth
from segjax.losses.queries import Matched
from segjax.structs import Key, Kind, Scalar, Term
from segjax.tasks.base import Step

POWER = 0.9
"""Of the share of masked attention left, as published."""
Span = Annotated[Sequence[kinds.Count], rules.length(2, 2)]
Share = Annotated[Sequence[Annotated[kinds.Real, rules.number(0, 100)]], rules.length(2, 2)]
OBJECT_FIELDS: Mapping[str, Kind] = {
    "object_masks": "masks",
    "object_classes": "value",
    "object_crowd": "value",
}


@flax.struct.dataclass
class Found:
    """What queries found in a batch, on the device or, one row of it, on the host.

    Attributes:
        scores: float32 [b m]: the probability of the class.
        classes: int32 [b m].
        queries: int32 [b m]: whose mask it is.
        masks: float32 [b h w q]: logits.
        canvas: int32 [b axes]: the sides of what the masks cover, in pixels.
    """

    scores: Any
    classes: Any
    queries: Any
    masks: Any
    canvas: Any


@dataclasses.dataclass(kw_only=True, eq=False)
class Queries:
    """What the tasks share: the loss of all layers' answers, and how masked attention ends.

    Attributes:
        num_classes: Classes that a query can answer, beside none of them.
        queries: How many the model has: that decides what the class of no region weighs.
        annealing_percent: Of each block that sees queries the first and the last moment between
            which masked attention ends, in percent of the training, see `attend`; none: it does
            not. Published are, of six equal parts and four blocks, the second to the fifth part.
        annealing: The same in steps, whatever the training's length.
        total_steps: Of the training; 0: nobody trains.
        class_weight: Factor of the classes' cross-entropy, and its weight where regions are matched
            with queries.
        mask_weight: Likewise of the masks' cross-entropy.
        dice_weight: Likewise of the masks' Dice loss.
        no_object_weight: What a query counts in the first that stands for no region.
        num_points: At how many points masks are compared.
        oversample: How many points are looked at, for each that the loss takes.
        importance: The share of points that are the most uncertain of these.

    Raises:
        ConfigError: Moments that are not in order, or given in both units.
    """

    outputs: ClassVar[str] = "queries"
    """What it takes from a model."""
    needs: ClassVar[Mapping[str, Kind]] = {}

    num_classes: int
    queries: Annotated[int, rules.whole(1, 1024)] = 100
    annealing_percent: Annotated[Sequence[Share], rules.length(0, 64)] = ()
    annealing: Annotated[Sequence[Span], rules.length(0, 64)] = ()
    total_steps: kinds.Count = 0
    class_weight: kinds.NotNegative = 2.0
    mask_weight: kinds.NotNegative = 5.0
    dice_weight: kinds.NotNegative = 5.0
    no_object_weight: kinds.NotNegative = 0.1
    num_points: Annotated[int, rules.whole(1, 2**20)] = 12544
    oversample: Annotated[kinds.Real, rules.number(1, 16)] = 3.0
    importance: kinds.Probability = 0.75

    def __post_init__(self):
        if self.annealing and self.annealing_percent:
            raise ConfigError(
                "config.task: annealing and annealing_percent say the same thing. Keep one."
            )
        for name in ("annealing", "annealing_percent"):
            for first, last in getattr(self, name):
                if last <= first:
                    raise ConfigError(
                        f"config.task.{name} has ({first}, {last}): expected a first moment before "
                        "the last. Give each block two, or none any."
                    )
        self.factors = {
            "classes": self.class_weight, "masks": self.mask_weight, "dice": self.dice_weight
        }  # fmt: skip
        self.matched = Matched(
            class_weight=self.class_weight, mask_weight=self.mask_weight,
            dice_weight=self.dice_weight, no_object_weight=self.no_object_weight,
            points=self.num_points, oversample=self.oversample, importance=self.importance,
        )  # fmt: skip

    def inputs(self, batch: Mapping[str, Any], key: Key, step: Step) -> dict[str, Any]:
        """Return what the model gets in training: how often a query sees no more than its mask."""
        del batch, key
        return {"attend": attend(spans, step)} if (spans := self.spans()) else {}

    def spans(self) -> Sequence[Sequence[kinds.Real]]:
        """Return the steps between which masked attention ends, of each block.

        Raises:
            ConfigError: They are shares of a training, and there is none.
        """
        if self.annealing_percent and not self.total_steps:
            raise ConfigError(
                "config.task.annealing_percent: a share of a training that has no length. Set "
                "config.total_steps."
            )
        shares = [
            [share * self.total_steps / 100 for share in own] for own in self.annealing_percent
        ]
        return shares or self.annealing

    def truth(self, batch: Mapping[str, Any], key: Key) -> tuple[Truth, Array, Array]:
        """Return the regions of each image, whether anything of it is known [b], and its key."""
        raise NotImplementedError

    def weights(self, batch: Mapping[str, Any]) -> dict[str, Scalar]:
        """Return what queries of all images count together, and the number of regions."""
        truth, known, _ = self.truth(batch, jax.random.key(0))
        count = (truth.classes >= 0).sum(-1, dtype=jnp.int32)
        return {
            "classes": self.matched.weight_of_classes(count, known, self.queries),
            "masks": count.sum().astype(jnp.float32),
        }

    def loss(self, outputs: Outputs, batch: Mapping[str, Any], key: Key) -> dict[str, Term]:
        """Return three terms of the last layer's answers, and the sums of them of the others'.

        Raises:
            ConfigError: The model has another number of queries.
        """
        layers = (*outputs.earlier, outputs.last)
        if (found := outputs.last.classes.shape[1]) != self.queries:
            raise ConfigError(
                f"config.task.queries={self.queries}: the model has {found}. Set it to that, or "
                f"config.model.queries={self.queries}."
            )
        truth, known, keys = self.truth(batch, key)
        sums = self.matched(
            jnp.stack([each.classes for each in layers]),
            jnp.stack([each.masks for each in layers]),
            truth, known, keys,
        )  # fmt: skip
        weights = self.weights(batch)
        terms = {}
        for name, (total, part) in zip(
            self.factors, ((sums.classes, "classes"), (sums.masks, "masks"), (sums.dice, "masks")),
            strict=True,
        ):  # fmt: skip
            weight = weights[part].astype(total.dtype)
            factor = self.factors[name]
            terms[name] = Term(total[-1], weight, factor, divisor=part)
            if outputs.earlier:
                terms[f"earlier_{name}"] = Term(total[:-1].sum(), weight, factor, divisor=part)
        return terms


def attend(annealing: Sequence[Sequence[kinds.Real]], step: Step) -> Float[Array, " blocks"]:
    """Return the probability of masked attention in each block: 1 first, 0 in the end.

    Between, it is (1 - share of the steps)^0.9.
    """
    first, last = (jnp.asarray(each, jnp.float32) for each in zip(*annealing, strict=True))
    done = (jnp.asarray(step, jnp.float32) - first) / (last - first)
    return jnp.clip(1 - done, 0, 1) ** POWER


def example_keys(batch: Mapping[str, Any], key: Key) -> Array:
    """Return a key for each example, of its global position."""
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(batch["index"])


def probabilities(answers: Answers) -> Float[Array, "b q k"]:
    """Return the probability of each class, and last of none, float32."""
    return jax.nn.softmax(answers.classes.astype(jnp.float32))


def found_of(outputs: Outputs, scores: Array, classes: Array, queries: Array) -> Found:
    """Return what was found with the masks of all queries."""
    canvas = jnp.broadcast_to(jnp.asarray(outputs.size, jnp.int32), (len(scores), 2))
    return Found(scores, classes, queries, outputs.last.masks.astype(jnp.float32), canvas)
