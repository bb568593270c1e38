"""Predict the images of a folder, and write what was asked for at each image's own size."""

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from segjax.data import core, opening, resample
from segjax.data.decode import Reading
from segjax.data.geometry import Geometry
from segjax.errors import DataError, UserError
from segjax.inference import paths
from segjax.inference.layout import Layout
from segjax.inference.outputs import kinds, large, objects
from segjax.inference.outputs.found import Found
from segjax.inference.outputs.large import Large
from segjax.inference.predictor import Detection, ObjectPredictor, Prediction, Predictor
from segjax.runtime import files as files_lib
from segjax.structs import Classes
from segjax.views import progress

FAR = 1.5
"""Images scaled by so much less or more than those of the training are named."""


class Counts(NamedTuple):
    """What became of the files.

    Attributes:
        found: Images that the input stands for.
        used: Those of them that were to be predicted: no output of an earlier prediction.
        predicted: Those that were.
        skipped: Those that could not be read.
        written: Files that were written.
    """

    found: int
    used: int
    predicted: int
    skipped: int
    written: int

    def describe(self) -> str:
        """Return them in one line."""
        return (
            f"{self.predicted} of {self.used} images predicted, {self.skipped} skipped; "
            f"{self.written} files written"
        )


def predict(
    inputs: paths.Inputs,
    output: pathlib.Path,
    *,
    predictor: Predictor | ObjectPredictor,
    classes: Classes,
    reading: Reading,
    step: int,
    layout: Layout,
    run: pathlib.Path | None = None,
    scales_seen: Sequence[float] = (),
    outputs: Sequence[str] = kinds.DEFAULT,
    without: Collection[int] = (),
    multilabel: bool = False,
    finds: kinds.Finds = "",
    least_score: float = 0.5,
    spacing: Sequence[float] = (),
    foreground: Collection[int] = (),
) -> Counts:
    """Segment files and write what was found into `output`, made if it is not there.

    Of each image `<name>.json` (pixels and share of each class, and the outputs beside it) and what
    `outputs` asks for, see `kinds`; over all images what it asks for, at the end. A file that
    cannot be read is reported and skipped, and is in none. For the names see `paths.output_names`.

    Args:
        inputs: See `paths.list_inputs`.
        output: The folder.
        predictor: Predicts one image, or finds its objects.
        classes: What it predicts.
        reading: How the data set of its training reads images.
        step: Of its training, for the JSON.
        layout: How an image becomes what the network sees.
        run: The folder of the training, for the JSON.
        scales_seen: See `describe_scales`; what is far outside is said.
        outputs: Keys of `kinds.EACH` and `kinds.SHARED`.
        without: Classes that contours leave out.
        multilabel: Whether a pixel may be of several classes, or of none.
        finds: What the predictor finds; beside nothing it is an `ObjectPredictor`.
        least_score: From which score on objects are painted; tables hold all.
        spacing: The size of a pixel of all of them; empty: what each file says.
        foreground: Classes that are cut out.

    Raises:
        UserError: An output that there is not; `output` cannot be written, or holds files of others
            (see `paths.check_free`), and nothing was written; or the disk ran full, and the message
            says what was written.
    """
    reading = dataclasses.replace(reading, dims=len(layout.canvas.size))
    chosen = kinds.choose(outputs, dims=reading.dims, multilabel=multilabel, finds=finds)
    names, writer = open_writer(inputs, output, chosen, step=step, run=run)
    below = dict(zip(inputs.files, paths.below_common(inputs.files), strict=True))
    scales: dict[str, float] = {}
    with progress.Progress(len(names), unit="images", title="predict") as bar:
        bar.message(inputs.describe())
        for number, (file, name) in enumerate(names.items(), start=1):
            try:
                image, place, scale = open_scaled(file, layout, reading, spacing)
                if large.is_large(image.shape[:-1]):
                    dense = large.check_dense(predictor, image.shape[:-1], name=str(file))
                    one = large.Large(file, image, dense, classes, multilabel, geometry=place)
                    writer.write_large(name, one, scale=scale, tell=bar.message)
                else:
                    one = Found(
                        file, below[file].as_posix(), classes=classes, geometry=place,
                        segments_file=name + kinds.SEGMENTS,
                        without=frozenset(without), foreground=frozenset(foreground),
                        **answer(predictor, image, classes, least_score=least_score),
                    )  # fmt: skip
                    writer.write(name, one, scale=scale)
                scales[name] = scale
                del image, one  # before the next is read
            except DataError as error:
                bar.message(f"skipped: {error}")
            bar.update(number)
        writer.finish()
        skipped = len(names) - writer.done
        counts = Counts(inputs.found, len(names), writer.done, skipped, writer.written)
        for line in (f"{counts.describe()} to {output}", *describe_scales(scales, scales_seen)):
            bar.message(line)
    return counts


def open_writer(
    inputs: paths.Inputs,
    output: pathlib.Path,
    chosen: kinds.Chosen,
    *,
    step: int,
    run: pathlib.Path | None,
) -> tuple[dict[pathlib.Path, str], "Writer"]:
    """Return the name of each image's outputs, and what writes them into a folder that is free.

    Raises:
        UserError: The folder cannot be written, or holds files of others.
    """
    names, shared = paths.output_names(inputs.files), chosen.shared_names()
    facts = {"run": str(run.resolve())} if run else {}
    paths.check_free(output, names, run=facts.get("run", ""), shared=shared)
    paths.make_folder(output)
    if shared:
        paths.write_record(output, shared, {"step": step, **facts}, inputs.files)
    return names, Writer(output, chosen, {"step": step, **facts}, len(names))


def answer(
    predictor: Predictor | ObjectPredictor, image: Any, classes: Classes, *, least_score: float
) -> dict[str, Any]:
    """Return what a `Found` holds of an image and what is predicted of it, classes or objects."""
    seen = np.asarray(image)
    found = predictor(resample.spaced(seen, resample.spacing_of(image)))
    return answered(seen, found, classes, least_score=least_score)


def answered(
    seen: np.ndarray, found: Prediction | Detection, classes: Classes, *, least_score: float
) -> dict[str, Any]:
    """Return what a `Found` holds of an image and of what was predicted of it."""
    if isinstance(found, Prediction):
        return {"image": seen, "prediction": found}
    prediction = objects.prediction_of(found, classes, least_score=least_score)
    own = {"objects": found.objects, "segments": found.segments, "least_score": least_score}
    return {"image": seen, "prediction": prediction, **own}


def open_scaled(
    file: pathlib.Path, layout: Layout, reading: Reading, spacing: Sequence[float]
) -> tuple[Any, Geometry | None, float]:
    """Return an image, its place, and the factor by which it is scaled for the network.

    The image knows the size of its pixels: `spacing`, else what its file says.

    Raises:
        DataError: It cannot be read, or is none that the network can see.
    """
    image, place, _ = opening.open_to_predict(file, reading)
    spacing = spacing or (place.spacing if place else ())
    scale = layout.scale(image.shape[:-1], name=str(file), spacing=spacing)
    return resample.spaced(image, spacing), place, scale


class Writer:
    """Writes the outputs of one image after the other, and at the end those over all.

    Args:
        output: The folder.
        chosen: What to write.
        facts: Of the run, for each image's JSON.
        of: How many images there are, for messages.

    Attributes:
        written: Files so far.
        done: Images so far.
    """

    def __init__(
        self, output: pathlib.Path, chosen: kinds.Chosen, facts: Mapping[str, Any], of: int
    ):
        self.output, self.chosen, self.facts, self.of = output, chosen, facts, of
        self.collectors = [shared.make() for shared in chosen.shared]
        self.written = self.done = 0

    def write(self, name: str, found: Found, *, scale: float) -> None:
        """Write what is chosen of one image; its JSON first, which says whose the rest is.

        Raises:
            UserError: The disk is full or cannot be written; says what was written before.
        DataError: The image's file lacks what the format of its outputs must say.
        """
        whole = found.whole
        with self._saying_how_far():
            names = self._say_whose(name, found, whole, scale)
            try:
                for kind in self.chosen.each:
                    kind.write(self.output / (name + kind.ending(whole, found.form)), found)
            except DataError:
                (self.output / (name + kinds.FACTS)).unlink()  # nothing is said of what is skipped
                raise
        for collector in self.collectors:
            collector.add(found)
        self.written += len(names)
        self.done += 1

    def write_large(
        self, name: str, found: Large, *, scale: float, tell: Callable[[str], None]
    ) -> None:
        """Predict an image too large to be held while it is written; no array grows with it.

        What is not written of it is told.

        Raises:
            UserError: As `write`.
            DataError: A part of the image cannot be read; nothing is left of its label map.
        """
        whole, label = found.whole, self.chosen.label
        seen = following(whole, name)
        with self._saying_how_far(), seen as found.watch, contextlib.ExitStack() as stack:
            path = None
            if label is not None:  # under another name until it is said whose it is
                final = self.output / (name + label.ending(whole))
                path = stack.enter_context(files_lib.replacing(final))
            found.predict(path)
            names = self._say_whose(name, found, whole, scale)
            stack.close()
            for kind in self.chosen.each:
                if kind.write_large is not None:
                    kind.write_large(self.output / (name + kind.ending(whole)), found)
        for shared, collector in zip(self.chosen.shared, self.collectors, strict=True):
            if shared.takes_large:
                collector.add(found)
        if left_out := ", ".join(self.chosen.left_out()):
            tell(f"{found.file}: too large for {left_out}, not written of it")
        self.written += len(names)
        self.done += 1

    def _say_whose(
        self, name: str, found: Found | Large, whole: Sequence[int], scale: float
    ) -> list[str]:
        """Write the JSON of an image, and return the names of all that is written of it."""
        names = self.chosen.names(
            name, whole=whole, class_names=found.classes.class_names, form=found.form
        )
        about = {"file": str(found.file), "size": list(whole), "classes": found.areas}
        if isinstance(found, Found) and found.objects is not None:
            about["objects"] = objects.counted(found)
        about |= {"scale": scale, "outputs": names[1:], **self.facts}
        files_lib.write_json(self.output / (name + kinds.FACTS), about)
        return names

    def finish(self) -> None:
        """Write what is over all images.

        Raises:
            UserError: As `write`.
        """
        with self._saying_how_far():
            for shared, collector in zip(self.chosen.shared, self.collectors, strict=True):
                collector.write(self.output / shared.name)
                self.written += 1
        self.written += bool(self.chosen.shared)  # the record

    @contextlib.contextmanager
    def _saying_how_far(self) -> Generator[None]:
        try:
            yield
        except DataError:
            raise  # of the image, which is skipped
        except UserError as error:
            raise UserError(
                f"{error} Written before, to {self.output}: the {self.written} files of "
                f"{self.done} of {self.of} images."
            ) from error


@contextlib.contextmanager
def following(whole: Sequence[int], title: str) -> Generator[Callable[[int], None]]:
    """Show how far the prediction of a large image is; yields what is told of pixels."""
    million = 1_000_000
    total = max(1, math.prod(whole) // million)
    with progress.Progress(total, unit="megapixels", title=title, leave=False) as bar:
        yield lambda done: bar.update(min(total, done // million))


def describe_scales(scales: Mapping[str, float], seen: Sequence[float]) -> list[str]:
    """Return what to say of the factors by which images were scaled for the network.

    Args:
        scales: Of each image by its name.
        seen: The least and the largest of training images; empty: not known.
    """
    if set(scales.values()) <= {1.0}:
        return []
    low, high = min(scales.values()), max(scales.values())
    lines = [f"images were scaled by {low:.3g} to {high:.3g} for the network"]
    if not seen:
        return lines
    outside = {
        "less": [name for name, scale in scales.items() if scale < seen[0] / FAR],
        "more": [name for name, scale in scales.items() if scale > seen[1] * FAR],
    }
    lines += [
        f"warning: {len(names)} of them by far {what} than those of the training ({seen[0]:.3g} to "
        f"{seen[1]:.3g}): {core.some(names)}. Things have another size there than the network "
        "knows: cut or scale these images, or train on a canvas that fits them"
        for what, names in outside.items()
        if names
    ]
    return lines
