"""Losses that are a sum over pixels: cross-entropy and its relatives.

Each returns `(sum, weight)`: the loss summed over the valid pixels, and the sum of their class
weights (their number without class weights), which depends on the label alone. The caller divides,
once, over the whole batch. Void pixels and labels outside 0..K-1 add nothing to either, and no
gradient, whatever their logits hold (`data/` raises on a label out of range; a device cannot).

With `activation='sigmoid'` every valid pair of pixel and class is judged by itself, p being the
probability of what is true of it: of "is of this class", or of "is not". Its weight is that of the
class, so the mean is over pairs; PyTorch's and torchvision's means divide by their number, which
class weights do not change.

The label's logit is taken by compare, select and sum, which XLA fuses: no one-hot in memory, and no
gather, whose gradient is a scatter. Each pixel's largest logit is subtracted before anything else,
so that an offset common to all its classes costs no digit.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, DTypeLike, Float, Int32

from segjax.config import kinds, rules
from segjax.errors import ConfigError
from segjax.losses import base
from segjax.losses.base import Pair, Target, Valid
from segjax.structs import IGNORE_LABEL, Label, Labels, Logits

WEIGHTS = 1e-30, 1e30
"""The smallest and the largest class weight but 0, so that float32 holds their sums."""
ClassWeights: TypeAlias = Annotated[Sequence[kinds.NotNegative], rules.length(0, IGNORE_LABEL)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Weighted(base.OfEither):
    """What the losses of pixels share: a weight for each class, and so for each pixel.

    Attributes:
        activation: 'softmax' or 'sigmoid', see `base.Activation`.
        class_weights: One per class, each 0 or in `WEIGHTS`; empty for 1 each. Only their ratios
            matter. In a config also a name of `tasks.balance`: `median_frequency`, ….

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

    def check(self, num_classes: int, *, multilabel: bool = False) -> None:
        """Raise `ConfigError` unless there is a weight for each class, or none at all."""
        super().check(num_classes, multilabel=multilabel)
        if self.class_weights and len(self.class_weights) != num_classes:
            raise ConfigError(
                f"class_weights has {len(self.class_weights)} values, expected {num_classes}, one "
                "for each class. Give one per class in the order of class_names, or () for none."
            )

    def number(self, target: Target, valid: Valid) -> Float[Array, ""]:
        """Return the sum of the weights of what is judged."""
        return self._total(*self._weigh(target, valid, float), valid)

    def _judge(self, logits: Logits, label: Label | Labels) -> "_Judged":
        """Return what a loss of single pixels is made of; computed in float32 at least."""
        logits, target, valid = base.mask_void(logits, label, self.activation)
        table, weight = self._weigh(target, valid, logits.dtype)
        total = self._total(table, weight, valid)
        if self.activation == "sigmoid":
            logits = jnp.where(target, logits, -logits)
            return _Judged(logits, target, table, weight, jax.nn.softplus(-logits), total)
        logits, log_total = _centre(logits)
        cost = log_total - _pick(logits, target)
        return _Judged(logits, target, table, weight, cost, total, log_total)

    def _weigh(
        self, target: Target, valid: Valid, dtype: DTypeLike
    ) -> tuple[Float[Array, " k"], Float[Array, "b ..."]]:
        """Return one weight for each class, 1 where none were given, and that of each cost."""
        num_classes = target.shape[-1]
        self.check(num_classes)
        table = jnp.asarray(self.class_weights or (1.0,) * num_classes, dtype)
        if self.activation == "sigmoid":
            return table, jnp.where(valid, table, 0)
        return table, _pick(table, target)

    def _total(
        self, table: Float[Array, " k"], weight: Float[Array, "b ..."], valid: Valid
    ) -> Float[Array, ""]:
        """Return the sum of the weights; without class weights exact above 2^24."""
        if self.activation == "sigmoid":  # class by class: pairs may be more than an int32 counts
            count = jnp.sum(valid, axis=tuple(range(valid.ndim - 1)), dtype=jnp.int32)
            return jnp.sum(table * count.astype(table.dtype))
        if not self.class_weights:
            return jnp.sum(valid, dtype=jnp.int32).astype(weight.dtype)
        return jnp.sum(weight)


class _Judged(NamedTuple):
    """What single pixels cost.

    Under softmax there is a cost for each pixel [b *space], under sigmoid for each pair of pixel
    and class [b *space k].

    Attributes:
        logits: Centred; under sigmoid of what is true of each pair, "is" or "is not".
        target: Which pixels are of which class.
        table: The weight of each class.
        weight: Of each cost, 0 where void.
        cost: `-log p` of what is true, finite where void.
        total: The sum of the weights.
        log_total: Under softmax, the logarithm of the sum of exp of all logits of a pixel.
    """

    logits: Logits
    target: Target
    table: Float[Array, " k"]
    weight: Float[Array, "b ..."]
    cost: Float[Array, "b ..."]
    total: Float[Array, ""]
    log_total: Float[Array, "b ..."] | float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossEntropy(_Weighted):
    """The softmax cross-entropy, PyTorch's definition.

    With y the label, w the class weights and e the smoothing, a pixel's loss is
    `(1 - e) * w[y] * -log p[y] + e / K * sum_c w[c] * -log p[c]`, and its weight is `w[y]`. So the
    mean is divided by the sum of the labels' weights; where that is 0 PyTorch gives NaN, or
    infinity with smoothing, and segjax 0: there is nothing to learn.

    With `activation='sigmoid'` it is the binary cross-entropy of every pair of pixel and class,
    `w[c] * ((1 - e) * -log p + e / 2 * (-log p - log(1 - p)))`.

    Attributes:
        label_smoothing: Share of the target spread evenly over what may be, in [0, 1).

    Raises:
        ConfigError: `class_weights` cannot be used.
    """

    label_smoothing: kinds.Decay = 0.0

    def __call__(self, logits: Logits, label: Label | Labels) -> Pair:
        """Return (sum, weight); computed in float32 at least."""
        found = self._judge(logits, label)
        loss = found.weight * found.cost
        if self.label_smoothing:
            loss = (1 - self.label_smoothing) * loss + self.label_smoothing * self._spread(found)
        return jnp.sum(loss), found.total

    def _spread(self, found: _Judged) -> Float[Array, "b ..."]:
        """Return the mean cost of all that a pixel, or pair, might be."""
        if self.activation == "sigmoid":  # -log(1 - p) is -log p + logit
            return found.weight * (found.cost + found.logits / 2)
        spread = jnp.sum(found.table) * found.log_total
        spread -= jnp.sum(found.table * found.logits, axis=-1)
        valid = jnp.any(found.target, axis=-1)
        return jnp.where(valid, spread, 0) / found.table.size


@dataclasses.dataclass(frozen=True, kw_only=True)
class Focal(_Weighted):
    """The focal loss `w[y] * (1 - p[y])^gamma * -log p[y]`.

    The softmax form of Lin et al. 2017 (arXiv 1708.02002, eq. 5). Its alpha is `class_weights`; the
    weight of a pixel is `w[y]`, as in `CrossEntropy`, which it equals at `gamma=0`. So the mean is
    divided by the sum of the labels' weights. Keras, torchvision and MONAI divide by the number of
    pixels instead: with class weights their loss is ours times the mean weight of a pixel.

    With `activation='sigmoid'` it is the paper's own form (RetinaNet), of every pair of pixel and
    class. Its `alpha` is a factor of the loss and no weight: as in torchvision's mean, it does not
    change what the sum is divided by (the paper divides by the number of objects).

    Attributes:
        gamma: Focusing exponent; the paper uses 2, and 0 is cross-entropy.
        alpha: Under sigmoid, the factor of pixels that are of the class, `1 - alpha` that of the
            others; the paper uses 0.25. 0: neither.

    Raises:
        ConfigError: `class_weights` cannot be used, or `alpha` under softmax.
    """

    gamma: Annotated[kinds.Real, rules.number(0, 100)] = 2.0
    alpha: kinds.Decay = 0.0

    def __post_init__(self):
        super().__post_init__()
        if self.alpha and self.activation != "sigmoid":
            raise ConfigError(
                f"pixel:focal: alpha={self.alpha:g} with activation={self.activation!r}, expected "
                '\'sigmoid\': alpha weighs "is of the class" against "is not". Set class_weights '
                "instead, or activation='sigmoid'."
            )

    def __call__(self, logits: Logits, label: Label | Labels) -> Pair:
        """Return (sum, weight); computed in float32 at least."""
        found = self._judge(logits, label)
        # At p = 1 the slope of x^gamma is infinite for gamma < 1, and rounding may take x below 0.
        miss = jnp.maximum(-jnp.expm1(-found.cost), jnp.finfo(found.cost.dtype).tiny)
        loss = found.weight * miss ** float(self.gamma) * found.cost
        if self.alpha:
            loss *= jnp.where(found.target, self.alpha, 1 - self.alpha)
        return jnp.sum(loss), found.total


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

    def __call__(self, logits: Logits, label: Label | Labels) -> Pair:
        """Return (sum, weight); computed in float32 at least."""
        found = self._judge(logits, label)
        loss = found.weight * (found.cost - self.epsilon * jnp.expm1(-found.cost))
        return jnp.sum(loss), found.total


@dataclasses.dataclass(frozen=True, kw_only=True)
class TopK(base.OfClasses):
    """The cross-entropy of the hardest pixels: of each image a share of those that are valid.

    Online mining of hard pixels, Wu et al. 2016 (Bridging Category-level and Instance-level
    Semantic Image Segmentation, arXiv 1605.06885); nnU-Net's TopK takes 0.1 and detectron2's
    DeepLab 0.2. The number of pixels, rounded up, is the weight, so that the label alone decides
    it. Where a threshold on p chooses instead (mmsegmentation's OHEM) the logits would.

    Attributes:
        share: Of an image's valid pixels.
    """

    share: Annotated[kinds.Real, rules.number(0, 1, open_ends="low")] = 0.1

    def __call__(self, logits: Logits, label: Label | Labels) -> Pair:
        """Return (sum, weight); computed in float32 at least."""
        logits, target, valid = base.mask_void(logits, label, "softmax")
        valid = valid[..., 0]
        logits, log_total = _centre(logits)
        loss = jnp.where(valid, log_total - _pick(logits, target), -jnp.inf)
        hardest = -jnp.sort(-loss.reshape(len(loss), -1), axis=-1)
        count = self._counts(valid)
        taken = jnp.arange(hardest.shape[-1], dtype=jnp.int32) < count[:, None]
        return jnp.sum(jnp.where(taken, hardest, 0)), jnp.sum(count, dtype=jnp.int32).astype(
            logits.dtype
        )

    def number(self, target: Target, valid: Valid) -> Float[Array, ""]:
        """Return the number of pixels that are taken."""
        return jnp.sum(self._counts(valid[..., 0]), dtype=jnp.int32).astype(float)

    def _counts(self, valid: Bool[Array, "b *space"]) -> Int32[Array, " b"]:
        """Return how many pixels of each image are taken."""
        number = jnp.sum(valid, axis=tuple(range(1, valid.ndim)), dtype=jnp.int32)
        return jnp.ceil(number.astype(jnp.float32) * jnp.float32(self.share)).astype(jnp.int32)


def _centre(logits: Logits) -> tuple[Logits, Float[Array, "b *space"]]:
    """Return logits less the largest of their pixel, and the logarithm of their exp's sum.

    Differences of neighbouring floats are exact, so all digits that the logits have are kept; the
    logarithm lies between 0 and log K. Softmax is blind to the offset, so it needs no gradient.
    """
    centred = logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    return centred, jnp.log(jnp.sum(jnp.exp(centred), axis=-1))


def _pick(values: Float[Array, "... k"], target: Target) -> Float[Array, "b *space"]:
    """Return the value of each pixel's label, 0 on void pixels."""
    return jnp.sum(jnp.where(target, values, 0), axis=-1)
