"""Show volumes: three flat sections that meet in one voxel, side by side as one picture."""

import numpy as np
from jaxtyping import Integer, UInt8

from segjax.runtime import memory
from segjax.views.colour import VOID_LABEL

GAP = 2
"""White voxels between two sections."""


def busiest(label: Integer[np.ndarray, "*space"]) -> tuple[int, ...]:
    """Return, along each axis, the place whose section holds the most of the rarer classes.

    All count but void and the most frequent class, which is the background nearly everywhere. Where
    there are no others, it is the centre.
    """
    counts = memory.counts(label, length=VOID_LABEL + 1)
    counts[VOID_LABEL] = 0
    seen = (label != VOID_LABEL) & (label != counts.argmax())
    if not seen.any():
        return tuple(side // 2 for side in label.shape)
    axes = range(label.ndim)
    totals = [seen.sum(axis=tuple(other for other in axes if other != axis)) for axis in axes]
    return tuple(int(total.argmax()) for total in totals)


def sections(
    volume: UInt8[np.ndarray, "d h w 3"], at: tuple[int, ...]
) -> UInt8[np.ndarray, "rows columns 3"]:
    """Return the sections of a coloured volume that meet in the voxel `at`, on white.

    The plane of height and width is in the upper left, that of depth and width below it, and that
    of height and depth to its right, so that neighbours share an axis.
    """
    z, y, x = at
    depth, height, width, _ = volume.shape
    canvas = np.full((height + GAP + depth, width + GAP + depth, 3), 255, np.uint8)
    canvas[:height, :width] = volume[z]
    canvas[height + GAP :, :width] = volume[:, y]
    canvas[:height, width + GAP :] = volume[:, :, x].swapaxes(0, 1)
    return canvas
