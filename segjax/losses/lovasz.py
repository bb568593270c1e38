"""Lovász losses: the convex extension of the Jaccard loss, on sorted errors.

Berman, Rannen Triki & Blaschko 2018 (The Lovász-Softmax loss, arXiv 1705.08790). Each returns
`(sum, weight)` over pairs of image and class, or over images; void pixels are sorted behind all
others with error 0, so that they change nothing. An image is sorted as a whole: O(n log n) for its
n pixels and each of its classes.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from segjax.errors import ConfigError
from segjax.losses import base
from segjax.losses.base import Pair, Target, Valid
from segjax.structs import Label, Labels, Logits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Softmax(base.OfClasses):
    """The Lovász-Softmax loss of each image: the mean over the classes that occur in its label.

    The errors of class c are `|[y = c] - p[c]|` (eq. 11); the loss is their inner product with the
    gradient of the Jaccard loss in sorted order (eq. 9, algorithm 1), at least 0 and at most 1. The
    paper's `classes='present', per_image=True`, each pair of image and class counting once.
    """

    def __call__(self, logits: Logits, label: Label | Labels) -> Pair:
        """Return (sum, weight); computed in float32 at least."""
        logits, target, valid = base.mask_void(logits, label, "softmax")
        target, valid = _flat(target), _flat(valid)
        probs = _flat(jax.nn.softmax(logits))
        error = jnp.abs(target.astype(probs.dtype) - probs)
        loss = _extension(error, target, valid)
        return base.sum_of(loss, jnp.any(target, axis=-1))

    def number(self, target: Target, valid: Valid) -> Float[Array, ""]:
        """Return the number of pairs of an image and a class that occurs in it."""
        return base.number_of(base.somewhere(target))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hinge(base.OfEither):
    """The Lovász hinge of each image, for two classes of which the second is the foreground.

    With the margin `z = logit[1] - logit[0]` and the sign s of the label, the errors are
    `max(0, 1 - z s)` (eq. 12); not bounded, and 0 where every margin is at least 1. An image
    without foreground counts as well: its largest error is its loss.

    With `activation='sigmoid'` each class's logit is its own margin, for any number of classes, and
    each pair of image and class counts once where the class has a valid pixel.
    """

    def __call__(self, logits: Logits, label: Label | Labels) -> Pair:
        """Return (sum, weight); computed in float32 at least."""
        logits, target, valid = base.mask_void(logits, label, self.activation)
        margin = logits
        if self.activation == "softmax":
            target, margin = target[..., 1:], logits[..., 1:] - logits[..., :1]
        target, valid, margin = _flat(target), _flat(valid), _flat(margin)
        error = jax.nn.relu(1 - jnp.where(target, margin, -margin))
        loss = _extension(error, target, valid)
        return base.sum_of(loss, jnp.any(valid, axis=-1))

    def number(self, target: Target, valid: Valid) -> Float[Array, ""]:
        """Return the number of images, or of their pairs with classes, with a valid pixel."""
        return base.number_of(base.somewhere(valid))

    def check(self, num_classes: int, *, multilabel: bool = False) -> None:
        """Raise `ConfigError` unless there are two classes, or each has its own margin."""
        super().check(num_classes, multilabel=multilabel)
        if num_classes != 2 and self.activation == "softmax":
            raise ConfigError(
                f"lovasz:hinge is for two classes, got {num_classes}. Use lovasz:softmax, or set "
                "activation='sigmoid'."
            )


def _extension(
    error: Float[Array, "b k n"], target: Bool[Array, "b k n"], valid: Bool[Array, "b #k n"]
) -> Float[Array, "b k"]:
    """Return the Lovász extension of the Jaccard loss at the errors of each image and class."""
    order = jnp.argsort(jnp.where(valid, -jax.lax.stop_gradient(error), 1), axis=-1)
    hit = jnp.take_along_axis(target, order, axis=-1).astype(error.dtype)
    area = jnp.sum(hit, axis=-1, keepdims=True)
    wrong = 1 - hit
    jaccard = 1 - (area - jnp.cumsum(hit, axis=-1)) / (area + jnp.cumsum(wrong, axis=-1))
    step = jnp.diff(jaccard, axis=-1, prepend=0)
    error = jnp.take_along_axis(jnp.where(valid, error, 0), order, axis=-1)
    return jnp.sum(error * step, axis=-1)


def _flat(values: Array) -> Array:
    """Return [b *space k] as [b k n]: the pixels of each image and class in a row."""
    return jnp.moveaxis(values.reshape(len(values), -1, values.shape[-1]), -1, 1)
