"""Outputs of images too large to be held: written while they are predicted, or drawn thinned."""

import collections
import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import numpy as np

from segjax.data import geo
from segjax.data.geometry import Geometry
from segjax.data.lazy import Region
from segjax.errors import DataError
from segjax.inference import preview, streams
from segjax.inference.outputs import overlay
from segjax.inference.outputs.areas import Areas, areas_of, pixels_of
from segjax.inference.predictor import Image, ObjectPredictor, Predictor
from segjax.runtime import files
from segjax.structs import Classes


@dataclasses.dataclass
class Large:
    """An image and what predicts it, as the writers see it.

    Args:
        file: The image's file.
        image: Gives parts of itself by `[region]`.
        predictor: Predicts it, tile by tile.
        classes: What is predicted.
        multilabel: Whether a pixel may be of several classes, or of none.
        watch: Called with how many pixels are predicted so far.
        geometry: Where the file's pixels lie; None: it does not say.

    Attributes:
        counts: Pixels of each class, int64, once the classes are predicted.
        thin: Every `step`-th pixel of them.
    """

    file: pathlib.Path
    image: Image
    predictor: Predictor
    classes: Classes
    multilabel: bool = False
    watch: Callable[[int], None] = lambda done: None
    geometry: Geometry | None = None
    form: str = ""

    def __post_init__(self) -> None:
        self.step = preview.step_of(self.whole)
        self.thin = preview.Thin(self.whole, self.step)
        self.counts = np.zeros((), np.int64)

    @property
    def whole(self) -> tuple[int, ...]:
        """The image's sides."""
        return self.image.shape[:-1]

    @property
    def areas(self) -> Areas:
        """Pixels and share of each class."""
        return areas_of(self.counts, self.classes.class_names, whole=self.whole)

    def tiles(self) -> Iterator[tuple[Region, np.ndarray]]:
        """Yield the classes of one part after the other, and take note of them."""
        self.counts = np.zeros((), np.int64)
        done = 0
        for region, tile in self.predictor.tiles(self.image):
            self.counts = self.counts + pixels_of(tile, dims=len(self.whole))
            self.thin.add(region, tile)
            done += math.prod(tile.shape[: len(self.whole)])
            self.watch(done)
            yield region, tile

    def predict(self, path: pathlib.Path | None) -> None:
        """Predict the classes, and write them: a TIFF of a picture, else a NumPy file.

        A multi-label map is a NumPy file [*space k].

        Args:
            path: The file; None: nothing is written.

        Raises:
            UserError: The disk is full or cannot be written.
            DataError: A part of the image cannot be read.
        """
        tiles = self.tiles()
        if path is None:
            collections.deque(tiles, maxlen=0)
        elif self.multilabel:
            streams.write_npy(path, tiles, _shape(self), np.uint8)
        elif len(self.whole) == 2:
            streams.write_tiff(
                path, tiles, self.whole, palette=self.classes.palette,
                tags=geo.tags_of(self.geometry),
            )  # fmt: skip
        else:
            streams.write_npy(path, tiles, self.whole, np.uint8)


def write_overlay(path: pathlib.Path, found: Large) -> None:
    """Write every so manyth pixel of the image in the colours of its classes."""
    image = preview.thinned(found.image, found.step, dims=len(found.whole))
    overlay.draw(path, image, found.thin.classes, found.classes)


def write_array(path: pathlib.Path, found: Large) -> None:
    """Write the probabilities as a NumPy file, float32 [*space k]; predicts the image again."""
    tiles = found.predictor.tiles(found.image, probabilities=True)
    streams.write_npy(path, tiles, _shape(found), np.float32)


def write_zarr(path: pathlib.Path, found: Large) -> None:
    """Write the probabilities as a Zarr array, see `maps.write_zarr`; predicts the image again."""
    tiles = found.predictor.tiles(found.image, probabilities=True)
    about = {"class_names": list(found.classes.class_names)}
    with files.replacing_folder(path) as folder:
        streams.write_zarr(
            folder, tiles, _shape(found), np.float32, dims=len(found.whole), attributes=about,
            shown=path,
        )  # fmt: skip


def _shape(found: Large) -> tuple[int, ...]:
    return (*found.whole, len(found.classes.class_names))


def is_large(whole: Sequence[int]) -> bool:
    """Return whether an image has so many pixels that no array of its size is made."""
    return math.prod(whole) > preview.LARGE


def check_held(whole: Sequence[int], *, name: str) -> None:
    """Raise `DataError` for an image too large to be held, in which objects are not looked for."""
    if is_large(whole):
        raise DataError(
            f"{name}: {math.prod(whole):,} pixels, objects are found in images of at most "
            f"{preview.LARGE:,}. Cut it into parts."
        )


def check_dense(
    predictor: Predictor | ObjectPredictor, whole: Sequence[int], *, name: str
) -> Predictor:
    """Return what predicts an image in parts.

    Raises:
        DataError: It finds objects, and the image is too large to be held.
    """
    if hasattr(predictor, "detect"):
        check_held(whole, name=name)
    return cast(Predictor, predictor)
