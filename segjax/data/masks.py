"""The objects of one image on the host: cropped masks, and the fields of a batch made of them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Integer, UInt8
from scipy import ndimage

from segjax.structs import Mask, Objects

Region = tuple[slice, ...]
WHOLE = "objects"
"""The key of an example under which a source may give its `Objects`, beside the fields of them."""


class About(NamedTuple):
    """What a number in an instance map stands for: a class's number, and whether it is a crowd."""

    number: int
    crowd: bool = False


def pack(masks: Bool[np.ndarray, "n *space"]) -> UInt8[np.ndarray, "*space _"]:
    """Return masks as bits: object i is bit `i % 8` of byte `i // 8`."""
    return np.packbits(np.moveaxis(masks, 0, -1), axis=-1, bitorder="little")


def unpack(packed: UInt8[np.ndarray, "*space _"], count: int) -> Bool[np.ndarray, "n *space"]:
    """Return the first `count` masks of packed ones."""
    bits = np.unpackbits(packed, axis=-1, count=count, bitorder="little")
    return np.moveaxis(bits, -1, 0).astype(bool)


def trim(inside: Bool[np.ndarray, "*box"], corner: Sequence[int] = ()) -> Mask:
    """Return a mask without its empty borders; an empty one has no pixels.

    Args:
        inside: Which pixels of a box are of the object.
        corner: The first pixel of that box; empty: 0 along each axis.
    """
    corner = tuple(corner) or (0,) * inside.ndim
    place = ndimage.find_objects(inside.view(np.uint8))
    if not place:
        return Mask(corner, np.zeros((0,) * inside.ndim, bool))
    low = tuple(int(at + part.start) for at, part in zip(corner, place[0], strict=True))
    return Mask(low, inside[place[0]])


def place_of(mask: Mask) -> Region:
    """Return the pixels of the image that a mask's box is of."""
    return tuple(
        slice(low, low + side) for low, side in zip(mask.corner, mask.inside.shape, strict=True)
    )


def make(found: Iterable[tuple[Mask, About]], *, dims: int) -> Objects:
    """Return true objects; those without a pixel are none."""
    kept = [(mask, about) for mask, about in found if mask.inside.any()]
    boxes = [
        (*mask.corner, *(low + side for low, side in zip(mask.corner, mask.inside.shape,
                                                         strict=True)))
        for mask, _ in kept
    ]  # fmt: skip
    return Objects(
        classes=np.array([about.number for _, about in kept], np.int32),
        boxes=np.array(boxes, np.float32).reshape(len(kept), 2 * dims),
        masks=tuple(mask for mask, _ in kept),
        scores=np.ones(len(kept), np.float32),
        crowd=np.array([about.crowd for _, about in kept], bool),
    )


def of_map(numbers: Integer[np.ndarray, "*space"], about: Mapping[int, About]) -> Objects:
    """Return the objects of an instance map, in the order of `about`; other numbers are none."""
    values = values_of(numbers)
    order = {number: place for place, number in enumerate(about, start=1)}
    found = np.array([order.get(value, 0) for value in values.tolist()], np.int32)
    if _is_small(numbers):
        table = np.zeros(1 << 16, np.int32)
        table[values] = found
        places = table[numbers]
    else:
        places = found[np.searchsorted(values, numbers)]
    boxes: Any = ndimage.find_objects(places)
    cut = [
        (Mask(tuple(part.start for part in box), places[box] == place), each)
        for (place, box), each in zip(enumerate(boxes, start=1), about.values(), strict=False)
        if box is not None
    ]
    return make(cut, dims=numbers.ndim)


def values_of(numbers: Integer[np.ndarray, "*space"]) -> Integer[np.ndarray, " n"]:
    """Return the different numbers of a map, ascending."""
    if _is_small(numbers):
        return np.flatnonzero(np.bincount(numbers.ravel(), minlength=1))
    return np.unique(numbers)


def _is_small(numbers: np.ndarray) -> bool:
    return numbers.dtype.kind == "u" and numbers.dtype.itemsize <= 2


def fields(objects: Objects, size: Sequence[int], *, most: int) -> dict[str, np.ndarray]:
    """Return what `core.object_schema(most)` names; of more objects the largest, in their order.

    Args:
        objects: Of an image.
        size: Its sides.
        most: The most that there is room for.
    """
    areas = [-int(mask.inside.sum()) for mask in objects.masks]
    kept = sorted(np.argsort(areas, kind="stable")[:most].tolist())
    packed = np.zeros((*size, math.ceil(most / 8)), np.uint8)
    classes, crowd = np.full(most, -1, np.int32), np.zeros(most, bool)
    for slot, number in enumerate(kept):
        mask = objects.masks[number]
        packed[(*place_of(mask), slot // 8)] |= mask.inside.astype(np.uint8) << slot % 8
    classes[: len(kept)], crowd[: len(kept)] = objects.classes[kept], objects.crowd[kept]
    return {
        "object_masks": packed,
        "object_classes": classes,
        "object_crowd": crowd,
        "object_count": np.array(len(objects.masks), np.int32),
    }


def crop(objects: Objects, region: Region) -> Objects:
    """Return the objects of a part of an image, as far as they lie in it; those outside are none.

    Args:
        objects: Of the whole image.
        region: Where the part begins and ends along each axis.
    """
    kept = []
    for mask, number, crowd in zip(objects.masks, objects.classes, objects.crowd, strict=True):
        low = [max(part.start, at) for part, at in zip(region, mask.corner, strict=True)]
        high = [min(part.stop, place.stop) for part, place in zip(region, place_of(mask),
                                                                  strict=True)]  # fmt: skip
        if all(a < b for a, b in zip(low, high, strict=True)):
            inner = tuple(
                slice(a - at, b - at) for a, b, at in zip(low, high, mask.corner, strict=True)
            )
            first = [a - part.start for a, part in zip(low, region, strict=True)]
            kept.append((trim(mask.inside[inner], first), About(int(number), bool(crowd))))
    return make(kept, dims=len(region))


def of_fields(example: Mapping[str, Any]) -> Objects:
    """Return the objects that the fields of an example hold."""
    packed, classes = np.asarray(example["object_masks"]), np.asarray(example["object_classes"])
    crowd = np.asarray(example["object_crowd"]).tolist()
    slots = [slot for slot, number in enumerate(classes.tolist()) if number >= 0]
    found = [
        (trim(packed[..., slot // 8] >> slot % 8 & 1 == 1), About(int(classes[slot]), crowd[slot]))
        for slot in slots
    ]
    return make(found, dims=packed.ndim - 1)


def paint(label: UInt8[np.ndarray, "*space"], objects: Objects) -> None:
    """Write the class of every object into a class map, the later over the earlier."""
    for mask, number in zip(objects.masks, objects.classes.tolist(), strict=True):
        label[place_of(mask)][mask.inside] = number
