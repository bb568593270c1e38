"""A fitted method as a predictor: scored and asked by the same code as a network."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from segjax.baselines.base import Method
from segjax.inference.predictor import (
    FunctionObjectPredictor,
    FunctionPredictor,
    Image,
    Prediction,
)
from segjax.structs import Objects


class Fitted(FunctionPredictor):
    """A method with its numbers as a `Predictor`.

    Args:
        method: Segments.
        numbers: What was fitted; arrays of JAX or of NumPy.
    """

    def __init__(self, method: Method, numbers: Mapping[str, Any]):
        self.method = method
        self.numbers = {name: np.asarray(array) for name, array in numbers.items()}
        super().__init__(
            lambda image: self._probabilities(image).argmax(axis=-1),
            num_classes=method.num_classes,
        )

    def __call__(self, image: Image, /) -> Prediction:
        """Return the prediction of one image at its own size."""
        found = self._probabilities(image)
        return Prediction(found.argmax(axis=-1).astype(np.uint8), lambda: found)

    def finder(self, things: Sequence[int]) -> FunctionObjectPredictor:
        """Return what finds the objects of some classes, see `Method.find`."""

        def find(image: Image) -> Objects:
            return self.method.find(self.numbers, np.asarray(image), things=things)

        found: Callable[[Image], Objects] = find
        return FunctionObjectPredictor(found)

    def _probabilities(self, image: Image) -> np.ndarray:
        return self.method.predict(self.numbers, np.asarray(image))
