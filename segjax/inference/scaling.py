"""Any predictor that sees images at the scale of `config.input.intensity`."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from segjax.data import core, intensity, resample
from segjax.data.lazy import Region
from segjax.inference import several as several_lib
from segjax.inference.predictor import (
    Detected,
    Detection,
    Image,
    Measured,
    ObjectPredictor,
    Prediction,
    Predictor,
)


class Scaling:
    """A predictor whose images are brought to the scales that `steps` find, as a `Predictor`."""

    def __init__(self, predictor: Predictor, steps: Sequence[intensity.Find]):
        self.predictor, self.steps = predictor, steps

    def __call__(self, image: Image, /) -> Prediction:
        """Return the prediction of an image [*space c] in its own units."""
        return self.predictor(scaled(image, self.steps))

    def several(
        self, images: Sequence[Image], *, probabilities: Collection[int] = (), most: int = 8
    ) -> list[Prediction]:
        """Return what is predicted of each of several images, see `several.several`."""
        seen = [scaled(image, self.steps) for image in images]
        return several_lib.several(self.predictor, seen, probabilities=probabilities, most=most)

    def tiles(
        self, image: Image, /, *, probabilities: bool = False
    ) -> Iterator[tuple[Region, np.ndarray]]:
        """Yield one part after the other, see `Predictor`."""
        return self.predictor.tiles(scaled(image, self.steps), probabilities=probabilities)

    def measure(
        self, source: core.Source, /, *, batch_size: int, threads: int
    ) -> Iterator[Measured]:
        """Yield what there is to say of every example, see `Predictor`."""
        seen = intensity.view(source, self.steps)
        return self.predictor.measure(seen, batch_size=batch_size, threads=threads)


class ScalingFinder:
    """Likewise of an `ObjectPredictor`."""

    def __init__(self, predictor: ObjectPredictor, steps: Sequence[intensity.Find]):
        self.predictor, self.steps = predictor, steps

    def __call__(self, image: Image, /) -> Detection:
        """Return what is found in an image [*space c] in its own units."""
        return self.predictor(scaled(image, self.steps))

    def several(
        self, images: Sequence[Image], *, probabilities: Collection[int] = (), most: int = 8
    ) -> list[Detection]:
        """Return what is predicted of each of several images, see `several.several`."""
        seen = [scaled(image, self.steps) for image in images]
        return several_lib.several(self.predictor, seen, probabilities=probabilities, most=most)

    def detect(
        self, source: core.Source, /, *, batch_size: int, threads: int
    ) -> Iterator[Detected]:
        """Yield what is found in this process's examples, see `ObjectPredictor`."""
        seen = intensity.view(source, self.steps)
        return self.predictor.detect(seen, batch_size=batch_size, threads=threads)


def scaled(image: Image, steps: Sequence[intensity.Find]) -> Image:
    """Return an image at the scale that `steps` find, with its spacing."""
    found = intensity.apply(steps, image)
    return resample.spaced(found, resample.spacing_of(image))


def wrap(predictor: Predictor, steps: Sequence[intensity.Find]) -> Predictor:
    """Return a predictor with these steps; itself where there are none."""
    return Scaling(predictor, steps) if steps else predictor


def wrap_finding(predictor: ObjectPredictor, steps: Sequence[intensity.Find]) -> ObjectPredictor:
    """Return a predictor of objects with these steps; itself where there are none."""
    return ScalingFinder(predictor, steps) if steps else predictor
