"""From objects to maps: the class of every pixel, and which object it is of."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8, UInt16

from segjax.data.formats import raster
from segjax.data.formats.base import VOID_LABEL, Object, Picture
from segjax.errors import DataError

MAX_INSTANCES = 65535


class Drawn(NamedTuple):
    """The maps of an image.

    Attributes:
        classes: A number for every pixel, 255 where void.
        instances: Which object it is of, counted from 1 in the order of the objects; 0: none.
        labels: The class of each object, that of number 1 first.
        covered: How many pixels several objects of different classes claim; the last has them.
        hidden: How many instances keep no pixel.
    """

    classes: UInt8[np.ndarray, "h w"]
    instances: UInt16[np.ndarray, "h w"]
    labels: list[str]
    covered: int
    hidden: int


def draw(
    picture: Picture,
    numbers: Mapping[str, int],
    *,
    background: int,
    patches: Sequence[raster.Patch] | None = None,
) -> Drawn:
    """Draw all objects of a picture, the later over the earlier.

    Args:
        picture: Its objects' classes are in `numbers`, or void.
        numbers: The number of each class.
        background: What pixels without an object are.
        patches: The pixels of each object; None: as `raster.patch_of` has them.

    Raises:
        DataError: More than `MAX_INSTANCES`, or an outline that cannot be followed.
    """
    classes = np.full(picture.size, background, np.uint8)
    instances = np.zeros(picture.size, np.uint16)
    taken = np.zeros(picture.size, bool)
    found: dict[object, int] = {}
    labels: list[str] = []
    covered = 0
    given = iter(patches) if patches is not None else patches_of(picture)
    for thing, patch in zip(picture.objects, given, strict=True):
        number = VOID_LABEL if thing.label is None else numbers[thing.label]
        own, mask = classes[patch.place], patch.mask
        covered += int((taken[patch.place] & mask & (own != number)).sum())
        own[mask] = number
        taken[patch.place] |= mask
        instance = 0
        if thing.instance and thing.label is not None:
            instance = found.setdefault(key_of(thing), len(found) + 1)
            labels += [thing.label] * (instance > len(labels))
        if instance > MAX_INSTANCES:
            raise DataError(
                f"{picture.name}: more than {MAX_INSTANCES:,} objects, which a map of 16 bits "
                "cannot number. Use --target=semantic, or cut the image into tiles."
            )
        instances[patch.place][mask] = instance
    kept = np.zeros(len(labels) + 1, bool)
    kept[np.unique(instances)] = True
    return Drawn(classes, instances, labels, covered, len(labels) - int(kept[1:].sum()))


def patches_of(picture: Picture) -> Iterator[raster.Patch]:
    """Yield the pixels of each object of a picture."""
    return (raster.patch_of(thing, picture.size, where=picture.name) for thing in picture.objects)


def key_of(thing: Object) -> object:
    """Return what objects that are one instance have in common."""
    return (thing.label, thing.group) if thing.group is not None else (thing.label, id(thing), "")
