"""Losses that are a sum over pixels: cross-entropy and focal.

Each returns `(sum, weight)`: the loss summed over the valid pixels, and the sum of their class
weights (their number without class weights), which depends on the label alone. The caller divides,
once, over the whole batch. Void pixels and labels outside 0..K-1 add nothing to either, and no
gradient, whatever their logits hold (`data/` raises on a label out of range; a device cannot).

The label's logit is taken by compare, select and sum, which XLA fuses: no one-hot in memory, and no
gather, whose gradient is a scatter (half as fast on CPU at 4 x 360 x 480 x 11, thrice the memory).
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from segjax.errors import ConfigError
from segjax.structs import IGNORE_LABEL, Label, Logits


def cross_entropy(
    logits: Logits,
    label: Label,
    *,
    class_weights: Sequence[float | int] = (),
    label_smoothing: float | int = 0.0,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the softmax cross-entropy, PyTorch's definition, as (sum, weight).

    With y the label, w the class weights and e the smoothing, a pixel's loss is
    `(1 - e) * w[y] * -log p[y] + e / K * sum_c w[c] * -log p[c]`, and its weight is `w[y]`.

    Args:
        logits: Any float type; computed in float32 at least.
        label: 0..K-1; all else is void.
        class_weights: One per class, not negative; empty for 1 each.
        label_smoothing: Share of the target spread evenly over the classes, in [0, 1).

    Raises:
        ConfigError: `class_weights` or `label_smoothing` cannot be used.
    """
    if not 0 <= label_smoothing < 1:
        raise ConfigError(
            f"cross_entropy: label_smoothing={label_smoothing!r}, expected 0 <= x < 1."
            " Use 0 for none; 0.1 is common."
        )
    table = _check_class_weights(class_weights, num_classes=logits.shape[-1])
    logits, target, valid = mask_void(logits, label)
    weights = jnp.asarray(table, logits.dtype)
    log_total = jax.nn.logsumexp(logits, axis=-1)
    weight = _pick(weights, target)
    loss = weight * (log_total - _pick(logits, target))
    if label_smoothing:
        spread = jnp.sum(weights) * log_total - jnp.sum(weights * logits, axis=-1)
        spread = jnp.where(valid, spread, 0) / logits.shape[-1]
        loss = (1 - label_smoothing) * loss + label_smoothing * spread
    return jnp.sum(loss), _total_weight(weight, valid, counted=not class_weights)


def focal(
    logits: Logits,
    label: Label,
    *,
    gamma: float | int = 2.0,
    class_weights: Sequence[float | int] = (),
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the focal loss `w[y] * (1 - p[y])^gamma * -log p[y]` as (sum, weight).

    The softmax form of Lin et al. 2017 (arXiv 1708.02002, eq. 5). Its alpha is `class_weights`; the
    weight of a pixel is `w[y]`, as in `cross_entropy`, which it equals at `gamma=0`.

    Args:
        logits: Any float type; computed in float32 at least.
        label: 0..K-1; all else is void.
        gamma: Focusing exponent, not negative.
        class_weights: One per class, not negative; empty for 1 each.

    Raises:
        ConfigError: `gamma` or `class_weights` cannot be used.
    """
    if not 0 <= gamma < math.inf:
        raise ConfigError(
            f"focal: gamma={gamma!r}, expected a number >= 0. The paper uses 2; 0 is cross-entropy."
        )
    table = _check_class_weights(class_weights, num_classes=logits.shape[-1])
    logits, target, valid = mask_void(logits, label)
    log_p = _pick(logits, target) - jax.nn.logsumexp(logits, axis=-1)
    # At p = 1 the slope of x^gamma is infinite for gamma < 1, and rounding may take x below 0.
    miss = jnp.maximum(-jnp.expm1(log_p), jnp.finfo(logits.dtype).tiny)
    weight = _pick(jnp.asarray(table, logits.dtype), target)
    loss = weight * miss ** float(gamma) * -log_p
    return jnp.sum(loss), _total_weight(weight, valid, counted=not class_weights)


def mask_void(
    logits: Logits, label: Label
) -> tuple[Logits, Bool[Array, "b h w k"], Bool[Array, "b h w"]]:
    """Return logits in float32 at least (0 on void pixels), the one-hot label, and what is valid.

    Replacing the logits before they are used, not the loss after, is what keeps an infinity on a
    void pixel out of the gradient. The one-hot label is False throughout on void pixels; consume it
    inside a reduction, so that it stays fused.
    """
    num_classes = logits.shape[-1]
    label = label.astype(jnp.int32)
    valid = (label >= 0) & (label < num_classes) & (label != IGNORE_LABEL)
    logits = jnp.where(valid[..., None], logits, 0)
    if jnp.finfo(logits.dtype).bits < 32:
        logits = logits.astype(jnp.float32)
    target = jnp.where(valid, label, -1)[..., None] == jnp.arange(num_classes, dtype=jnp.int32)
    return logits, target, valid


def _pick(values: Float[Array, "... k"], target: Bool[Array, "b h w k"]) -> Float[Array, "b h w"]:
    """Return the value of each pixel's label, 0 on void pixels."""
    return jnp.sum(jnp.where(target, values, 0), axis=-1)


def _total_weight(
    weight: Float[Array, "b h w"], valid: Bool[Array, "b h w"], *, counted: bool
) -> Float[Array, ""]:
    """Return the sum of the pixels' weights, or (`counted`) their number, exact above 2^24."""
    if counted:
        return jnp.sum(valid, dtype=jnp.int32).astype(weight.dtype)
    return jnp.sum(weight)


def _check_class_weights(
    class_weights: Sequence[float | int], *, num_classes: int
) -> tuple[float, ...]:
    """Return one weight for each class, 1 where none were given.

    Raises:
        ConfigError: Wrong length, a negative or non-finite weight, or no weight above 0.
    """
    if not class_weights:
        return (1.0,) * num_classes
    weights = tuple(float(weight) for weight in class_weights)
    if len(weights) != num_classes:
        raise ConfigError(
            f"class_weights has {len(weights)} values, expected {num_classes}, one for each class."
            " Give one per class in the order of class_names, or () for none."
        )
    if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise ConfigError(
            f"class_weights={weights}: expected finite values >= 0, at least one above 0."
            " Use 0 to leave a class out of the loss."
        )
    return weights
