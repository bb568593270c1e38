"""Predict the images of a folder: label maps, overlays and class areas at each image's own size."""

import glob
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from segjax.data import decode
from segjax.errors import DataError, UserError
from segjax.inference.predictor import Predictor
from segjax.runtime import files as files_lib
from segjax.structs import Classes
from segjax.views import colour, examples, progress

ARRAY_ENDINGS = (".npy",)
"""Volumes, signals and images as arrays [*space c]; without the last axis for one channel."""


class Counts(NamedTuple):
    """How many files were found, predicted and skipped."""

    found: int
    predicted: int
    skipped: int


def predict(
    files: Sequence[pathlib.Path],
    output: pathlib.Path,
    *,
    predictor: Predictor,
    classes: Classes,
    step: int,
    dims: int,
) -> Counts:
    """Segment files and write what was found into `output`, made if it is not there.

    Of an image: `<name>_label.png` (palette PNG of class ids at the image's own size),
    `<name>_overlay.png` and `<name>.json` (pixels and share of each class). Of a volume or a signal
    `<name>_label.npy` instead of the palette PNG, and the overlay of its slices. A file that cannot
    be read is reported and skipped.

    Args:
        files: See `list_images`.
        output: The folder.
        predictor: Predicts one image.
        classes: What it predicts.
        step: Of its training, for the JSON.
        dims: Spatial axes of what it takes.
    """
    output.mkdir(parents=True, exist_ok=True)
    skipped = 0
    with progress.Progress(len(files), unit="images", title="predict") as bar:
        for number, (file, name) in enumerate(output_names(files).items(), start=1):
            try:
                image = read(file, channels=classes.channels, dims=dims)
                label = predictor(image).classes
            except DataError as error:
                skipped += 1
                bar.message(f"skipped: {error}")
                bar.update(number)
                continue
            write(output / name, image, label, classes)
            areas = class_areas(label, classes.class_names)
            facts = {"file": str(file), "size": list(label.shape), "step": step, "classes": areas}
            files_lib.write_json(output / f"{name}.json", facts)
            bar.update(number)
        done = len(files) - skipped
        bar.message(f"{done} of {len(files)} images predicted, {skipped} skipped")
    return Counts(len(files), done, skipped)


def read(file: pathlib.Path, *, channels: int, dims: int) -> np.ndarray:
    """Return a file's image [*space c].

    Raises:
        DataError: It cannot be read, or has other axes or channels.
    """
    if file.suffix.lower() not in ARRAY_ENDINGS:
        return decode.read_image(file, name=str(file), channels=channels)
    try:
        image = np.load(file, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{file}: cannot be read: {error}. Replace or remove the file.") from None
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


def list_images(inputs: str) -> list[pathlib.Path]:
    """Return the files that a file name, a folder (searched recursively) or a glob stands for.

    Raises:
        UserError: There are none.
    """
    path = pathlib.Path(inputs).expanduser()
    endings = (*decode.IMAGE_ENDINGS, *ARRAY_ENDINGS)
    if path.is_dir():
        found = [p for p in path.rglob("*") if p.suffix.lower() in endings]
    else:
        found = [pathlib.Path(p) for p in glob.glob(str(path), recursive=True)]
    files = sorted(p for p in found if p.is_file())
    if not files:
        raise UserError(
            f"--input={inputs}: no images. Expected a file, a folder or a glob of "
            f"{', '.join(endings)}."
        )
    return files


def output_names(files: Sequence[pathlib.Path]) -> dict[pathlib.Path, str]:
    """Return a name for each file's outputs: its stem, or more where stems are equal."""
    stems = [file.stem for file in files]
    return {
        file: file.stem
        if stems.count(file.stem) == 1
        else "_".join(file.parts[-2:]).replace(".", "_")
        for file in files
    }


def class_areas(
    label: UInt8[np.ndarray, "*space"], class_names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return pixels (voxels, samples) and share of the image of each class."""
    pixels = np.bincount(label.ravel(), minlength=len(class_names))
    return {
        name: {"pixels": int(pixels[k]), "share": float(pixels[k] / label.size)}
        for k, name in enumerate(class_names)
    }
