"""Anchors: the boxes that a region proposal network starts from, around each cell of a grid."""

from collections.abc import Sequence

import numpy as np

from segjax.config import kinds


def around_origin(size: kinds.Real, ratios: Sequence[kinds.Real], *, rounded: bool) -> np.ndarray:
    """Return boxes [ratios 4] of area `size` squared around the origin, float32.

    Args:
        size: The side of the square of that area, in pixels.
        ratios: Heights divided by widths.
        rounded: To whole pixels, as torchvision has them; detectron2 does not.
    """
    stretch = np.sqrt(np.asarray(ratios, np.float32))
    ends = np.float32(size) * np.stack([stretch, 1 / stretch], axis=-1)
    found = np.concatenate([-ends, ends], axis=-1) / 2
    return np.round(found) if rounded else found


def grid(
    cells: Sequence[int],
    stride: Sequence[int],
    size: kinds.Real,
    ratios: Sequence[kinds.Real],
    *,
    rounded: bool = True,
) -> np.ndarray:
    """Return the anchors [cells * ratios 4] of one level, row by row, float32.

    The first cell's are centred on the image's corner, each other's `stride` pixels further.

    Args:
        cells: Height and width of the level.
        stride: Pixels from cell to cell along both.
        size: See `around_origin`.
        ratios: See `around_origin`.
        rounded: See `around_origin`.
    """
    places = np.meshgrid(*(np.arange(n) * s for n, s in zip(cells, stride, strict=True)),
                         indexing="ij")  # fmt: skip
    centres = np.tile(np.stack(places, axis=-1).reshape(-1, 1, 2), 2).astype(np.float32)
    return (centres + around_origin(size, ratios, rounded=rounded)).reshape(-1, 4)
