"""Predict the images of a folder: label maps, overlays and class areas at each image's own size."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from segjax.data import core, decode
from segjax.data.decode import Reading
from segjax.errors import DataError, UserError
from segjax.inference import paths
from segjax.inference.layout import Layout
from segjax.inference.predictor import Predictor
from segjax.runtime import files as files_lib
from segjax.runtime import memory
from segjax.runtime import reading as reading_lib
from segjax.structs import Classes
from segjax.views import colour, examples, progress

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
) -> Counts:
    """Segment files and write what was found into `output`, made if it is not there.

    Of an image: `<name>_label.png` (palette PNG of class ids at the image's own size),
    `<name>_overlay.png` and `<name>.json` (pixels and share of each class). Of a volume or a signal
    `<name>_label.npy` instead of the palette PNG, and the overlay of its slices. A file that cannot
    be read is reported and skipped. For the names see `paths.output_names`.

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

    Raises:
        UserError: `output` cannot be written, or holds files of the same names that are no earlier
            prediction of the same image by the same run, and nothing was written; or the disk ran
            full, and the message says what was written.
    """
    names = paths.output_names(inputs.files)
    facts = {"run": str(run.resolve())} if run else {}
    paths.check_free(output, names, run=facts.get("run", ""))
    paths.make_folder(output)
    skipped = written = 0
    scales: dict[str, float] = {}
    with progress.Progress(len(names), unit="images", title="predict") as bar:
        bar.message(inputs.describe())
        for number, (file, name) in enumerate(names.items(), start=1):
            try:
                image = read(file, reading=reading, dims=len(layout.canvas.size))
                scales[name] = layout.scale(image.shape[:-1], name=str(file))
                label = predictor(image).classes
            except DataError as error:
                skipped += 1
                bar.message(f"skipped: {error}")
                bar.update(number)
                continue
            areas = class_areas(label, classes.class_names)
            about = {"file": str(file), "size": list(label.shape), "step": step, "classes": areas}
            about |= {"scale": scales[name]}
            try:
                # It says whose the rest is.
                files_lib.write_json(output / f"{name}.json", about | facts)
                write(output / name, image, label, classes)
            except UserError as error:
                done = number - 1 - skipped
                raise UserError(
                    f"{error} Written before, to {output}: the {written} files of {done} of "
                    f"{len(names)} images."
                ) from error
            written += paths.FILES_EACH
            del image, label  # before the next is read
            bar.update(number)
        done = len(names) - skipped
        bar.message(
            f"{done} of {len(names)} images predicted, {skipped} skipped; {written} files written "
            f"to {output}"
        )
        for line in describe_scales(scales, scales_seen):
            bar.message(line)
    found = len(names) + len(inputs.left_out)
    return Counts(found, len(names), done, skipped, written)


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
    if file.suffix.lower() not in paths.ARRAY_ENDINGS:
        return decode.read_image(file, name=str(file), **dataclasses.asdict(reading))
    try:
        image = read_array(file)
    except DataError:
        raise
    except Exception as error:  # a header is an expression of Python, and fails as one
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{file}: cannot be read: {reason}. Replace or remove the file.") from None
    channels = reading.channels
    if image.ndim == dims and channels == 1:
        image = image[..., None]
    if image.ndim != dims + 1 or image.shape[-1] != channels:
        raise DataError(
            f"{file}: an array of shape {image.shape}; expected {dims} spatial axes and then "
            f"{channels} channels, as the run was trained on. Rearrange its axes."
        )
    return image


def read_array(file: pathlib.Path) -> np.ndarray:
    """Return the array in a `.npy` file, whose size is that which its header says.

    Raises:
        ValueError: It is none, or not of real numbers.
        DataError: The file cannot be read.
    """
    with reading_lib.open_file(file) as stream:
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
            raise ValueError(
                f"an array of shape {shape} and type {dtype} in {size - start:,} bytes"
            )
        flat = np.fromfile(stream, dtype).astype(dtype.newbyteorder("="), copy=False)
    return flat.reshape(shape, order="F" if by_column else "C")


def write(
    path: pathlib.Path, image: np.ndarray, label: UInt8[np.ndarray, "*space"], classes: Classes
) -> None:
    """Write a label map and its overlay on the image beside each other.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    if label.ndim == 2:
        colour.save_palette_png(path.with_name(f"{path.name}_label.png"), label, classes.palette)
    else:
        with files_lib.replacing(path.with_name(f"{path.name}_label.npy")) as temporary:
            with open(temporary, "wb") as file:
                np.save(file, label)
    examples.overlay(
        path.with_name(f"{path.name}_overlay.png"),
        image,
        label,
        palette=classes.palette,
        class_names=classes.class_names,
    )


def class_areas(
    label: UInt8[np.ndarray, "*space"], class_names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return pixels (voxels, samples) and share of the image of each class."""
    pixels = memory.counts(label)
    return {
        name: {"pixels": int(pixels[k]), "share": float(pixels[k] / label.size)}
        for k, name in enumerate(class_names)
    }
