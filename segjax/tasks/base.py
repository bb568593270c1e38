"""What the loop, the step and evaluation know of a task."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float, Int, Int32

from segjax.structs import Batch, Key, Kind, Label, Scalar, Term

Outputs = Any
"""What a model returns: a pytree that only its task opens."""


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

    def decide(self, scores: Float[Array, "b *space k"]) -> Int[Array, "b *space"]:
        """Return the class of every pixel."""
        ...

    def compare(self, pred: Int[Array, "b *space"], label: Label) -> Int32[Array, "b k k"]:
        """Return the counts of each example that scores are made of."""
        ...
