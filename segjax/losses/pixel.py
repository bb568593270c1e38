"""Losses that are a sum over pixels: cross-entropy and its relatives.

Each returns `(sum, weight)`: the loss summed over the valid pixels, and the sum of their class
weights (their number without class weights), which depends on the label alone. The caller divides,
once, over the whole batch. Void pixels and labels outside 0..K-1 add nothing to either, and no
gradient, whatever their logits hold (`data/` raises on a label out of range; a device cannot).

The label's logit is taken by compare, select and sum, which XLA fuses: no one-hot in memory, and no
gather, whose gradient is a scatter. Each pixel's largest logit is subtracted before anything else,
so that an offset common to all its classes costs no digit.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, DTypeLike, Float, Int32

from segjax.config import kinds, rules
from segjax.errors import ConfigError
from segjax.losses.base import AnyClasses, Pair
from segjax.structs import IGNORE_LABEL, Label, Logits

WEIGHTS = 1e-30, 1e30
"""The smallest and the largest class weight but 0, so that float32 holds their sums."""
ClassWeights: TypeAlias = Annotated[Sequence[kinds.NotNegative], rules.length(0, IGNORE_LABEL)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Weighted:
    """What the losses of pixels share: a weight for each class, and so for each pixel.

    Attributes:
        class_weights: One per class, each 0 or in `WEIGHTS`; empty for 1 each. Only their ratios
            matter.

    Raises:
        ConfigError: A weight that is neither, or no weight above 0.
    """

    class_weights: ClassWeights = ()

    def __post_init__(self):
        weights = tuple(map(float, self.class_weights))
        object.__setattr__(self, "class_weights", weights)  # a list would have no hash
        low, high = WEIGHTS
        usable = all(weight == 0 or low <= weight <= high for weight in weights)
        if weights and not (usable and any(weights)):
            raise ConfigError(
                f"class_weights={rules.shown(weights)}: expected finite values >= 0, at least one "
                f"above 0, and those from {low:g} to {high:g}. Use 0 to leave a class out of the "
                "loss."
            )

    def check(self, num_classes: int) -> None:
        """Raise `ConfigError` unless there is a weight for each class, or none at all."""
        if self.class_weights and len(self.class_weights) != num_classes:
            raise ConfigError(
                f"class_weights has {len(self.class_weights)} values, expected {num_classes}, one "
                "for each class. Give one per class in the order of class_names, or () for none."
            )

    def weight(self, label: Label, *, num_classes: int) -> Float[Array, ""]:
        """Return the sum of the valid pixels' weights."""
        target, valid = one_hot(label, num_classes)
        weight = _pick(self._table(num_classes, float), target)
        return self._total(weight, valid)

    def _table(self, num_classes: int, dtype: DTypeLike) -> Float[Array, " k"]:
        """Return one weight for each class, 1 where none were given."""
        self.check(num_classes)
        return jnp.asarray(self.class_weights or (1.0,) * num_classes, dtype)

    def _total(
        self, weight: Float[Array, "b *space"], valid: Bool[Array, "b *space"]
    ) -> Float[Array, ""]:
        """Return the sum of the pixels' weights; without class weights exact above 2^24."""
        if not self.class_weights:
            return jnp.sum(valid, dtype=jnp.int32).astype(weight.dtype)
        return jnp.sum(weight)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossEntropy(_Weighted):
    """The softmax cross-entropy, PyTorch's definition.

    With y the label, w the class weights and e the smoothing, a pixel's loss is
    `(1 - e) * w[y] * -log p[y] + e / K * sum_c w[c] * -log p[c]`, and its weight is `w[y]`. So the
    mean is divided by the sum of the labels' weights; where that is 0 PyTorch gives NaN, or
    infinity with smoothing, and segjax 0: there is nothing to learn.

    Attributes:
        label_smoothing: Share of the target spread evenly over the classes, in [0, 1).

    Raises:
        ConfigError: `class_weights` cannot be used.
    """

    label_smoothing: kinds.Decay = 0.0

    def __call__(self, logits: Logits, label: Label) -> Pair:
        """Return (sum, weight); computed in float32 at least."""
        logits, target, valid = mask_void(logits, label)
        num_classes = logits.shape[-1]
        weights = self._table(num_classes, logits.dtype)
        logits, log_total = _centre(logits)
        weight = _pick(weights, target)
        loss = weight * (log_total - _pick(logits, target))
        if self.label_smoothing:
            spread = jnp.sum(weights) * log_total - jnp.sum(weights * logits, axis=-1)
            spread = jnp.where(valid, spread, 0) / num_classes
            loss = (1 - self.label_smoothing) * loss + self.label_smoothing * spread
        return jnp.sum(loss), self._total(weight, valid)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Focal(_Weighted):
    """The focal loss `w[y] * (1 - p[y])^gamma * -log p[y]`.

    The softmax form of Lin et al. 2017 (arXiv 1708.02002, eq. 5). Its alpha is `class_weights`; the
    weight of a pixel is `w[y]`, as in `CrossEntropy`, which it equals at `gamma=0`. So the mean is
    divided by the sum of the labels' weights. Keras, torchvision and MONAI divide by the number of
    pixels instead: with class weights their loss is ours times the mean weight of a pixel.

    Attributes:
        gamma: Focusing exponent; the paper uses 2, and 0 is cross-entropy.

    Raises:
        ConfigError: `class_weights` cannot be used.
    """

    gamma: Annotated[kinds.Real, rules.number(0, 100)] = 2.0

    def __call__(self, logits: Logits, label: Label) -> Pair:
        """Return (sum, weight); computed in float32 at least."""
        logits, target, valid = mask_void(logits, label)
        logits, log_total = _centre(logits)
        log_p = _pick(logits, target) - log_total
        # At p = 1 the slope of x^gamma is infinite for gamma < 1, and rounding may take x below 0.
        miss = jnp.maximum(-jnp.expm1(log_p), jnp.finfo(logits.dtype).tiny)
        weight = _pick(self._table(logits.shape[-1], logits.dtype), target)
        loss = weight * miss ** float(self.gamma) * -log_p
        return jnp.sum(loss), self._total(weight, valid)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Poly1(_Weighted):
    """The Poly-1 loss `w[y] * (-log p[y] + epsilon * (1 - p[y]))`.

    Leng et al. 2022 (PolyLoss, arXiv 2204.12511, eq. 6): cross-entropy whose first polynomial
    coefficient is changed. The weight of a pixel is `w[y]`.

    Attributes:
        epsilon: Added to the coefficient of `1 - p[y]`; 0 is cross-entropy.

    Raises:
        ConfigError: `class_weights` cannot be used.
    """

    epsilon: Annotated[kinds.Real, rules.number(-1, 1000)] = 1.0

    def __call__(self, logits: Logits, label: Label) -> Pair:
        """Return (sum, weight); computed in float32 at least."""
        logits, target, valid = mask_void(logits, label)
        logits, log_total = _centre(logits)
        log_p = _pick(logits, target) - log_total
        weight = _pick(self._table(logits.shape[-1], logits.dtype), target)
        loss = weight * (-log_p - self.epsilon * jnp.expm1(log_p))
        return jnp.sum(loss), self._total(weight, valid)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TopK(AnyClasses):
    """The cross-entropy of the hardest pixels: of each image a share of those that are valid.

    Online mining of hard pixels, Wu et al. 2016 (Bridging Category-level and Instance-level
    Semantic Image Segmentation, arXiv 1605.06885); nnU-Net's TopK takes 0.1 and detectron2's
    DeepLab 0.2. The number of pixels, rounded up, is the weight, so that the label alone decides
    it. Where a threshold on p chooses instead (mmsegmentation's OHEM) the logits would.

    Attributes:
        share: Of an image's valid pixels.
    """

    share: Annotated[kinds.Real, rules.number(0, 1, open_ends="low")] = 0.1

    def __call__(self, logits: Logits, label: Label) -> Pair:
        """Return (sum, weight); computed in float32 at least."""
        logits, target, valid = mask_void(logits, label)
        logits, log_total = _centre(logits)
        loss = jnp.where(valid, log_total - _pick(logits, target), -jnp.inf)
        hardest = -jnp.sort(-loss.reshape(len(loss), -1), axis=-1)
        count = self._counts(valid)
        taken = jnp.arange(hardest.shape[-1], dtype=jnp.int32) < count[:, None]
        return jnp.sum(jnp.where(taken, hardest, 0)), jnp.sum(count, dtype=jnp.int32).astype(
            logits.dtype
        )

    def weight(self, label: Label, *, num_classes: int) -> Float[Array, ""]:
        """Return the number of pixels that are taken."""
        _, valid = one_hot(label, num_classes)
        return jnp.sum(self._counts(valid), dtype=jnp.int32).astype(float)

    def _counts(self, valid: Bool[Array, "b *space"]) -> Int32[Array, " b"]:
        """Return how many pixels of each image are taken."""
        number = jnp.sum(valid, axis=tuple(range(1, valid.ndim)), dtype=jnp.int32)
        return jnp.ceil(number.astype(jnp.float32) * jnp.float32(self.share)).astype(jnp.int32)


def mask_void(
    logits: Logits, label: Label
) -> tuple[Logits, Bool[Array, "b *space k"], Bool[Array, "b *space"]]:
    """Return logits in float32 at least (0 on void pixels), the one-hot label, and what is valid.

    Replacing the logits before they are used, not the loss after, is what keeps an infinity on a
    void pixel out of the gradient. The one-hot label is False throughout on void pixels; consume it
    inside a reduction, so that it stays fused.
    """
    target, valid = one_hot(label, logits.shape[-1])
    logits = jnp.where(valid[..., None], logits, 0)
    if jnp.finfo(logits.dtype).bits < 32:
        logits = logits.astype(jnp.float32)
    return logits, target, valid


def one_hot(
    label: Label, num_classes: int
) -> tuple[Bool[Array, "b *space k"], Bool[Array, "b *space"]]:
    """Return the label as one truth value a class, all False on void pixels, and what is valid."""
    label = label.astype(jnp.int32)
    valid = (label >= 0) & (label < num_classes) & (label != IGNORE_LABEL)
    target = jnp.where(valid, label, -1)[..., None] == jnp.arange(num_classes, dtype=jnp.int32)
    return target, valid


def present(label: Label, num_classes: int) -> Bool[Array, "b k"]:
    """Return which classes occur in the label of each image."""
    target, _ = one_hot(label, num_classes)
    return jnp.any(target, axis=tuple(range(1, label.ndim)))


def _centre(logits: Logits) -> tuple[Logits, Float[Array, "b *space"]]:
    """Return logits less the largest of their pixel, and the logarithm of their exp's sum.

    Differences of neighbouring floats are exact, so all digits that the logits have are kept; the
    logarithm lies between 0 and log K. Softmax is blind to the offset, so it needs no gradient.
    """
    centred = logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    return centred, jnp.log(jnp.sum(jnp.exp(centred), axis=-1))


def _pick(
    values: Float[Array, "... k"], target: Bool[Array, "b *space k"]
) -> Float[Array, "b *space"]:
    """Return the value of each pixel's label, 0 on void pixels."""
    return jnp.sum(jnp.where(target, values, 0), axis=-1)
