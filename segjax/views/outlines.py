"""Objects in a picture: tinted, outlined and numbered, in colours that any eye tells apart."""

import functools
import os
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import matplotlib as mpl
import numpy as np
from jaxtyping import Int32, Num, UInt8
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from segjax.views import colour, planes

Region: TypeAlias = tuple[tuple[int, ...], np.ndarray]
"""The first pixel of an object's box, and which pixels of the box are of it."""
SHADES: tuple[colour.Colour, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0),
    (204, 121, 167),
)  # fmt: skip
"""Okabe and Ito 2008, without black."""
APART = 3
"""Objects whose boxes are no further apart than so many pixels do not share a colour."""
STRIP = 24
"""Rows of the picture of a signal."""


class Flat(NamedTuple):
    """What is looked at of an image: of a volume three sections, of a signal a strip.

    Attributes:
        picture: In colours.
        groups: Of each group of objects those that are seen, with their numbers in the group.
    """

    picture: UInt8[np.ndarray, "h w 3"]
    groups: list[list[tuple[int, Region]]]


def flatten(image: Num[np.ndarray, "*space c"], groups: Sequence[Sequence[Region]]) -> Flat:
    """Return an image as a picture, and groups of objects as they are seen there.

    Where objects of one group overlap in a volume or a signal, the first is on top. Those without
    a pixel are not seen.
    """
    dims = image.ndim - 1
    shown = colour.displayable(image, axes=dims)
    if dims == 2:
        seen = [[(i, own) for i, own in enumerate(group) if own[1].any()] for group in groups]
        return Flat(shown, seen)
    maps = [numbers(regions, image.shape[:-1]) for regions in groups]
    if dims == 1:
        picture = np.repeat(shown[None], STRIP, axis=0)
        return Flat(picture, [regions(np.repeat(each[None], STRIP, axis=0)) for each in maps])
    at = planes.busiest((maps[0] > 0).astype(np.uint8))
    return Flat(planes.sections(shown, at), [regions(sections(each, at)) for each in maps])


def numbers(objects: Sequence[Region], whole: Sequence[int]) -> Int32[np.ndarray, "*space"]:
    """Return the object of every pixel, counted from 1; 0 is none, and the first is on top."""
    found = np.zeros(tuple(whole), np.int32)
    for i, (corner, inside) in reversed(list(enumerate(objects))):
        box = tuple(slice(a, a + side) for a, side in zip(corner, inside.shape, strict=True))
        found[box][inside] = i + 1
    return found


def regions(numbers: Int32[np.ndarray, "h w"]) -> list[tuple[int, Region]]:
    """Return the objects of a map as `numbers` makes it."""
    found: list[tuple[int, Region]] = []
    for i, box in enumerate(ndimage.find_objects(numbers)):
        if box is not None:
            found.append((i, (tuple(part.start for part in box), numbers[box] == i + 1)))
    return found


def sections(numbers: Int32[np.ndarray, "d h w"], at: tuple[int, ...]) -> Int32[np.ndarray, "h w"]:
    """Return the sections of a map of objects, see `planes.sections`; 0 where none is.

    Numbers are below 2^24 - 1.
    """
    coded = np.stack([numbers >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)
    bytes_ = planes.sections(coded, at).astype(np.int32)
    found = bytes_[..., 0] + (bytes_[..., 1] << 8) + (bytes_[..., 2] << 16)
    return np.where(found == 2**24 - 1, 0, found).astype(np.int32)  # white: no section is there


def scaled(region: Region, factors: Sequence[float]) -> Region:
    """Return a region in a picture that is scaled by so much along each axis."""
    corner, inside = region
    low = [round(a * f) for a, f in zip(corner, factors, strict=True)]
    high = [
        max(a + 1, round((b + side) * f))
        for a, b, side, f in zip(low, corner, inside.shape, factors, strict=True)
    ]
    places = [
        np.minimum(((np.arange(b - a) + 0.5) * side / (b - a)).astype(int), side - 1)
        for a, b, side in zip(low, high, inside.shape, strict=True)
    ]
    return tuple(low), inside[np.ix_(*places)]


def shades(regions: Sequence[Region]) -> list[colour.Colour]:
    """Return a colour for each object of a picture: no neighbour's while others are left."""
    low = np.array([corner for corner, _ in regions], np.int64).reshape(-1, 2)
    high = low + np.array([inside.shape for _, inside in regions], np.int64).reshape(-1, 2)
    chosen: list[int] = []
    for i in range(len(regions)):
        near = (low[:i] <= high[i] + APART) & (low[i] <= high[:i] + APART)
        used = [chosen[j] for j in np.flatnonzero(near.all(axis=1))]
        counts = np.bincount(used, minlength=len(SHADES))
        turn = (np.arange(len(SHADES)) + i) % len(SHADES)
        chosen.append(int(turn[counts[turn].argmin()]))
    return [SHADES[k] for k in chosen]


def paint(
    picture: UInt8[np.ndarray, "h w 3"],
    regions: Sequence[Region],
    colours: Sequence[colour.Colour],
    *,
    alpha: float = 0.4,
    width: int = 1,
) -> UInt8[np.ndarray, "h w 3"]:
    """Return a picture with its objects tinted and outlined, the first on top.

    Args:
        picture: It stays as it is.
        regions: The objects; what lies outside of the picture is not drawn.
        colours: One for each.
        alpha: How much of the colour the inside has.
        width: Of the outlines, in pixels, inside of the objects.
    """
    painted = picture.copy()
    for (corner, inside), shade in reversed(list(zip(regions, colours, strict=True))):
        box = tuple(slice(a, a + side) for a, side in zip(corner, inside.shape, strict=True))
        part = painted[box]
        inside = inside[: part.shape[0], : part.shape[1]]
        kept = np.asarray(ndimage.binary_erosion(inside, iterations=width), bool)
        line = inside & ~kept
        part[inside] = np.rint(part[inside] * (1 - alpha) + np.array(shade) * alpha)
        part[line] = shade
    return painted


def middle(region: Region) -> tuple[int, int]:
    """Return the row and the column of the pixel that lies deepest in an object."""
    corner, inside = region
    depth = np.asarray(ndimage.distance_transform_cdt(np.pad(inside, 1), "chessboard"))
    place = np.unravel_index(depth[1:-1, 1:-1].argmax(), inside.shape)
    return corner[0] + int(place[0]), corner[1] + int(place[1])


def write_texts(
    picture: UInt8[np.ndarray, "h w 3"], regions: Sequence[Region], texts: Sequence[str]
) -> UInt8[np.ndarray, "h w 3"]:
    """Return a picture with a text in the middle of each object, larger in larger ones."""
    canvas = Image.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    most = max(12, min(picture.shape[:2]) // 25)
    for region, text in zip(regions, texts, strict=True):
        size = int(np.clip(0.45 * np.sqrt(np.count_nonzero(region[1])), 8, most))
        row, column = middle(region)
        pen.text(
            (column, row), text, fill=(255, 255, 255), font=_font(size), anchor="mm",
            stroke_width=max(1, size // 10), stroke_fill=(0, 0, 0),
        )  # fmt: skip
    return np.asarray(canvas)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font that comes with Matplotlib, so high in pixels."""
    return ImageFont.truetype(
        os.path.join(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf"), size
    )
