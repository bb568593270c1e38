"""What a loss is: a sum, and the weight that it is divided by."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, DTypeLike, Float

from segjax.config import rules
from segjax.errors import ConfigError
from segjax.structs import IGNORE_LABEL, Label, Labels, Logits

Pair: TypeAlias = tuple[Float[Array, ""], Float[Array, ""]]
Activation: TypeAlias = Annotated[str, rules.one_of("softmax", "sigmoid")]
"""What makes probabilities of logits. 'softmax': a pixel's classes share 1, and it is of one class.
'sigmoid': each class's logit is judged by itself, whether the pixel is of that class: against a
class map (one against the rest), or against a multi-label target."""
Target: TypeAlias = Bool[Array, "b *space k"]
"""Which pixels are of which class; False where it is not known."""
Valid: TypeAlias = Bool[Array, "b *space #k"]
"""Which pixels count: of all classes together under softmax, of each class under sigmoid."""


@runtime_checkable
class Loss(Protocol):
    """A loss of a batch, of which the caller makes a mean over all batches that belong together.

    Void pixels and labels outside 0..K-1 add nothing to sum and weight, and no gradient, whatever
    their logits hold; a batch of nothing else gives 0 for both. Where the weight is 0, as it is too
    where every label has a class weight of 0, the mean is 0, whatever the sum.

    The label is a class map [b *space], or multi-label [b *space k]: 0, 1, or 255 where it is not
    known whether a pixel is of the class.
    """

    def __call__(self, logits: Logits, label: Label | Labels, /) -> Pair:
        """Return the sum of the loss over the batch, and its weight."""
        ...

    def weight(
        self, label: Label | Labels, /, *, num_classes: int, multilabel: bool = False
    ) -> Float[Array, ""]:
        """Return the weight that `__call__` returns, which the label alone decides."""
        ...

    def check(self, num_classes: int, *, multilabel: bool = False) -> None:
        """Raise `ConfigError` unless the loss can be used for so many classes and such labels."""
        ...


class OfClasses:
    """What losses share that ask which class a pixel is: how they read a label."""

    def form(self) -> str:
        """Return the `Activation`; a loss without a choice is one of softmax."""
        return "softmax"

    def weight(
        self, label: Label | Labels, *, num_classes: int, multilabel: bool = False
    ) -> Float[Array, ""]:
        """Return the weight that `__call__` returns, which the label alone decides."""
        return self.number(*truth(label, num_classes, form=self.form(), multilabel=multilabel))

    def number(self, target: Target, valid: Valid) -> Float[Array, ""]:
        """Return the weight of what is known of some pixels."""
        raise NotImplementedError

    def check(self, num_classes: int, *, multilabel: bool = False) -> None:
        """Accept any number of classes; raise `ConfigError` for multi-label under softmax."""
        del num_classes
        if multilabel and self.form() != "sigmoid":
            name = type(self).__name__
            choice = isinstance(self, OfEither)
            raise ConfigError(
                f"{name}: expects one class for each pixel (softmax), got multi-label targets. "
                + ("Set activation='sigmoid'." if choice else "Use a loss that has 'activation'.")
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfEither(OfClasses):
    """What losses share that have a form for either activation.

    Attributes:
        activation: 'softmax' or 'sigmoid', see `Activation`.
    """

    activation: Activation = "softmax"

    def form(self) -> str:
        """Return the activation."""
        return self.activation


def mask_void(logits: Logits, label: Label | Labels, form: str) -> tuple[Logits, Target, Valid]:
    """Return logits in float32 at least (0 where void), and what is known of the pixels.

    Replacing the logits before they are used, not the loss after, is what keeps an infinity on a
    void pixel out of the gradient. The target is False throughout on void pixels; consume it inside
    a reduction, so that it stays fused.
    """
    multilabel = label.ndim == logits.ndim
    target, valid = truth(label, logits.shape[-1], form=form, multilabel=multilabel)
    logits = jnp.where(valid, logits, 0)
    if jnp.finfo(logits.dtype).bits < 32:
        logits = logits.astype(jnp.float32)
    return logits, target, valid


def truth(
    label: Label | Labels, num_classes: int, *, form: str, multilabel: bool
) -> tuple[Target, Valid]:
    """Return of which class each pixel is, and what counts: the one place that reads a label."""
    if multilabel:
        return label == 1, (label == 0) | (label == 1)
    label = label.astype(jnp.int32)
    valid = (label >= 0) & (label < num_classes) & (label != IGNORE_LABEL)
    target = jnp.where(valid, label, -1)[..., None] == jnp.arange(num_classes, dtype=jnp.int32)
    valid = valid[..., None]
    return target, jnp.broadcast_to(valid, target.shape) if form == "sigmoid" else valid


def probabilities(logits: Logits, valid: Valid, form: str) -> Float[Array, "b *space k"]:
    """Return what the activation makes of logits, 0 on void pixels."""
    make = jax.nn.sigmoid if form == "sigmoid" else jax.nn.softmax
    return jnp.where(valid, make(logits), 0)


def somewhere(flags: Bool[Array, "b *space k"]) -> Bool[Array, "b k"]:
    """Return which classes are flagged at some pixel of each image."""
    return jnp.any(flags, axis=tuple(range(1, flags.ndim - 1)))


def pixels_of(flags: Bool[Array, "b *space k"], dtype: DTypeLike = float) -> Float[Array, "b k"]:
    """Return at how many pixels of each image each class is flagged."""
    count = jnp.sum(flags, axis=tuple(range(1, flags.ndim - 1)), dtype=jnp.int32)
    return count.astype(dtype)


def sum_of(loss: Float[Array, "..."], counted: Bool[Array, "..."]) -> Pair:
    """Return a loss summed over what is counted, and the number of it."""
    return jnp.sum(jnp.where(counted, loss, 0)), number_of(counted, loss.dtype)


def number_of(counted: Bool[Array, "..."], dtype: DTypeLike = float) -> Float[Array, ""]:
    """Return how many are counted, exact above 2^24 before it is rounded to `dtype`."""
    return jnp.sum(counted, dtype=jnp.int32).astype(dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfFunction:
    """A loss made of a plain function, such as one from outside of segjax.

    Attributes:
        function: `(logits, label) -> (sum, weight)`, of which the label alone decides the weight.
    """

    function: Callable[[Logits, Label | Labels], Pair]

    def __call__(self, logits: Logits, label: Label | Labels) -> Pair:
        """Return what the function returns."""
        return self.function(logits, label)

    def weight(
        self, label: Label | Labels, *, num_classes: int, multilabel: bool = False
    ) -> Float[Array, ""]:
        """Return the weight at logits of 0; compiled, their loss is never computed."""
        shape = label.shape if multilabel else (*label.shape, num_classes)
        return self.function(jnp.zeros(shape, float), label)[1]

    def check(self, num_classes: int, *, multilabel: bool = False) -> None:
        """Accept any number of classes and any labels: only the function knows."""


def as_loss(found: Loss | Callable[[Logits, Label | Labels], Pair]) -> Loss:
    """Return a loss as it is, and a plain function as a loss."""
    return found if isinstance(found, Loss) else OfFunction(function=found)
