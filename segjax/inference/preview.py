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


def thinned_tiles(
    tiles: Iterable[tuple[Region, np.ndarray]], whole: Sequence[int], step: int
) -> np.ndarray:
    """Return every `step`-th pixel of a class map that comes in tiles, as `thinned` does."""
    found = np.zeros([-(-side // step) for side in whole], np.uint8)
    for region, tile in tiles:
        firsts = [-(-part.start // step) for part in region]
        inner = tuple(
            slice(first * step - part.start, None, step)
            for first, part in zip(firsts, region, strict=True)
        )
        if all(i.start < n for i, n in zip(inner, tile.shape, strict=False)):
            part = tile[inner]
            there = tuple(
                slice(first, first + n) for first, n in zip(firsts, part.shape, strict=False)
            )
            found[there] = part
    return found
