"""What predicts: a network, an exported file, a threshold, all behind one protocol.

`Predictor` answers with classes of pixels, `ObjectPredictor` with objects one by one.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, Int32, Int64, Shaped, UInt8

from segjax.data import core
from segjax.data.lazy import Region
from segjax.metrics import confusion, overlap
from segjax.runtime import quirks
from segjax.structs import Objects, Term

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


class Segments(NamedTuple):
    """An image dealt into segments: each pixel is of one, or of none.

    Attributes:
        numbers: int32 [*space]: 1..s, the pixel's segment; 0 where it is of none.
        classes: int32 [s]: the class of each segment. Of a class that is not counted object by
            object there is one at most.
    """

    numbers: Int32[np.ndarray, "*space"]
    classes: Int32[np.ndarray, " s"]


class Detection(NamedTuple):
    """What is found in one image, on the image's own grid.

    Attributes:
        objects: Of all classes that are counted object by object, the highest score first.
        size: The image's sides.
        segments: The whole image in segments, of a panoptic task; None: it was not asked for.
    """

    objects: Objects
    size: tuple[int, ...]
    segments: Segments | None = None


class Detected(NamedTuple):
    """What an evaluator learns from a few examples.

    Attributes:
        found: What is found in each of them, by its number.
        loss: The terms of the loss over a batch of all processes; empty of what has none.
    """

    found: Mapping[int, Detection]
    loss: Mapping[str, Term]


class ObjectPredictor(Protocol):
    """Finds the objects of images of any size, and those of the examples of a split."""

    def __call__(self, image: Image, /) -> Detection:
        """Return what is found in one image [*space c], at its own size.

        All processes must call it with the same image, and all get the same.
        """
        ...

    def detect(
        self, source: core.Source, /, *, batch_size: int, threads: int
    ) -> Iterator[Detected]:
        """Yield what is found in this process's examples of `source`, in any order.

        Each example is found by exactly one process. All processes must call it, and all are given
        equally much, some of it perhaps empty.

        Args:
            source: Examples of any size.
            batch_size: How many the devices take at once, over all processes.
            threads: Threads that read and decode.
        """
        ...


class FunctionObjectPredictor:
    """Any function from an image to its objects as an `ObjectPredictor`: a watershed, an oracle.

    Args:
        function: From an image [*space c] in its own type to the objects in it, or to them and the
            whole image in segments.
    """

    def __init__(self, function: Callable[[Image], Objects | tuple[Objects, Segments]]):
        self.function = function

    def __call__(self, image: Image, /) -> Detection:
        """Return the function's objects, the highest score first."""
        found = self.function(image)
        objects, segments = (found, None) if isinstance(found, Objects) else found
        order = np.argsort(-objects.scores, kind="stable")
        return Detection(overlap.take(objects, order), image.shape[:-1], segments)

    def detect(
        self, source: core.Source, /, *, batch_size: int, threads: int
    ) -> Iterator[Detected]:
        """Yield every so manyth example, a process's own, one after the other; without a loss."""
        del batch_size, threads
        _, me, processes = quirks.job_client()
        for start in range(0, len(source), processes):
            own = [start + me] if start + me < len(source) else []
            images = {number: np.asarray(source[number]["image"]) for number in own}
            yield Detected({number: self(image) for number, image in images.items()}, {})
