"""What a loss is: a sum, and the weight that it is divided by."""

import dataclasses
from collections.abc import Callable
from typing import Protocol, TypeAlias, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Bool, DTypeLike, Float

from segjax.structs import Label, Logits

Pair: TypeAlias = tuple[Float[Array, ""], Float[Array, ""]]


@runtime_checkable
class Loss(Protocol):
    """A loss of a batch, of which the caller makes a mean over all batches that belong together.

    Void pixels and labels outside 0..K-1 add nothing to sum and weight, and no gradient, whatever
    their logits hold; a batch of nothing else gives 0 for both. Where the weight is 0, as it is too
    where every label has a class weight of 0, the mean is 0, whatever the sum.
    """

    def __call__(self, logits: Logits, label: Label, /) -> Pair:
        """Return the sum of the loss over the batch, and its weight."""
        ...

    def weight(self, label: Label, /, *, num_classes: int) -> Float[Array, ""]:
        """Return the weight that `__call__` returns, which the label alone decides."""
        ...

    def check(self, num_classes: int) -> None:
        """Raise `ConfigError` unless the loss can be used for so many classes."""
        ...


class AnyClasses:
    """What losses share that can be used for any number of classes."""

    def check(self, num_classes: int) -> None:
        """Accept any number of classes."""


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

    function: Callable[[Logits, Label], Pair]

    def __call__(self, logits: Logits, label: Label) -> Pair:
        """Return what the function returns."""
        return self.function(logits, label)

    def weight(self, label: Label, *, num_classes: int) -> Float[Array, ""]:
        """Return the weight at logits of 0; compiled, their loss is never computed."""
        return self.function(jnp.zeros((*label.shape, num_classes), float), label)[1]

    def check(self, num_classes: int) -> None:
        """Accept any number of classes: only the function knows."""


def as_loss(found: Loss | Callable[[Logits, Label], Pair]) -> Loss:
    """Return a loss as it is, and a plain function as a loss."""
    return found if isinstance(found, Loss) else OfFunction(function=found)
