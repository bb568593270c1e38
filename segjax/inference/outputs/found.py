"""What was predicted of one image, as the writers see it."""

import dataclasses
import functools
import pathlib

import numpy as np
from jaxtyping import Float, UInt8

from segjax.inference.outputs import contours
from segjax.inference.outputs.areas import Areas, class_areas
from segjax.inference.predictor import Image, Prediction
from segjax.structs import Classes


@dataclasses.dataclass(frozen=True)
class Found:
    """One image and its prediction; what is dear is computed when first asked for, and once.

    Attributes:
        file: The image's file.
        shown: Its path below the folder that all images have in common, with slashes.
        image: Its values.
        prediction: Of it.
        classes: What was predicted.
        without: Classes that contours leave out.
    """

    file: pathlib.Path
    shown: str
    image: Image
    prediction: Prediction
    classes: Classes
    without: frozenset[int] = frozenset()

    @property
    def label(self) -> UInt8[np.ndarray, "*space"]:
        """The class of every pixel."""
        return self.prediction.classes

    @functools.cached_property
    def areas(self) -> Areas:
        """How much of the image each class covers."""
        return class_areas(self.label, self.classes.class_names)

    @functools.cached_property
    def probabilities(self) -> Float[np.ndarray, "*space k"]:
        """The probability of each class."""
        return self.prediction.probabilities()

    @functools.cached_property
    def regions(self) -> list[contours.Region]:
        """The regions of a picture's label map."""
        return contours.find(self.label, without={*self.without, 255})
