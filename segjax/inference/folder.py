"""Predict the images of a folder: label maps, overlays and class areas at each image's own size."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from segjax.data import decode
from segjax.data.decode import Reading
from segjax.errors import DataError
from segjax.inference import paths
from segjax.inference.predictor import Predictor
from segjax.runtime import files as files_lib
from segjax.structs import Classes
from segjax.views import colour, examples, progress


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
    dims: int,
    run: pathlib.Path | None = None,
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
        dims: Spatial axes of what it takes.
        run: The folder of the training, for the JSON.

    Raises:
        UserError: `output` holds files of the same names that are no earlier prediction of the same
            image by the same run; nothing was written then.
    """
    names = paths.output_names(inputs.files)
    facts = {"run": str(run.resolve())} if run else {}
    paths.check_free(output, names, run=facts.get("run", ""))
    output.mkdir(parents=True, exist_ok=True)
    skipped = written = 0
    with progress.Progress(len(names), unit="images", title="predict") as bar:
        bar.message(inputs.describe())
        for number, (file, name) in enumerate(names.items(), start=1):
            try:
                image = read(file, reading=reading, dims=dims)
                label = predictor(image).classes
            except DataError as error:
                skipped += 1
                bar.message(f"skipped: {error}")
                bar.update(number)
                continue
            areas = class_areas(label, classes.class_names)
            about = {"file": str(file), "size": list(label.shape), "step": step, "classes": areas}
            files_lib.write_json(output / f"{name}.json", about | facts)  # says whose the rest is
            write(output / name, image, label, classes)
            written += paths.FILES_EACH
            bar.update(number)
        done = len(names) - skipped
        bar.message(
            f"{done} of {len(names)} images predicted, {skipped} skipped; {written} files written "
            f"to {output}"
        )
    found = len(names) + len(inputs.left_out)
    return Counts(found, len(names), done, skipped, written)


def read(file: pathlib.Path, *, reading: Reading, dims: int) -> np.ndarray:
    """Return a file's image [*space c], as the training's data set reads it.

    An array (`.npy`) is taken as it is.

    Raises:
        DataError: It cannot be read, or has other axes or channels.
    """
    if file.suffix.lower() not in paths.ARRAY_ENDINGS:
        return decode.read_image(file, name=str(file), **dataclasses.asdict(reading))
    try:
        image = np.load(file, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{file}: cannot be read: {error}. Replace or remove the file.") from None
    channels = reading.channels
    if image.ndim == dims and channels == 1:
        image = image[..., None]
    if image.ndim != dims + 1 or image.shape[-1] != channels:
        raise DataError(
            f"{file}: an array of shape {image.shape}; expected {dims} spatial axes and then "
            f"{channels} channels, as the run was trained on. Rearrange its axes."
        )
    return image


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
    pixels = np.bincount(label.ravel(), minlength=len(class_names))
    return {
        name: {"pixels": int(pixels[k]), "share": float(pixels[k] / label.size)}
        for k, name in enumerate(class_names)
    }
