"""What predicts: a network, an exported file, a threshold, all behind one protocol."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, Int64, Shaped, UInt8

from segjax.data import core
from segjax.data.lazy import Region
from segjax.metrics import confusion
from segjax.structs import Term

Image = Shaped[np.ndarray, "*space c"]
ClassMap = UInt8[np.ndarray, "..."]
"""[*space]; of a multi-label task [*space k]."""


class Prediction(NamedTuple):
    """What is predicted of one image, on the image's own grid.

    Attributes:
        classes: The class of every pixel, uint8 [*space]; of a multi-label task 0 or 1 for each
            class, uint8 [*space k].
        probabilities: Returns the probability of each class, float32 [*space k]; computed when it
            is called.
    """

    classes: ClassMap
    probabilities: Callable[[], Float[np.ndarray, "*space k"]]


class Measured(NamedTuple):
    """What an evaluator learns from a few examples.

    Attributes:
        counts: The counts of each of them by its number, on its label's own grid: a confusion
            matrix, or one [2 2] for each class [k 2 2].
        loss: The terms of the loss over a batch; empty of what has none.
    """

    counts: Mapping[int, Int64[np.ndarray, "k ..."]]
    loss: Mapping[str, Term]


class Predictor(Protocol):
    """Predicts images of any size, and measures the examples of a split for an evaluator."""

    def __call__(self, image: Image, /) -> Prediction:
        """Return the prediction of one image [*space c] at its own size."""
        ...

    def tiles(
        self, image: Image, /, *, probabilities: bool = False
    ) -> Iterator[tuple[Region, np.ndarray]]:
        """Yield the classes of one part of the image after the other, the first axis slowest.

        Where it can, in memory that does not grow with the image.

        Args:
            image: An array, or what gives parts of one by `[region]`, see `data.lazy`.
            probabilities: Yield the probability of each class instead.
        """
        ...

    def measure(
        self, source: core.Source, /, *, batch_size: int, threads: int
    ) -> Iterator[Measured]:
        """Yield what there is to say of every example of `source` once; all processes call it.

        Args:
            source: Examples of any size.
            batch_size: How many the devices take at once, over all processes.
            threads: Threads that read and decode.
        """
        ...


class FunctionPredictor:
    """Any function from an image to its class map as a `Predictor`: a threshold, a classic method.

    Args:
        function: From an image [*space c] in its own type to classes 0..K-1 [*space], or where
            classes overlap to 0 or 1 for each of them [*space k].
        num_classes: K.
    """

    def __init__(self, function: Callable[[Image], np.ndarray], *, num_classes: int):
        self.function, self.num_classes = function, num_classes

    def __call__(self, image: Image, /) -> Prediction:
        """Return the function's classes; each has probability 1 where it is."""
        classes = np.asarray(self.function(image)).astype(np.uint8)
        if classes.ndim == image.ndim:
            return Prediction(classes, lambda: classes.astype(np.float32))
        numbers = np.arange(self.num_classes, dtype=np.uint8)
        return Prediction(classes, lambda: (classes[..., None] == numbers).astype(np.float32))

    def tiles(
        self, image: Image, /, *, probabilities: bool = False
    ) -> Iterator[tuple[Region, np.ndarray]]:
        """Yield the whole as one part: a function sees all of an image."""
        found = self(np.asarray(image))
        everywhere = tuple(slice(0, side) for side in image.shape[:-1])
        yield everywhere, found.probabilities() if probabilities else found.classes

    def measure(
        self, source: core.Source, /, *, batch_size: int, threads: int
    ) -> Iterator[Measured]:
        """Yield the counts of one example after the other; there is no loss."""
        del batch_size, threads
        for number in range(len(source)):
            example = source[number]
            image, label = np.asarray(example["image"]), np.asarray(example["label"])
            pred = self(image).classes
            if source.schema["label"].kind == "labels":
                counts = confusion.binary_counts_of(pred, label)
            else:
                counts = confusion.counts_of(pred, label, num_classes=self.num_classes)
            yield Measured({number: counts}, {})
