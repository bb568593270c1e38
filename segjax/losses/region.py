"""Losses on regions, one for each image and class: soft Dice, Jaccard, Tversky, MCC.

Each returns `(sum, weight)`: `1 - score` summed over the counted (image, class) pairs, and their
number, which depends on the label alone. So the loss is a sum over images: how they are dealt to
devices or accumulation steps cannot change it, and padding images count nothing. *Batch* Dice pools
the areas of all images before dividing: accumulation steps do change it, and images where a class
is large outvote those where it is small. Void pixels are left out of every area, and get no
gradient.
"""

import dataclasses
from typing import Annotated, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from segjax.config import kinds, rules
from segjax.errors import ConfigError
from segjax.losses import base
from segjax.losses.base import Pair, Target, Valid
from segjax.structs import Label, Labels, Logits


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Overlap(base.OfEither):
    """What the losses of regions share: which pairs of image and class count, and how smoothly.

    Attributes:
        activation: 'softmax' or 'sigmoid', see `base.Activation`.
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

    def number(self, target: Target, valid: Valid) -> Float[Array, ""]:
        """Return the number of counted (image, class) pairs."""
        return base.number_of(self._counted(base.pixels_of(target), base.pixels_of(valid)))

    def _counted(
        self, actual: Float[Array, "b k"], known: Float[Array, "b #k"]
    ) -> Bool[Array, "b k"]:
        """Return which pairs of image and class count, from the true and the valid areas."""
        if self.classes == "all":
            return jnp.broadcast_to(known > 0, actual.shape)
        return actual > 0

    def _sum_pairs(self, loss: Float[Array, "b k"], areas: "_Areas") -> Pair:
        """Return the loss summed over the counted (image, class) pairs, and their number."""
        return base.sum_of(loss, self._counted(areas.actual, areas.known))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dice(_Overlap):
    """The soft Dice loss `1 - (2 sum pg + s) / (sum p + sum g + s)`.

    p is the probability and g the one-hot label, summed over an image's valid pixels.
    Drozdzal et al. 2016 (arXiv 1608.04117); with `square`, p^2 in the denominator, Milletari et al.
    2016 (V-Net, arXiv 1606.04797).

    Attributes:
        square: Whether to square the probabilities in the denominator.

    Raises:
        ConfigError: `smooth` and `classes` cannot be used together.
    """

    square: bool = False

    def __call__(self, logits: Logits, label: Label | Labels) -> Pair:
        """Return (sum, weight); computed in float32 at least."""
        areas = _areas(logits, label, self.activation, square=self.square)
        below = areas.predicted + areas.actual + self.smooth
        return self._sum_pairs(1 - _ratio(2 * areas.overlap + self.smooth, below), areas)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Jaccard(_Overlap):
    """The soft IoU loss `1 - (sum pg + s) / (sum p + sum g - sum pg + s)`.

    Rahman & Wang 2016 (Optimizing Intersection-Over-Union in Deep Neural Networks for Image
    Segmentation, eq. 3 to 5). Arguments and errors are those of `Dice`, without `square`.
    """

    def __call__(self, logits: Logits, label: Label | Labels) -> Pair:
        """Return (sum, weight); computed in float32 at least."""
        areas = _areas(logits, label, self.activation)
        below = areas.predicted + areas.actual - areas.overlap + self.smooth
        return self._sum_pairs(1 - _ratio(areas.overlap + self.smooth, below), areas)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tversky(_Overlap):
    """The Tversky loss `(1 - (TP + s) / (TP + alpha FP + beta FN + s))^gamma`.

    Salehi et al. 2017 (arXiv 1706.05721, eq. 3) with `gamma=1`; the focal Tversky loss of Abraham &
    Khan 2018 (arXiv 1810.07842, eq. 4) with `gamma=0.75`, their 1 / (4/3). With alpha = beta = 0.5
    it is Dice, with 1 and 1 Jaccard.

    Attributes:
        alpha: What false positives cost.
        beta: What false negatives cost: more than alpha where small things are missed.
        gamma: Below 1 it raises what pairs cost that are nearly right.
    """

    alpha: kinds.NotNegative = 0.3
    beta: kinds.Positive = 0.7
    gamma: kinds.Positive = 1.0

    def __call__(self, logits: Logits, label: Label | Labels) -> Pair:
        """Return (sum, weight); computed in float32 at least."""
        areas = _areas(logits, label, self.activation)
        overlap, predicted, actual, _ = areas
        wrong = self.alpha * (predicted - overlap) + self.beta * (actual - overlap)
        loss = 1 - _ratio(overlap + self.smooth, overlap + wrong + self.smooth)
        if self.gamma != 1:  # at 0 the slope of a root is infinite
            loss = jnp.maximum(loss, jnp.finfo(loss.dtype).eps ** 2) ** float(self.gamma)
        return self._sum_pairs(loss, areas)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneralizedDice(base.OfEither):
    """The generalised Dice loss of each image, `1 - 2 sum_c w (sum pg) / sum_c w (sum p + sum g)`.

    w is `1 / (sum g)^2` of each class that occurs in the image's label, so that small classes count
    as much as large ones; the others have no weight. Sudre et al. 2017 (arXiv 1707.03237, eq. 1).
    """

    def __call__(self, logits: Logits, label: Label | Labels) -> Pair:
        """Return (sum, weight); computed in float32 at least."""
        overlap, predicted, actual, _ = _areas(logits, label, self.activation)
        weight = jnp.where(actual > 0, 1 / jnp.square(jnp.maximum(actual, 1)), 0)
        above = 2 * jnp.sum(weight * overlap, axis=-1)
        loss = 1 - _ratio(above, jnp.sum(weight * (predicted + actual), axis=-1))
        return base.sum_of(loss, jnp.any(actual > 0, axis=-1))

    def number(self, target: Target, valid: Valid) -> Float[Array, ""]:
        """Return the number of images in which a class occurs."""
        return base.number_of(jnp.any(base.somewhere(target), axis=-1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchDice(base.OfEither):
    """The soft Dice loss of a batch: areas are pooled over its images before they are divided.

    The mean over the classes that occur in it, as nnU-Net's `batch_dice=True` has it: steadier than
    `Dice` where most images lack a class. With microbatches, and with parts that are summed in a
    fixed order, each is a batch of its own; its loss counts once for each image with a valid pixel.

    Attributes:
        activation: 'softmax' or 'sigmoid', see `base.Activation`.
        smooth: Added above and below the fraction, in pixels.
    """

    smooth: kinds.NotNegative = 1.0

    def __call__(self, logits: Logits, label: Label | Labels) -> Pair:
        """Return (sum, weight); computed in float32 at least."""
        areas = _areas(logits, label, self.activation)
        images = base.number_of(jnp.any(areas.known > 0, axis=-1), areas.known.dtype)
        overlap, predicted, actual, _ = (jnp.sum(area, axis=0) for area in areas)
        loss = 1 - _ratio(2 * overlap + self.smooth, predicted + actual + self.smooth)
        classes = jnp.maximum(jnp.sum(actual > 0, dtype=jnp.int32), 1).astype(loss.dtype)
        return images * jnp.sum(jnp.where(actual > 0, loss, 0)) / classes, images

    def number(self, target: Target, valid: Valid) -> Float[Array, ""]:
        """Return the number of images with a valid pixel."""
        return base.number_of(jnp.any(base.somewhere(valid), axis=-1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mcc(base.OfEither):
    """One less the soft Matthews correlation coefficient, of each image and class, from 0 to 2.

    Abhishek & Hamarneh 2021 (Matthews Correlation Coefficient Loss for Deep Convolutional Networks,
    arXiv 2010.13454, eq. 7): true negatives count as well. A class counts where it occurs in the
    image's label and is not all of it: the coefficient has no other value than 0/0 there.
    """

    def __call__(self, logits: Logits, label: Label | Labels) -> Pair:
        """Return (sum, weight); computed in float32 at least."""
        overlap, predicted, actual, known = _areas(logits, label, self.activation)
        # In shares of the image: products of four areas would leave float32.
        hit, pred, true = (x / jnp.maximum(known, 1) for x in (overlap, predicted, actual))
        spread = pred * (1 - pred) * true * (1 - true)
        tiny = jnp.finfo(spread.dtype).eps ** 2
        loss = jnp.maximum(1 - (hit - pred * true) / jnp.sqrt(jnp.maximum(spread, tiny)), 0)
        return base.sum_of(loss, (actual > 0) & (actual < known))

    def number(self, target: Target, valid: Valid) -> Float[Array, ""]:
        """Return the number of counted (image, class) pairs."""
        actual = base.pixels_of(target)
        return base.number_of((actual > 0) & (actual < base.pixels_of(valid)), actual.dtype)


class _Areas(NamedTuple):
    """Areas of each image and class, in valid pixels.

    Attributes:
        overlap: Predicted and true.
        predicted: Sum of the probabilities.
        actual: The true area.
        known: All valid pixels; under softmax those of all classes are the same ones.
    """

    overlap: Float[Array, "b k"]
    predicted: Float[Array, "b k"]
    actual: Float[Array, "b k"]
    known: Float[Array, "b #k"]


def _areas(
    logits: Logits, label: Label | Labels, activation: str, *, square: bool = False
) -> _Areas:
    """Return what regions are scored by; with `square` of the squared probabilities."""
    logits, target, valid = base.mask_void(logits, label, activation)
    space = tuple(range(1, logits.ndim - 1))
    probs = base.probabilities(logits, valid, activation)
    overlap = jnp.sum(jnp.where(target, probs, 0), axis=space)
    predicted = jnp.sum(jnp.square(probs) if square else probs, axis=space)
    actual, known = (base.pixels_of(flags, probs.dtype) for flags in (target, valid))
    return _Areas(overlap, predicted, actual, known)


def _ratio(above: Float[Array, "..."], below: Float[Array, "..."]) -> Float[Array, "..."]:
    """Divide, with a finite result and gradient where both are 0 (no area and no smooth)."""
    return above / jnp.where(below > 0, below, 1)
