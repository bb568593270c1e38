"""The model that is served: what it takes, what it finds, its shapes compiled beforehand."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from segjax.baselines import base as baselines
from segjax.data import opening, resample
from segjax.data.decode import Reading
from segjax.data.readers import arrays
from segjax.export import program
from segjax.inference import several
from segjax.inference.layout import Layout, Plan
from segjax.inference.outputs import kinds
from segjax.inference.predictor import ObjectPredictor, Predictor
from segjax.runs import as_trained
from segjax.runs.run import Run
from segjax.structs import Classes


@dataclasses.dataclass(frozen=True)
class Served:
    """A model that predicts.

    Attributes:
        name: By which requests may name it.
        step: Of its training.
        predictor: Predicts, or finds objects.
        classes: What it predicts.
        reading: How images are read; with a type, so that no other one is ever compiled.
        layout: How the network sees them.
        multilabel: Whether a pixel may be of several classes, or of none.
        finds: What it finds beside classes of pixels.
        most: Windows that go through the network at once.
        whole: Whether a classical method sees each image whole, and there is no network.
    """

    name: str
    step: int
    predictor: Predictor | ObjectPredictor
    classes: Classes
    reading: Reading
    layout: Layout
    multilabel: bool
    finds: kinds.Finds
    most: int
    whole: bool = False

    def image_of(self, file: pathlib.Path, spacing: Sequence[float]) -> Any:
        """Return the image in a file [*space c] as the model's data set reads images.

        Args:
            file: Its name ends as its format asks for.
            spacing: The size of its pixels; empty: what the file says.

        Raises:
            DataError: It cannot be read, or is none that the network can see.
        """
        array = file.name.lower().endswith(arrays.ENDINGS)
        read = opening.open_image if array else opening.open_to_predict
        opened = read(file, self.reading)
        image, place = np.asarray(opened.array), opened.geometry
        spacing = spacing or (place.spacing if place else ())
        self.layout.scale(image.shape[:-1], name="the image", spacing=spacing)
        return resample.spaced(image, spacing)

    def sides(self, file: pathlib.Path) -> tuple[int, ...]:
        """Return the sides of the image in a file, its pixels unread; errors as `image_of`."""
        return opening.header_to_predict(file, self.reading)[0]

    def windows(self, image: Any) -> int:
        """Return as how many windows the network sees an image."""
        if self.whole:
            return 1
        spacing = resample.spacing_of(image) if self.layout.spacing else ()
        return len(Plan(image.shape[:-1], self.layout, spacing=spacing).pieces)

    def predict(self, images: Sequence[Any], probabilities: Sequence[int] = ()) -> list[Any]:
        """Return what is predicted of several images, see `several.several`."""
        return several.several(self.predictor, images, probabilities=probabilities, most=self.most)

    def describe(self) -> dict[str, Any]:
        """Return what a client must know."""
        names, palette = self.classes.class_names, self.classes.palette
        return {
            "name": self.name,
            "step": self.step,
            "finds": self.finds or ("classes that overlap" if self.multilabel else "classes"),
            "classes": [
                {"number": number, "name": name, "colour": list(colour)}
                for number, (name, colour) in enumerate(zip(names, palette, strict=True))
            ],
            "axes": self.reading.dims,
            "channels": self.classes.channels,
            "dtype": self.reading.dtype,
            "canvas": list(self.layout.canvas.size),
            "spacing": list(self.layout.spacing),
            "endings": list(endings(self.reading.dims)),
        }

    def warm(self, stop: Callable[[], bool] = lambda: False) -> int:
        """Predict something in every shape that a request can need; return how many were.

        After it nothing is compiled.

        Args:
            stop: Asked before each whether it is to end.
        """
        count = 0
        for rows in several.shapes(rows=1, most=self.most):
            for sides in () if self.whole else shapes(self.layout):
                image = resample.spaced(
                    np.zeros((*sides, self.classes.channels), self.reading.dtype or "uint8"),
                    self.layout.spacing,
                )
                windows = self.windows(image)
                if not stop() and (windows <= rows or rows * 2 > self.most):
                    images = [image] * max(1, rows // windows)
                    self.predict(images, range(len(images)) if not self.finds else ())
                    count += 1
        return count


def shapes(layout: Layout) -> list[tuple[int, ...]]:
    """Return sides of images that together need every program there is, see `network.Forward`.

    One window; several; so many that a tile is made of several groups of them.
    """
    window = layout.canvas.size
    found = [window]
    if layout.canvas.fit != "resize" or layout.short_side:
        strides = list(map(layout.stride, window))
        found.append((window[0] + strides[0], *window[1:]))
        meeting = -(-window[0] // strides[0])
        if meeting > 2 and layout.blend != "nearest":
            found.append(
                tuple(
                    side + 2 * (meeting - 1) * stride
                    for side, stride in zip(window, strides, strict=True)
                )
            )
    return found


def endings(dims: int) -> tuple[str, ...]:
    """Return how the names of files end that can be sent: no folders."""
    found = opening.endings("images", dims)
    return tuple(ending for ending in found if ending not in arrays.FOLDERS)


def of_run(run: Run, *, name: str, most: int) -> Served:
    """Return a run, an ensemble or an exported file as it is served.

    Args:
        run: Opened.
        name: For requests.
        most: Windows that go through the network at once.

    Raises:
        UserError: Its checkpoint cannot be read.
    """
    parts: Any = run.parts
    reading, _ = as_trained.reading_of(run)
    if not run.config["input"]["intensity"]:
        reading = dataclasses.replace(reading, dtype=program.dtype_of(run))
    return Served(
        name, run.step, run.predictor(), parts.classes, reading, parts.layout, parts.multilabel,
        kinds.finds_of(parts.task), most, baselines.is_method(run.config["model"]),
    )  # fmt: skip


def check_spacing(text: str, layout: Layout) -> tuple[float, ...]:
    """Return a list of numbers with commas between as the size of a pixel along each axis.

    Raises:
        ValueError: They are none, or the model has no use for them.
    """
    found = tuple(float(word) for word in text.split(",")) if text else ()
    if not found:
        return ()
    dims = len(layout.canvas.size)
    if not layout.spacing or len(found) != dims or not all(0 < step < np.inf for step in found):
        raise ValueError(
            f"spacing={text[:80]}: expected {dims} numbers above 0 with commas between"
            if layout.spacing
            else "spacing: the model was trained at no spacing. Leave it out"
        )
    return found
