"""What was predicted of one image, as the writers see it."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, UInt8

from segjax.data import contours
from segjax.data.geometry import Geometry
from segjax.inference.outputs.areas import Areas, areas_of, pixels_of
from segjax.inference.predictor import Image, Prediction, Segments
from segjax.structs import Classes, Objects


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
        geometry: Where the file's pixels lie; None: it does not say.
        objects: All that were found; None: of a run that does not look for objects.
        segments: The image in segments; None: of a run that is not panoptic.
        least_score: From which score on objects are painted.
        segments_file: The name of the file that the segments are written to.
        foreground: Classes that are cut out.
    """

    file: pathlib.Path
    shown: str
    image: Image
    prediction: Prediction
    classes: Classes
    without: frozenset[int] = frozenset()
    geometry: Geometry | None = None
    objects: Objects | None = None
    segments: Segments | None = None
    least_score: float = 0.5
    segments_file: str = ""
    foreground: frozenset[int] = frozenset()

    @property
    def form(self) -> str:
        """The format of a file with a place in the world, see `data.geometry`; else empty."""
        return self.geometry.format if self.geometry else ""

    @property
    def label(self) -> UInt8[np.ndarray, "..."]:
        """The class of every pixel, or of a multi-label run 0 or 1 for each class."""
        return self.prediction.classes

    @property
    def whole(self) -> tuple[int, ...]:
        """The image's sides."""
        return self.image.shape[:-1]

    @functools.cached_property
    def areas(self) -> Areas:
        """How much of the image each class covers."""
        pixels = pixels_of(self.label, dims=len(self.whole))
        return areas_of(pixels, self.classes.class_names, whole=self.whole)

    @functools.cached_property
    def probabilities(self) -> Float[np.ndarray, "*space k"]:
        """The probability of each class."""
        return self.prediction.probabilities()

    @property
    def in_foreground(self) -> Bool[np.ndarray, "*space"]:
        """Which pixels are of a class of the foreground."""
        chosen = sorted(self.foreground)
        if self.label.ndim == len(self.whole):
            return np.isin(self.label, chosen)
        return np.asarray(self.label[..., chosen].any(axis=-1))

    @functools.cached_property
    def regions(self) -> list[contours.Region]:
        """The regions of a picture's label map, of a multi-label map each class's by itself.

        Of objects alone they are those of each object by itself, from `least_score` on.
        """
        if self.objects is not None and self.segments is None:
            return list(self._regions_of(self.objects))
        if self.label.ndim == len(self.whole):
            return contours.find(self.label, without={*self.without, 255})
        return [
            region._replace(label=k)
            for k in range(self.label.shape[-1])
            if k not in self.without
            for region in contours.find(self.label[..., k], without={0})
        ]

    def _regions_of(self, objects: Objects) -> Iterator[contours.Region]:
        """Yield the regions of objects, each traced within its own box."""
        for k, (corner, inside), score in zip(
            objects.classes.tolist(), objects.masks, objects.scores.tolist(), strict=True
        ):
            if k not in self.without and score >= self.least_score:
                for region in contours.find(inside.astype(np.uint8), without={0}):
                    shift = np.array(corner[::-1])
                    outline, holes = region.outline + shift, [ring + shift for ring in region.holes]
                    yield contours.Region(k, region.pixels, outline, tuple(holes))
