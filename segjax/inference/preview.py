"""What is drawn of an image: all of it, or of a large one every so manyth pixel."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from segjax.data import lazy
from segjax.data.lazy import Region

LARGE = 64_000_000
"""Pixels of an image that is not drawn whole: an overlay of it takes some 500 MB to make."""
DRAWN = 4_000_000
"""Pixels that are drawn of a larger one, about."""


def step_of(whole: Sequence[int]) -> int:
    """Return how far apart the pixels lie, along each axis, that are drawn of an image."""
    pixels = math.prod(whole)
    return 1 if pixels <= LARGE else math.ceil((pixels / DRAWN) ** (1 / len(whole)))


def thinned(array: Any, step: int, *, dims: int) -> np.ndarray:
    """Return every `step`-th pixel of an array, which may be `lazy.Lazy`."""
    return np.asarray(array) if step == 1 else lazy.thinned(array, step, dims=dims)


class Thin:
    """Every so manyth pixel of a class map, or of several, that comes in tiles.

    Args:
        whole: The map's sides in space.
        step: How far apart the pixels lie.

    Attributes:
        classes: They, uint8, as `thinned` has them; empty before the first tile.
    """

    def __init__(self, whole: Sequence[int], step: int):
        self.step = step
        self.sides = [-(-side // step) for side in whole]
        self.classes = np.zeros(0, np.uint8)

    def add(self, region: Region, tile: np.ndarray) -> None:
        """Take what is wanted of a tile."""
        step = self.step
        if not self.classes.size:
            self.classes = np.zeros([*self.sides, *tile.shape[len(region) :]], np.uint8)
        firsts = [-(-part.start // step) for part in region]
        inner = tuple(
            slice(first * step - part.start, None, step)
            for first, part in zip(firsts, region, strict=True)
        )
        part = tile[inner]
        there = tuple(slice(first, first + n) for first, n in zip(firsts, part.shape, strict=False))
        self.classes[there] = part


def thinned_tiles(
    tiles: Iterable[tuple[Region, np.ndarray]], whole: Sequence[int], step: int
) -> np.ndarray:
    """Return every `step`-th pixel of a class map that comes in tiles, as `thinned` does."""
    thin = Thin(whole, step)
    for region, tile in tiles:
        thin.add(region, tile)
    return thin.classes
