"""Predict: label maps, overlays and class areas for image files of any size."""

import functools
import glob
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from PIL import Image

from segjax.assemble import parts as assemble
from segjax.data import decode, fit
from segjax.errors import DataError, UserError
from segjax.runs import evaluate
from segjax.runtime import files as files_lib
from segjax.runtime import sharding, xla
from segjax.structs import IGNORE_LABEL
from segjax.views import colour, progress

Logits = Callable[[list[np.ndarray]], Iterator[np.ndarray]]


def run(
    path: pathlib.Path,
    *,
    inputs: str,
    output: pathlib.Path,
    which: str = "",
    overrides: Iterable[str] = (),
) -> int:
    """Segment every image that `inputs` names with a checkpoint of the run in `path`.

    Writes `<name>_label.png` (palette PNG of class ids at the image's own size),
    `<name>_overlay.png` and `<name>.json` (pixels and share of each class) into `output`.

    Args:
        path: The run's folder; nothing else is needed of the training.
        inputs: A file, a folder (searched recursively) or a glob.
        output: The folder to write to, made if it is not there.
        which: 'best', 'latest' or a step; empty as in evaluation.
        overrides: Assignments such as `mesh.data=1`.

    Returns:
        0, or 2 when a file could not be read: it is reported and skipped.
    """
    files = list_images(inputs)
    _, parts, variables, step = evaluate.load(path, which=which, overrides=overrides)
    logits = make_logits(parts, variables)
    output.mkdir(parents=True, exist_ok=True)
    classes, skipped = parts.classes, 0
    with progress.Progress(len(files), unit="images", title="predict") as bar:
        for number, (file, name) in enumerate(output_names(files).items(), start=1):
            try:
                image = decode.read_image(file, name=str(file), channels=classes["channels"])
                label = label_map(image, logits, parts.canvas)
            except DataError as error:
                skipped += 1
                bar.message(f"skipped: {error}")
                bar.update(number)
                continue
            colour.save_palette_png(output / f"{name}_label.png", label, classes["palette"])
            tinted = colour.overlay(image, label, classes["palette"])
            colour.save_png(output / f"{name}_overlay.png", Image.fromarray(tinted))
            areas = class_areas(label, classes["class_names"])
            facts = {"file": str(file), "size": list(label.shape), "step": step, "classes": areas}
            files_lib.write_json(output / f"{name}.json", facts)
            bar.update(number)
        bar.message(f"{len(files) - skipped} of {len(files)} images predicted, {skipped} skipped")
    return 2 if skipped else 0


def list_images(inputs: str) -> list[pathlib.Path]:
    """Return the image files that a file name, folder or glob stands for, sorted.

    Raises:
        UserError: There are none.
    """
    path = pathlib.Path(inputs).expanduser()
    if path.is_dir():
        found = [p for p in path.rglob("*") if p.suffix.lower() in decode.IMAGE_ENDINGS]
    else:
        found = [pathlib.Path(p) for p in glob.glob(str(path), recursive=True)]
    files = sorted(p for p in found if p.is_file())
    if not files:
        raise UserError(
            f"--input={inputs}: no images. Expected a file, a folder or a glob of "
            f"{', '.join(decode.IMAGE_ENDINGS)}."
        )
    return files


def output_names(files: list[pathlib.Path]) -> dict[pathlib.Path, str]:
    """Return a name for each file's outputs: its stem, or more where stems are equal."""
    stems = [file.stem for file in files]
    return {
        file: file.stem
        if stems.count(file.stem) == 1
        else "_".join(file.parts[-2:]).replace(".", "_")
        for file in files
    }


def make_logits(parts: assemble.Parts, variables: dict) -> Logits:
    """Return a function from uint8 canvases `[h w c]` to their logits, compiled once."""
    batch = parts.mesh.shape["data"] * parts.mesh.shape["fsdp"]
    image = sharding.batch_sharding(parts.mesh, parts.schema)["image"]

    @functools.partial(jax.jit, compiler_options=xla.xla_options(parts.model.compute_dtype))
    def apply(variables: dict, image: jax.Array) -> jax.Array:
        outputs: Any = parts.model.apply(variables, parts.normalize(image), train=False)
        return outputs.logits.astype("float32")

    def logits(canvases: list[np.ndarray]) -> Iterator[np.ndarray]:
        for start in range(0, len(canvases), batch):
            chunk = canvases[start : start + batch]
            rows = np.stack(chunk + chunk[:1] * (batch - len(chunk)))
            yield from np.asarray(apply(variables, jax.device_put(rows, image)))[: len(chunk)]

    return logits


def label_map(image: np.ndarray, logits: Logits, canvas: assemble.Canvas) -> np.ndarray:
    """Return the classes of an image `[h w c]` at its own size, uint8.

    The image goes through the network as in training: with `fit='resize'` scaled to the canvas, its
    logits scaled back; with `fit='pad'` at its own scale, in overlapping tiles where it is larger.
    """
    height, width = image.shape[:2]
    if canvas.fit == "resize" or (height <= canvas.size[0] and width <= canvas.size[1]):
        fitted, (h, w) = fit.fit_image(
            image, size=canvas.size, fit=canvas.fit, pad_value=canvas.pad_value
        )
        return argmax_at_size(next(logits([fitted]))[:h, :w], (height, width))
    return tiled(image, logits, canvas)


def argmax_at_size(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the largest class after resizing logits `[h w k]` to `size`, one class at a time.

    Bilinear; memory does not grow with the number of classes.
    """
    best = np.full(size, -np.inf, np.float32)
    label = np.zeros(size, np.uint8)
    for k in range(logits.shape[-1]):
        plane = logits[..., k]
        if plane.shape != size:
            plane = Image.fromarray(np.ascontiguousarray(plane))
            plane = np.asarray(plane.resize((size[1], size[0]), Image.Resampling.BILINEAR))
        better = plane > best
        label[better], best[better] = k, plane[better]
    return label


def tiled(image: np.ndarray, logits: Logits, canvas: assemble.Canvas) -> np.ndarray:
    """Segment a large image tile by tile (the overlap-tile strategy of Ronneberger et al. 2015).

    Neighbouring tiles overlap by at least a quarter; each pixel is taken from the tile in whose
    middle it lies, so that it is seen with context on every side.
    """
    label = np.full(image.shape[:2], IGNORE_LABEL, np.uint8)
    for top, rows in spans(image.shape[0], canvas.size[0]):
        tops = spans(image.shape[1], canvas.size[1])
        canvases = []
        for left, _ in tops:
            tile = image[top : top + canvas.size[0], left : left + canvas.size[1]]
            canvases.append(
                fit.fit_image(tile, size=canvas.size, fit="pad", pad_value=canvas.pad_value)[0]
            )
        for (left, columns), scores in zip(tops, logits(canvases), strict=True):
            classes = scores.argmax(-1).astype(np.uint8)
            label[rows, columns] = classes[
                rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
            ]
    return label


def spans(length: int, tile: int) -> list[tuple[int, slice]]:
    """Return `(start, kept)` of the tiles along one axis: where each begins and what it decides."""
    if length <= tile:
        return [(0, slice(0, length))]
    count = -(-(length - tile) // (tile * 3 // 4)) + 1
    starts = [round(i * (length - tile) / (count - 1)) for i in range(count)]
    cuts = [0, *((a + tile + b) // 2 for a, b in zip(starts, starts[1:], strict=False)), length]
    return [(start, slice(cuts[i], cuts[i + 1])) for i, start in enumerate(starts)]


def class_areas(label: np.ndarray, class_names: list[str]) -> dict[str, dict[str, float]]:
    """Return pixels and share of the image of each class."""
    pixels = np.bincount(label.ravel(), minlength=len(class_names))
    return {
        name: {"pixels": int(pixels[k]), "share": float(pixels[k] / label.size)}
        for k, name in enumerate(class_names)
    }
