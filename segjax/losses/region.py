"""Losses on regions, one for each image and class: soft Dice and soft Jaccard.

Each returns `(sum, weight)`: `1 - score` summed over the counted (image, class) pairs, and their
number, which depends on the label alone. So the loss is a sum over images: how they are dealt to
devices or accumulation steps cannot change it, and padding images count nothing. *Batch* Dice pools
the areas of all images before dividing: it has neither property, and images where a class is large
outvote those where it is small. Void pixels are left out of every area, and get no gradient.
"""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, DTypeLike, Float

from segjax.config import kinds, rules
from segjax.errors import ConfigError
from segjax.losses import pixel
from segjax.losses.base import Pair
from segjax.structs import Label, Logits


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Overlap:
    """What the losses of regions share: which pairs of image and class count, and how smoothly.

    Attributes:
        smooth: Added above and below the fraction, in pixels.
        classes: 'present' counts the classes that occur in the image's label; 'all' counts every
            class of an image with any valid pixel, so that probability on absent classes costs.

    Raises:
        ConfigError: Both cannot be used together.
    """

    smooth: kinds.NotNegative = 1.0
    classes: Annotated[str, rules.one_of("present", "all")] = "present"

    def __post_init__(self):
        if self.classes == "all" and self.smooth == 0:
            raise ConfigError(
                f"{type(self).__name__.lower()}: smooth=0 with classes='all', expected smooth > 0: "
                "without it an absent class scores 0 whatever is predicted. Set smooth=1, or "
                "classes='present'."
            )

    def check(self, num_classes: int) -> None:
        """Accept any number of classes."""

    def weight(self, label: Label, *, num_classes: int) -> Float[Array, ""]:
        """Return the number of counted (image, class) pairs."""
        target, _ = pixel.one_hot(label, num_classes)
        actual = _true_areas(target, float)
        return _count(self._counted(actual), actual.dtype)

    def _counted(self, actual: Float[Array, "b k"]) -> Bool[Array, "b k"]:
        """Return which pairs of image and class count, from the true areas."""
        counted = actual > 0
        if self.classes == "all":
            counted = jnp.broadcast_to(jnp.any(counted, axis=-1, keepdims=True), actual.shape)
        return counted

    def _sum_pairs(self, loss: Float[Array, "b k"], actual: Float[Array, "b k"]) -> Pair:
        """Return the loss summed over the counted (image, class) pairs, and their number."""
        counted = self._counted(actual)
        return jnp.sum(jnp.where(counted, loss, 0)), _count(counted, loss.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dice(_Overlap):
    """The soft Dice loss `1 - (2 sum pg + s) / (sum p + sum g + s)`.

    p is the softmax probability and g the one-hot label, summed over an image's valid pixels.
    Drozdzal et al. 2016 (arXiv 1608.04117); with `square`, p^2 in the denominator, Milletari et al.
    2016 (V-Net, arXiv 1606.04797).

    Attributes:
        square: Whether to square the probabilities in the denominator.

    Raises:
        ConfigError: `smooth` and `classes` cannot be used together.
    """

    square: bool = False

    def __call__(self, logits: Logits, label: Label) -> Pair:
        """Return (sum, weight); computed in float32 at least."""
        overlap, predicted, actual = _areas(logits, label, square=self.square)
        score = _ratio(2 * overlap + self.smooth, predicted + actual + self.smooth)
        return self._sum_pairs(1 - score, actual)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Jaccard(_Overlap):
    """The soft IoU loss `1 - (sum pg + s) / (sum p + sum g - sum pg + s)`.

    Rahman & Wang 2016 (Optimizing Intersection-Over-Union in Deep Neural Networks for Image
    Segmentation, eq. 3 to 5). Arguments and errors are those of `Dice`, without `square`.
    """

    def __call__(self, logits: Logits, label: Label) -> Pair:
        """Return (sum, weight); computed in float32 at least."""
        overlap, predicted, actual = _areas(logits, label, square=False)
        score = _ratio(overlap + self.smooth, predicted + actual - overlap + self.smooth)
        return self._sum_pairs(1 - score, actual)


def _areas(
    logits: Logits, label: Label, *, square: bool
) -> tuple[Float[Array, "b k"], Float[Array, "b k"], Float[Array, "b k"]]:
    """Return overlap, predicted and true area of each image and class, in valid pixels."""
    logits, target, valid = pixel.mask_void(logits, label)
    space = tuple(range(1, logits.ndim - 1))
    probs = jnp.where(valid[..., None], jax.nn.softmax(logits), 0)
    overlap = jnp.sum(jnp.where(target, probs, 0), axis=space)
    predicted = jnp.sum(jnp.square(probs) if square else probs, axis=space)
    return overlap, predicted, _true_areas(target, probs.dtype)


def _true_areas(target: Bool[Array, "b *space k"], dtype: DTypeLike) -> Float[Array, "b k"]:
    """Return the true area of each image and class, in valid pixels."""
    return jnp.sum(target, axis=tuple(range(1, target.ndim - 1)), dtype=jnp.int32).astype(dtype)


def _count(counted: Bool[Array, "b k"], dtype: DTypeLike) -> Float[Array, ""]:
    return jnp.sum(counted, dtype=jnp.int32).astype(dtype)


def _ratio(above: Float[Array, "b k"], below: Float[Array, "b k"]) -> Float[Array, "b k"]:
    """Divide, with a finite result and gradient where both are 0 (no area and no smooth)."""
    return above / jnp.where(below > 0, below, 1)
