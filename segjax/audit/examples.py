"""What an audit keeps of each example: a few numbers and a thumbnail, whatever its size."""

import hashlib
import pathlib
from collections.abc import Iterator
from concurrent import futures
from typing import Any, NamedTuple, cast

import numpy as np
from PIL import Image
from scipy import ndimage

from segjax.audit import alignment, duplicates
from segjax.data import core, hashes, lazy, look, opening, reviewed
from segjax.errors import DataError

SIDE = 512
"""Of an image, the longer one, that is looked at for edges; larger ones are thinned."""
READ_AHEAD = 8
"""Examples that each thread may be ahead."""


class Labels(NamedTuple):
    """What a mask holds.

    Attributes:
        pixels: int64 [k], of each class.
        objects: int64 [k], connected regions of each class, on what is looked at.
        void: Pixels that count nowhere.
        aligned: See `alignment.align`; None: nothing can be said, or it has not two axes.
    """

    pixels: np.ndarray
    objects: np.ndarray
    void: int
    aligned: alignment.Alignment | None


class Seen(NamedTuple):
    """What is kept of an example.

    Attributes:
        id: `<split>/<name>`, by which findings call it.
        split: Its split.
        size: Of the image, along each axis.
        dtype: Of the image.
        numbers: What images are told apart by, see `measure`.
        thumbnail: See `duplicates.Thumbnail`; None: the image cannot be read.
        labels: None: the mask cannot be used.
        error: Why the image or the mask cannot be used; empty: they can.
    """

    id: str
    split: str
    size: tuple[int, ...] = ()
    dtype: str = ""
    numbers: dict[str, float] = {}
    thumbnail: duplicates.Thumbnail | None = None
    labels: Labels | None = None
    error: str = ""


def see_all(source: core.Source, split: str, *, threads: int) -> Iterator[Seen]:
    """Yield what is kept of each example of a split, in its order; few are in memory at once."""
    ids = reviewed.ids_of(source, split)
    with futures.ThreadPoolExecutor(max(1, threads)) as pool:
        waiting: list[futures.Future[Seen]] = []
        for number, own in enumerate(ids):
            waiting.append(pool.submit(see, source, number, own, split))
            if len(waiting) > READ_AHEAD * max(1, threads):
                yield waiting.pop(0).result()
        for each in waiting:
            yield each.result()


def see(source: core.Source, number: int, own: str, split: str) -> Seen:
    """Return what is kept of an example; of one whose mask cannot be used, of its image alone."""
    image, label, error = opened(source, number)
    if image is None:
        return Seen(own, split, error=error)
    dims = len(image.shape) - 1
    gray = gray_of(image, dims)
    seen = Seen(
        own, split, tuple(image.shape[:-1]), str(image.dtype), measure(image, gray),
        duplicates.Thumbnail(_digest(image), duplicates.shrink(gray)), error=error,
    )  # fmt: skip
    if label is None:
        return seen
    return seen._replace(labels=_labels(source, label, gray, dims))


def opened(source: core.Source, number: int) -> tuple[Any, Any, str]:
    """Return image and mask of an example, None where one cannot be used, and why."""
    try:
        example: Any = source[number]
    except DataError as problem:
        return _image_alone(source, number), None, str(problem)
    return example["image"], example["label"], ""


def _image_alone(source: core.Source, number: int) -> Any:
    """Return the image of an example whose mask cannot be used; None: neither can it."""
    while isinstance(source, core.Subset):
        source, number = source.source, source.indices[number]
    if not (isinstance(source, hashes.Files) and isinstance(source, core.Reads)):
        return None
    file: pathlib.Path = source.files[number][0]
    try:
        return opening.open_image(file, source.reading).array
    except (DataError, TypeError):
        return None


def gray_of(image: Any, dims: int) -> np.ndarray:
    """Return the mean over channels, float32 [h w], of what is looked at of an image.

    One in memory is averaged where it is longer than `SIDE`, so that copies of other sizes agree.
    """
    step = max(1, -(-max(image.shape[:dims]) // SIDE))
    if dims == 2 and step > 1 and isinstance(image, np.ndarray):
        return np.asarray(Image.fromarray(image.mean(-1, dtype=np.float32)).reduce(step))
    return plane_of(image, dims).astype(np.float32).mean(-1)


def plane_of(array: Any, dims: int) -> np.ndarray:
    """Return what is looked at of an image or a mask with so many axes in space: [h w ...].

    Of a volume it is the slice in the middle of the first axis, of a signal one row; where it is
    longer than `SIDE`, every so manyth pixel along each axis.
    """
    if dims == 3:
        middle = array.shape[0] // 2
        array = np.asarray(array[middle : middle + 1])[0]
    elif dims == 1:
        return np.asarray(array)[None]
    step = max(1, -(-max(array.shape[:2]) // SIDE))
    return lazy.thinned(array, step, dims=2) if step > 1 else np.asarray(array)


def measure(image: Any, gray: np.ndarray) -> dict[str, float]:
    """Return numbers by which images that stand out are found.

    `pixels` is the logarithm of their number, `aspect` that of height over width, `sharpness` that
    of the mean absolute Laplacian over the deviation, which is `contrast`.
    """
    height, width = (1, image.shape[0]) if len(image.shape) == 2 else image.shape[-3:-1]
    spread = float(gray.std())
    detail = float(np.abs(ndimage.laplace(gray)).mean())
    return {
        "pixels": float(np.log(max(1, np.prod(image.shape[:-1])))),
        "aspect": float(np.log(height / max(1, width))),
        "brightness": float(gray.mean()),
        "contrast": spread,
        "sharpness": float(np.log((detail + 1e-6) / (spread + 1e-6))),
    }


def _digest(image: Any) -> str:
    """Return a hash of an image's shape, type and pixels, read in parts."""
    found = hashlib.blake2b(f"{tuple(image.shape)} {image.dtype}".encode(), digest_size=16)
    for _, band in lazy.bands(image):
        found.update(np.ascontiguousarray(band).tobytes())
    return found.hexdigest()


def _labels(source: core.Source, label: Any, gray: np.ndarray, dims: int) -> Labels:
    count = len(source.class_names)
    multilabel = source.schema["label"].kind == "labels"
    pixels, _, void = look.count_pixels(label, count, multilabel=multilabel)
    plane = plane_of(label, dims)
    objects = np.zeros(count, np.int64)
    for k in np.flatnonzero(pixels):
        own = plane[..., k] == 1 if multilabel else plane == k
        _, objects[k] = cast(tuple[Any, int], ndimage.label(own))
    if dims == 1 or plane.shape[:2] != gray.shape:
        return Labels(pixels, objects, void, None)
    if multilabel:
        plane = np.where((plane == 1).any(-1), (plane == 1).argmax(-1) + 1, 0)
    return Labels(pixels, objects, void, alignment.align(gray, plane.astype(np.uint8)))
