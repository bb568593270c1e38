"""A loss on the skeletons of thin things: that vessels, roads and cracks stay connected."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from segjax.config import kinds, rules
from segjax.errors import ConfigError
from segjax.losses import base
from segjax.losses.base import Pair, Target, Valid
from segjax.structs import Label, Labels, Logits


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClDice(base.OfEither):
    """The soft centerline Dice loss `1 - 2 Tprec Tsens / (Tprec + Tsens)`.

    Tprec is the share of the prediction's skeleton that lies in the truth, Tsens that of the
    truth's skeleton in the prediction. Shit et al. 2021 (clDice, arXiv 2003.07311, eq. 1 to 3 and
    algorithm 1). Each pair of image and class counts once, where the class occurs in the label.
    Classes of the background have no centerline: name those that have one. Used beside a loss of
    regions, which decides how wide things are.

    Attributes:
        activation: 'softmax' or 'sigmoid', see `base.Activation`.
        classes: The numbers of the classes that are thin.
        iterations: How often the mask is eroded: at least the largest radius, in pixels.
        smooth: Added above and below each fraction, in pixels.
    """

    classes: Annotated[Sequence[kinds.Count], rules.length(1, 255)] = (1,)
    iterations: Annotated[int, rules.whole(1, 1024)] = 10
    smooth: kinds.Positive = 1.0

    def __post_init__(self):
        object.__setattr__(self, "classes", tuple(self.classes))  # a list would have no hash

    def __call__(self, logits: Logits, label: Label | Labels) -> Pair:
        """Return (sum, weight); computed in float32 at least."""
        logits, target, valid = base.mask_void(logits, label, self.activation)
        probs = base.probabilities(logits, valid, self.activation)
        chosen = jnp.asarray(self.classes)
        pred, true = (jnp.take(x, chosen, axis=-1) for x in (probs, target.astype(probs.dtype)))
        precision = self._share(skeleton(pred, self.iterations), true)
        recall = self._share(skeleton(true, self.iterations), pred)
        loss = 1 - 2 * precision * recall / (precision + recall)
        return base.sum_of(loss, jnp.any(true > 0, axis=tuple(range(1, true.ndim - 1))))

    def number(self, target: Target, valid: Valid) -> Float[Array, ""]:
        """Return the number of pairs of an image and a thin class that occurs in it."""
        return base.number_of(base.somewhere(target)[:, jnp.asarray(self.classes)])

    def check(self, num_classes: int, *, multilabel: bool = False) -> None:
        """Raise `ConfigError` unless every class is one of the data's, and stands once."""
        super().check(num_classes, multilabel=multilabel)
        known = set(range(num_classes))
        if len({*self.classes} & known) != len(self.classes):
            raise ConfigError(
                f"topology:cl_dice: classes={list(self.classes)}, expected different numbers from "
                f"0 to {num_classes - 1}: the classes that are thin."
            )

    def _share(self, skeleton: Array, mask: Array) -> Float[Array, "b k"]:
        """Return how much of a skeleton lies in a mask, for each image and class."""
        space = tuple(range(1, mask.ndim - 1))
        inside, whole = jnp.sum(skeleton * mask, axis=space), jnp.sum(skeleton, axis=space)
        return (inside + self.smooth) / (whole + self.smooth)


def skeleton(mask: Float[Array, "b *space k"], iterations: int) -> Float[Array, "b *space k"]:
    """Return the soft skeleton of masks in [0, 1] (algorithm 1): what opening takes away."""

    def peel(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        eroded, found = state
        eroded = erode(eroded)
        ridge = jax.nn.relu(eroded - opened(eroded))
        return (eroded, found + jax.nn.relu(ridge - found * ridge)), None

    begin = mask, jax.nn.relu(mask - opened(mask))
    (_, found), _ = jax.lax.scan(peel, begin, length=iterations)
    return found


def opened(mask: Float[Array, "b *space k"]) -> Float[Array, "b *space k"]:
    """Return a mask eroded and then dilated."""
    return dilate(erode(mask))


def erode(mask: Float[Array, "b *space k"]) -> Float[Array, "b *space k"]:
    """Return the least of each pixel and its two neighbours along each axis: a cross."""
    axes = range(1, mask.ndim - 1)
    return functools.reduce(jnp.minimum, [-_largest(-mask, axis) for axis in axes])


def dilate(mask: Float[Array, "b *space k"]) -> Float[Array, "b *space k"]:
    """Return the largest of the 3 x 3 (x 3) pixels around each."""
    for axis in range(1, mask.ndim - 1):
        mask = _largest(mask, axis)
    return mask


def _largest(values: Array, axis: int) -> Array:
    """Return the largest of each pixel and its two neighbours along an axis."""
    length, edge = values.shape[axis], [(0, 0)] * values.ndim
    edge[axis] = (1, 1)
    wide = jnp.pad(values, edge, constant_values=-jnp.inf)
    return functools.reduce(
        jnp.maximum, [jax.lax.slice_in_dim(wide, i, i + length, axis=axis) for i in range(3)]
    )
