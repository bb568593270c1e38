"""Predict the images of a folder, and write what was asked for at each image's own size."""

import contextlib
import dataclasses
import math
import os
import pathlib
from collections.abc import Collection, Generator, Mapping, Sequence
from typing import IO, Any, NamedTuple

import numpy as np

from segjax.data import core, decode
from segjax.data.decode import Reading
from segjax.errors import DataError, UserError
from segjax.inference import paths
from segjax.inference.layout import Layout
from segjax.inference.outputs import areas as areas_lib
from segjax.inference.outputs import kinds
from segjax.inference.outputs.found import Found
from segjax.inference.predictor import Predictor
from segjax.runtime import files as files_lib
from segjax.runtime import reading as reading_lib
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


def predict(
    inputs: paths.Inputs,
    output: pathlib.Path,
    *,
    predictor: Predictor,
    classes: Classes,
    reading: Reading,
    step: int,
    layout: Layout,
    run: pathlib.Path | None = None,
    scales_seen: Sequence[float] = (),
    outputs: Sequence[str] = kinds.DEFAULT,
    without: Collection[int] = (),
) -> Counts:
    """Segment files and write what was found into `output`, made if it is not there.

    Of each image `<name>.json` (pixels and share of each class, and the outputs beside it) and what
    `outputs` asks for, see `kinds`; over all images what it asks for, at the end. A file that
    cannot be read is reported and skipped, and is in none. For the names see `paths.output_names`.

    Args:
        inputs: See `paths.list_inputs`.
        output: The folder.
        predictor: Predicts one image.
        classes: What it predicts.
        reading: How the data set of its training reads images.
        step: Of its training, for the JSON.
        layout: How an image becomes what the network sees.
        run: The folder of the training, for the JSON.
        scales_seen: The least and the largest factor that brought training images to the canvas;
            what is far outside is said. Empty: not known.
        outputs: Keys of `kinds.EACH` and `kinds.SHARED`.
        without: Classes that contours leave out.

    Raises:
        UserError: An output that there is not; `output` cannot be written, or holds files of the
            same names that are no earlier prediction of the same image by the same run, and nothing
            was written; or the disk ran full, and the message says what was written.
    """
    dims = len(layout.canvas.size)
    chosen = kinds.choose(outputs, dims=dims)
    names = paths.output_names(inputs.files)
    facts = {"run": str(run.resolve())} if run else {}
    shared = chosen.shared_names()
    paths.check_free(output, names, run=facts.get("run", ""), shared=shared)
    paths.make_folder(output)
    if shared:
        paths.write_record(output, shared, {"step": step, **facts}, inputs.files)
    writer = Writer(output, chosen, {"step": step, **facts})
    below = dict(zip(inputs.files, paths.below_common(inputs.files), strict=True))
    skipped, scales = 0, {}
    with progress.Progress(len(names), unit="images", title="predict") as bar:
        bar.message(inputs.describe())
        for number, (file, name) in enumerate(names.items(), start=1):
            try:
                image = read(file, reading=reading, dims=dims)
                scales[name] = layout.scale(image.shape[:-1], name=str(file))
                prediction = predictor(image)
            except DataError as error:
                skipped += 1
                bar.message(f"skipped: {error}")
            else:
                shown = below[file].as_posix()
                found = Found(file, shown, image, prediction, classes, frozenset(without))
                writer.write(name, found, scale=scales[name], of=len(names))
                del image, prediction, found  # before the next is read
            bar.update(number)
        writer.finish(of=len(names))
        done = len(names) - skipped
        bar.message(
            f"{done} of {len(names)} images predicted, {skipped} skipped; {writer.written} files "
            f"written to {output}"
        )
        for line in describe_scales(scales, scales_seen):
            bar.message(line)
    total = len(names) + len(inputs.left_out)
    return Counts(total, len(names), done, skipped, writer.written)


class Writer:
    """Writes the outputs of one image after the other, and at the end those over all.

    Args:
        output: The folder.
        chosen: What to write.
        facts: Of the run, for each image's JSON.

    Attributes:
        written: Files so far.
        done: Images so far.
    """

    def __init__(self, output: pathlib.Path, chosen: kinds.Chosen, facts: Mapping[str, Any]):
        self.output, self.chosen, self.facts = output, chosen, facts
        self.collectors = [shared.make() for shared in chosen.shared]
        self.written = self.done = 0

    def write(self, name: str, found: Found, *, scale: float, of: int) -> None:
        """Write what is chosen of one image; its JSON first, which says whose the rest is.

        Raises:
            UserError: The disk is full or cannot be written; says what was written before.
        """
        dims, class_names = found.label.ndim, found.classes.class_names
        areas = areas_lib.class_areas(found.label, class_names)
        about = {"file": str(found.file), "size": list(found.label.shape), "classes": areas}
        names = self.chosen.names(name, dims=dims, class_names=class_names)
        about |= {"scale": scale, "outputs": names[1:], **self.facts}
        with self._saying_how_far(of):
            files_lib.write_json(self.output / (name + kinds.FACTS), about)
            for kind in self.chosen.each:
                kind.write(self.output / (name + kind.ending(dims)), found)
        for collector in self.collectors:
            collector.add(found)
        self.written += len(names)
        self.done += 1

    def finish(self, *, of: int) -> None:
        """Write what is over all images.

        Raises:
            UserError: As `write`.
        """
        with self._saying_how_far(of):
            for shared, collector in zip(self.chosen.shared, self.collectors, strict=True):
                collector.write(self.output / shared.name)
                self.written += 1
        self.written += bool(self.chosen.shared)  # the record

    @contextlib.contextmanager
    def _saying_how_far(self, of: int) -> Generator[None]:
        try:
            yield
        except UserError as error:
            raise UserError(
                f"{error} Written before, to {self.output}: the {self.written} files of "
                f"{self.done} of {of} images."
            ) from error


def describe_scales(scales: Mapping[str, float], seen: Sequence[float]) -> list[str]:
    """Return what to say of the factors by which images were scaled for the network.

    Args:
        scales: Of each image by its name.
        seen: The least and the largest in training; empty: not known.
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


def read(file: pathlib.Path, *, reading: Reading, dims: int) -> np.ndarray:
    """Return a file's image [*space c], as the training's data set reads it.

    An array (`.npy`) is taken as it is.

    Raises:
        DataError: It cannot be read, or has other axes or channels.
    """
    if not is_array(file):
        return decode.read_image(file, name=str(file), **dataclasses.asdict(reading))
    with _naming(file):
        image = read_array(file)
    check_shape(image.shape, file=file, channels=reading.channels, dims=dims)
    return image if image.ndim == dims + 1 else image[..., None]


def check_header(file: pathlib.Path, *, reading: Reading, dims: int) -> None:
    """Refuse a file that cannot be predicted, as far as its first bytes show that.

    Raises:
        DataError: As `read`.
    """
    if not is_array(file):
        decode.read_header(file, name=str(file))
        return
    with _naming(file), reading_lib.open_file(file) as stream:
        shape = read_array_header(stream)[0]
    check_shape(shape, file=file, channels=reading.channels, dims=dims)


def is_array(file: pathlib.Path) -> bool:
    """Return whether a file is a NumPy array by its name."""
    return file.suffix.lower() in paths.ARRAY_ENDINGS


@contextlib.contextmanager
def _naming(file: pathlib.Path) -> Generator[None]:
    """Turn whatever a broken file raises into a DataError that names it."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # a header is an expression of Python, and fails as one
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{file}: cannot be read: {reason}. Replace or remove the file.") from None


def check_shape(shape: Sequence[int], *, file: pathlib.Path, channels: int, dims: int) -> None:
    """Refuse an array that has other axes or channels than the training's images.

    Raises:
        DataError: What it has.
    """
    without_channels = len(shape) == dims and channels == 1
    if not without_channels and (len(shape) != dims + 1 or shape[-1] != channels):
        raise DataError(
            f"{file}: an array of shape {tuple(shape)}; expected {dims} spatial axes and then "
            f"{channels} channels, as the run was trained on. Rearrange its axes."
        )


def read_array(file: pathlib.Path) -> np.ndarray:
    """Return the array in a `.npy` file, whose size is that which its header says.

    Raises:
        ValueError: It is none, or not of real numbers.
        DataError: The file cannot be read.
    """
    with reading_lib.open_file(file) as stream:
        shape, by_column, dtype = read_array_header(stream)
        flat = np.fromfile(stream, dtype).astype(dtype.newbyteorder("="), copy=False)
    return flat.reshape(shape, order="F" if by_column else "C")


def read_array_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, whether it is stored by column, and type of the array in a `.npy` file.

    The stream then stands at the array's first byte.

    Raises:
        ValueError: As `read_array`.
    """
    version = np.lib.format.read_magic(stream)
    if version > (2, 0):  # version 3 names fields, which no image has
        raise ValueError(f"version {version} of the format")
    read_header = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, by_column, dtype = read_header(stream)
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ValueError(f"values of the type {dtype}, which are no real numbers")
    size, start = os.fstat(stream.fileno()).st_size, stream.tell()
    if min(shape, default=0) < 1 or math.prod(shape) * dtype.itemsize != size - start:
        raise ValueError(f"an array of shape {shape} and type {dtype} in {size - start:,} bytes")
    return shape, by_column, dtype
