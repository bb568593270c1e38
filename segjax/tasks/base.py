"""What the loop, the step and evaluation know of a task."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from jax.sharding import Mesh
from jaxtyping import Array, Float

from segjax.structs import Batch, Key, Kind, Scalar, Term

Outputs = Any
"""What a model returns: a pytree that only its task opens."""
Measures = Mapping[str, Any]
"""What a task reads off one batch; `mask` is in it, so that padding rows can be told apart."""


@runtime_checkable
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


@runtime_checkable
class DenseTask(Task, Protocol):
    """A task with a score for every pixel and class, so that windows can be joined.

    Attributes:
        num_classes: Of its scores.
    """

    num_classes: int

    def scores(self, outputs: Outputs) -> Float[Array, "b *space k"]:
        """Return what may be resized and blended before the largest is chosen, float32."""
        ...
