"""Outputs with a value for every pixel: classes, colours, probabilities, how sure they are."""

import pathlib
import re
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Num, UInt8
from PIL import Image

from segjax.data import decode, geo, spans
from segjax.data.readers import dicom, dicom_seg, nifti, stacks
from segjax.inference import streams
from segjax.inference.outputs import overlay
from segjax.inference.outputs.found import Found
from segjax.runtime import files, memory
from segjax.views import colour

ZARR = ".zarr"
SPANS = ".csv"
FORMS = (
    ("nifti", ".nii.gz"), ("dicom", ".dcm"), ("tiff", ".tif"), ("zarr", ZARR),
    ("wav", SPANS), ("text", SPANS),
)  # fmt: skip
"""In which file the classes of an image go whose own file is of such a format."""
LARGEST = 65535
"""What a probability, a confidence or an entropy of 1 is in a 16-bit PNG."""


def write_label(path: pathlib.Path, found: Found) -> None:
    """Write the class numbers in the format of the image's file, on its grid, see `FORMS`.

    Without such a format it is a palette PNG of a picture, else a NumPy file.

    Raises:
        UserError: The disk is full or cannot be written, or a library is not installed.
        DataError: The image's file lacks what its format must say of a class map.
    """
    label, classes, place = found.label, found.classes, found.geometry
    everywhere = tuple(slice(0, side) for side in found.whole)
    name = path.name.lower()
    if name.endswith(".png"):
        colour.save_palette_png(path, label, classes.palette)
    elif place is None or name.endswith(".npy"):
        save_array(path, label)
    elif name.endswith(SPANS):
        step = place.spacing[0] if place.spacing else 1.0
        spans.write(path, spans.find(label, classes.class_names, step=step))
    elif name.endswith(nifti.ENDINGS):
        nifti.write(path, label, place)
    elif name.endswith(dicom.ENDINGS):
        with decode.explained(str(found.file)):
            dicom_seg.write(path, label, place, classes.class_names)
    elif name.endswith(ZARR):
        with files.replacing_folder(path) as folder:
            streams.write_zarr(
                folder, [(everywhere, label)], label.shape, np.uint8,
                dims=len(found.whole), attributes={"class_names": list(classes.class_names)},
                shown=path,
            )  # fmt: skip
    elif len(found.whole) == 3:
        stacks.write(path, label, place)
    else:
        whole = [(everywhere, label)]
        streams.write_tiff(
            path, whole, found.whole, palette=classes.palette, tags=geo.tags_of(place)
        )


def write_masks(path: pathlib.Path, found: Found) -> None:
    """Write a multi-label map: of a picture a folder with a PNG for each class, else a NumPy file.

    A pixel is 1 where it is of the class, in its colour, and 0 elsewhere.
    """
    if path.suffix == ".npy":
        save_array(path, found.label)
        return
    with files.replacing_folder(path) as folder:
        for k, name in enumerate(picture_names(found.classes.class_names)):
            colours = [colour.BLACK, found.classes.palette[k]]
            colour.save_palette_png(folder / name, found.label[..., k], colours)


def write_overlay(path: pathlib.Path, found: Found) -> None:
    """Write the image in the colours of its classes, see `overlay.draw`."""
    overlay.draw(path, found.image, found.label, found.classes)


def write_alpha(path: pathlib.Path, found: Found) -> None:
    """Write a picture's foreground, see `cut_out`."""
    colour.save_png(path, Image.fromarray(cut_out(found)))


def cut_out(found: Found) -> UInt8[np.ndarray, "h w 4"]:
    """Return a picture with opacity: 255 in the foreground; elsewhere 0, and black.

    What is cut away is not in the file: no program can bring it back.
    """
    inside = found.in_foreground[..., None]
    shown = colour.displayable(found.image)
    return np.concatenate([shown * inside, np.uint8(255) * inside], axis=-1, dtype=np.uint8)


def write_confidence(path: pathlib.Path, found: Found) -> None:
    """Write the largest probability of every pixel, from 1 / k to 1."""
    _write_shares(path, by_rows(found.probabilities, lambda part: part.max(axis=-1)))


def write_entropy(path: pathlib.Path, found: Found) -> None:
    """Write the entropy of every pixel's probabilities over log k: 0 sure, 1 all alike."""
    _write_shares(path, by_rows(found.probabilities, entropy))


def write_array(path: pathlib.Path, found: Found) -> None:
    """Write the probabilities as a NumPy file, float32 [*space k]."""
    save_array(path, found.probabilities)


def write_pictures(path: pathlib.Path, found: Found) -> None:
    """Write a folder with a 16-bit PNG for each class: the probability times 65535, rounded."""
    with files.replacing_folder(path) as folder:
        for k, name in enumerate(picture_names(found.classes.class_names)):
            save_shares(folder / name, found.probabilities[..., k])


def picture_names(class_names: Sequence[str]) -> list[str]:
    """Return the name of each class's PNG: its number, then its name in plain letters."""
    plain = [re.sub(r"[^A-Za-z0-9.-]+", "_", name)[:60] for name in class_names]
    return [f"{k:03d}_{name}.png" for k, name in enumerate(plain)]


def write_zarr(path: pathlib.Path, found: Found) -> None:
    """Write the probabilities as a Zarr array (version 3) in chunks, float32 [*space k].

    Its attributes name the classes.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    probabilities = found.probabilities
    whole = tuple(slice(0, side) for side in found.whole)
    about = {"class_names": list(found.classes.class_names)}
    with files.replacing_folder(path) as folder:
        streams.write_zarr(
            folder, [(whole, probabilities)], probabilities.shape, np.float32,
            dims=len(found.whole), attributes=about, shown=path,
        )  # fmt: skip


def entropy(probabilities: Float[np.ndarray, "*rest k"]) -> Float[np.ndarray, "*rest"]:
    """Return the entropy of distributions as a share of the largest that k classes can have."""
    logs = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    most = np.log(max(2, probabilities.shape[-1]))
    return np.clip(-(probabilities * logs).sum(axis=-1) / most, 0, 1)


def by_rows(
    probabilities: Float[np.ndarray, "*space k"], function: Callable[[np.ndarray], np.ndarray]
) -> Float[np.ndarray, "*space"]:
    """Return what a function makes of every pixel's probabilities, a few rows at a time."""
    values = np.empty(probabilities.shape[:-1], np.float32)
    for rows in memory.rows(probabilities.shape):
        values[rows] = function(probabilities[rows])
    return values


def _write_shares(path: pathlib.Path, values: Float[np.ndarray, "*space"]) -> None:
    if path.suffix == ".png":
        save_shares(path, values)
    else:
        save_array(path, values)


def save_shares(path: pathlib.Path, values: Float[np.ndarray, "h w"]) -> None:
    """Save numbers from 0 to 1 as a 16-bit grey PNG: times 65535, rounded."""
    shares = np.empty(values.shape, np.uint16)
    for rows in memory.rows(values.shape):
        shares[rows] = np.rint(np.clip(values[rows].astype(np.float64), 0, 1) * LARGEST)
    colour.save_png(path, Image.fromarray(shares))


def save_array(path: pathlib.Path, values: Num[np.ndarray, "..."]) -> None:
    """Save an array as a NumPy file.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, values)
