"""Objects as outlines, for formats that hold polygons."""

from collections.abc import Iterator

import numpy as np

from segjax.data import contours
from segjax.data.formats import draw, raster
from segjax.data.formats.base import Box, Object, Picture, Ring, Rings
from segjax.data.formats.raster import Patch


def of(thing: Object) -> list[Ring] | None:
    """Return the outlines that an object is made of, as they were drawn; None: it is not."""
    found: list[Ring] = []
    for part in thing.parts:
        if isinstance(part, Rings) and (len(part.rings) == 1 or not part.even_odd):
            found += part.rings
        elif isinstance(part, Box):
            (a, b), (c, d) = (part.left, part.top), (part.right, part.bottom)
            found.append(np.array([(a, b), (c, b), (c, d), (a, d)]))
        else:
            return None
    return found


def traced(patch: Patch) -> list[contours.Region]:
    """Return the connected regions of a mask, in corners of the image's pixels."""
    shift = np.array([patch.left, patch.top])
    return [
        region._replace(outline=region.outline + shift,
                        holes=tuple(hole + shift for hole in region.holes))
        for region in contours.find(patch.mask.astype(np.uint8), without=(0,))
    ]  # fmt: skip


def joined(patch: Patch) -> list[Ring]:
    """Return rings that hold a mask exactly by the rules 'coco' and 'centre', holes by cuts."""
    return [region.joined().astype(float) for region in traced(patch)]


def through(patch: Patch) -> list[Ring]:
    """Return rings through the middles of border pixels, which Pillow and OpenCV paint as the mask.

    A pixel's middle has its column and row as coordinates. Holes are left out.
    """
    return [_through(region.outline) for region in traced(patch)]


def _through(corners: Ring) -> Ring:
    """Return the pixels along the right of a walk around corners, its turns alone."""
    step = np.sign(np.roll(corners, -1, axis=0) - corners)
    # East has the pixel below its line, south that to the left, west that above, north the right.
    beside = np.stack([(step[:, 0] - step[:, 1] - 1) // 2, (step[:, 0] + step[:, 1] - 1) // 2], 1)
    first = corners + beside
    last = np.roll(corners, -1, axis=0) - step + beside
    ring = np.stack([first, last], axis=1).reshape(-1, 2)
    ring = ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)]
    ring = ring if len(ring) else corners[:1] + beside[:1]
    return np.resize(ring, (max(3, len(ring)), 2)).astype(float)


def instances(picture: Picture) -> Iterator[tuple[Object, Patch]]:
    """Yield the objects of a picture with their pixels, all parts of an instance as one object."""
    together: dict[object, list[Object]] = {}
    for thing in picture.objects:
        together.setdefault(draw.key_of(thing), []).append(thing)
    for things in together.values():
        first = things[0]
        if len(things) > 1:
            parts = tuple(part for thing in things for part in thing.parts)
            merged = {k: v for thing in things for k, v in thing.attributes.items()}
            first = Object(
                first.label, parts, first.group, first.instance, first.crowd, attributes=merged
            )
        yield first, raster.patch_of(first, picture.size, where=picture.name)
