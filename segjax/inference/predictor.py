"""What predicts: a network, an exported file, a threshold, all behind one protocol."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped, UInt8

from segjax.runtime import sharding
from segjax.structs import Batch
from segjax.tasks import semantic

Image = Shaped[np.ndarray, "*space c"]
ClassMap = UInt8[np.ndarray, "*space"]


class Prediction(NamedTuple):
    """What is predicted of one image, on the image's own grid.

    Attributes:
        classes: The class of every pixel, uint8 [*space].
        probabilities: Returns the probability of each class, float32 [*space k]; computed when it
            is called.
    """

    classes: ClassMap
    probabilities: Callable[[], Float[np.ndarray, "*space k"]]


class Predictor(Protocol):
    """Predicts images of any size, and measures batches for an evaluator."""

    def __call__(self, image: Image, /) -> Prediction:
        """Return the prediction of one image [*space c] at its own size."""
        ...

    def measure(self, batch: Batch, /) -> Mapping[str, Any]:
        """Return what the task measures of a batch on the devices, with the batch's `mask`."""
        ...


class FunctionPredictor:
    """Any function from an image to its class map as a `Predictor`: a threshold, a classic method.

    Args:
        function: From an image [*space c] in its own type to classes 0..K-1 [*space].
        task: Compares class maps with labels.
        num_classes: K.
    """

    def __init__(
        self, function: Callable[[Image], np.ndarray], *, task: semantic.Task, num_classes: int
    ):
        self.function, self.task, self.num_classes = function, task, num_classes

    def __call__(self, image: Image, /) -> Prediction:
        """Return the function's classes; each has probability 1 where it is."""
        classes = np.asarray(self.function(image)).astype(np.uint8)
        numbers = np.arange(self.num_classes, dtype=np.uint8)
        return Prediction(classes, lambda: (classes[..., None] == numbers).astype(np.float32))

    def measure(self, batch: Batch, /) -> Mapping[str, Any]:
        """Return `pred` and `counts` of a batch, see `semantic.Task.compare`; there is no loss."""
        whole = sharding.fetch(dict(batch))
        pred = jnp.asarray(np.stack([self(image).classes for image in whole["image"]]), jnp.int32)
        whole["label"] = jnp.asarray(whole["label"])
        return self.task.compare(pred, whole) | {"mask": whole["mask"]}
