"""What the loop, the step and evaluation know of a task."""

from collections.abc import Mapping
from typing import Any, Protocol

import flax.struct
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

from segjax.structs import Batch, Key, Kind

Scalar = Float[Array, ""]
Outputs = Any
"""What a model returns: a pytree that only its task opens."""
Measures = Mapping[str, Any]
"""What a task reads off one batch; `mask` is in it, so that padding rows can be told apart."""


@flax.struct.dataclass
class Term:
    """One term of a loss, `factor * total / weight`, before the division.

    Attributes:
        total: The sum over the valid pixels, regions or objects of some images.
        weight: The sum of their weights.
        factor: The term's share of the loss.
        divisor: The key of `Task.weights` that divides `total` over the whole batch; empty: the
            term's own `weight`, because labels alone do not decide it.
    """

    total: Scalar
    weight: Scalar
    factor: float = flax.struct.field(pytree_node=False, default=1.0)
    divisor: str = flax.struct.field(pytree_node=False, default="")

    def mean(self, weights: Mapping[str, Scalar]) -> Scalar:
        """Return the term divided by its weight over the whole batch."""
        weight = weights[self.divisor] if self.divisor else self.weight
        return self.factor * self.total / jnp.maximum(weight, 1e-8).astype(self.total.dtype)


class Task(Protocol):
    """What a run does with a model's outputs.

    Attributes:
        needs: The fields of a batch that it reads beside `image`, and of what kind they must be.
    """

    needs: Mapping[str, Kind]

    def weights(self, batch: Batch) -> dict[str, Scalar]:
        """Return the weights that labels alone decide, over all of `batch`."""
        ...

    def loss(self, outputs: Outputs, batch: Batch, key: Key) -> dict[str, Term]:
        """Return the terms of the loss; `key` is for what is drawn, such as proposals."""
        ...

    def measure(self, outputs: Outputs, batch: Batch) -> dict[str, Any]:
        """Return what evaluation needs of one batch, as arrays."""
        ...

    def placement(self, mesh: Mesh) -> dict[str, Any]:
        """Return where each entry of `measure` lies: replicated, or split as the batch is."""
        ...


class DenseTask(Task, Protocol):
    """A task with a score for every pixel and class, so that windows can be joined.

    Attributes:
        num_classes: Of its scores.
    """

    num_classes: int

    def scores(self, outputs: Outputs) -> Float[Array, "b *space k"]:
        """Return what may be resized and blended before the largest is chosen, float32."""
        ...
