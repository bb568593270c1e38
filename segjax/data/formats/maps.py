"""From maps of numbers to objects: of a class each, or of an instance."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int32, Integer
from scipy import ndimage

from segjax.data import components, decode, listing
from segjax.data.formats.base import Object, Pixels, Size
from segjax.errors import DataError

_MANY = 1 << 17
"""Different numbers of a map."""


def pair(
    images: pathlib.Path, masks: pathlib.Path, *, suffixes: tuple[str, str] = ("", "")
) -> list[tuple[str, pathlib.Path, pathlib.Path]]:
    """Return name, image and mask of all images of a folder, paired by their names.

    Raises:
        DataError: A folder or file is missing.
    """
    for folder in (images, masks):
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder. Name another --input, or --images.")
    left = listing.list_files(images, endings=decode.IMAGE_ENDINGS, suffix=suffixes[0])
    right = listing.list_files(masks, endings=decode.LABEL_ENDINGS, suffix=suffixes[1])
    if not left:
        raise DataError(f"{images}: no images in it. Expected {', '.join(decode.IMAGE_ENDINGS)}.")
    for here, there, what in ((left, right, "mask"), (right, left, "image")):
        bare = [str(path) for stem, path in here.items() if stem not in there]
        if bare:
            raise DataError(
                f"{len(bare)} files have no {what} of their name: {', '.join(bare[:3])}. Expected "
                f"{images} and {masks} in pairs. Add them, or remove these files."
            )
    return [(path.relative_to(images).as_posix(), path, right[stem]) for stem, path in left.items()]


def read(path: pathlib.Path, size: Size) -> Integer[np.ndarray, "h w"]:
    """Return the numbers that a mask stores.

    Raises:
        DataError: It cannot be read, or is not of the image's size.
    """
    numbers = decode.read_label(path, name=str(path))
    check_size(numbers.shape, size, where=str(path))
    return numbers


def check_size(shape: tuple[int, ...], size: Size, *, where: str) -> None:
    """Raise `DataError` unless a mask has the size of its image."""
    if shape[:2] != size:
        raise DataError(
            f"{where}: the mask is {shape[0]}x{shape[1]} (height x width), its image "
            f"{size[0]}x{size[1]}. Mend one of them."
        )


def objects(
    classes: Integer[np.ndarray, "h w"],
    labels: Mapping[int, str | None],
    *,
    background: str | None,
    instances: Integer[np.ndarray, "h w"] | None = None,
    where: str,
) -> tuple[Object, ...]:
    """Return an object for each class in a map, or each instance of it.

    Args:
        classes: A number for every pixel.
        labels: The class of each number, or `VOID`.
        background: The class whose pixels are no object.
        instances: Which instance of its class a pixel is of; 0: of none.
        where: The file, for messages.

    Raises:
        DataError: A number that has no class.
    """
    numbers, values, first = _regions(classes, instances)
    unknown = sorted({value for value, _ in values} - set(labels))
    if unknown:
        pixels = int((classes == unknown[0]).sum())
        raise DataError(
            f"{where}: number {unknown[0]} in {pixels:,} pixels is no class; there are "
            f"{_shown(labels)}. Mend the mask or the list of classes."
        )
    found = []
    for (value, instance), number, box in zip(values, first, _boxes(numbers), strict=True):
        label = labels[value]
        if box is None or (label is not None and label == background and not instance):
            continue
        part = Pixels(numbers[box], number, box[0].start, box[1].start)
        group = instance or None
        found.append(Object(label, (part,), group=group, instance=bool(instance)))
    return tuple(found)


def _shown(labels: Mapping[int, str | None]) -> str:
    known = [str(value) for value in labels]
    return ", ".join(known[:8]) + (", …" if len(known) > 8 else "")


def _regions(
    classes: Integer[np.ndarray, "h w"], instances: Integer[np.ndarray, "h w"] | None
) -> tuple[Int32[np.ndarray, "h w"], list[tuple[int, int]], list[int]]:
    """Return a map of numbers from 1, and the class and the instance that each stands for."""
    keys = classes.astype(np.int64)
    if instances is not None:
        low, high = int(instances.min(initial=0)), int(instances.max(initial=0))
        if low < 0 or high >= 1 << 31 or np.abs(keys).max(initial=0) >= 1 << 31:
            raise DataError("a map of instances with numbers beyond 31 bits. Number them from 1.")
        keys = keys << 31 | instances.astype(np.int64)
    values, numbers = np.unique(keys, return_inverse=True)
    if len(values) > _MANY:
        raise DataError(f"a map of more than {_MANY:,} different numbers. Check that it is one.")
    pairs = [(v >> 31, v & (1 << 31) - 1) if instances is not None else (v, 0)
             for v in values.tolist()]  # fmt: skip
    numbers = numbers.reshape(classes.shape).astype(np.int32) + 1
    return numbers, pairs, list(range(1, len(values) + 1))


def _boxes(numbers: Int32[np.ndarray, "h w"]) -> list[tuple[slice, slice] | None]:
    found: Any = ndimage.find_objects(numbers)
    return found


def pieces(thing: Object, mask: np.ndarray, top: int, left: int) -> list[Object]:
    """Return an object for each connected piece of the pixels of one."""
    numbers, counts = components.find(mask)
    boxes = _boxes(numbers)
    found = []
    for number, box in enumerate(boxes[: len(counts) - 1], start=1):
        if box is not None:
            part = Pixels(numbers[box], number, top + box[0].start, left + box[1].start)
            found.append(Object(thing.label, (part,), instance=True, attributes=thing.attributes))
    return found
