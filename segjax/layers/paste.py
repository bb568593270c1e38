"""Put the masks of boxes back on to images, on the host."""

from collections.abc import Sequence

import numpy as np

from segjax.layers import resample
from segjax.structs import Mask


def paste(
    probabilities: np.ndarray, box: np.ndarray, size: Sequence[int], *, threshold: float = 0.5
) -> Mask:
    """Return the mask of an object on an image of `size`, as torchvision pastes it.

    A ring of zeros is laid around the grid, so that the mask ends within the box; what lies outside
    of the image is cut.

    Args:
        probabilities: float [cells cells], of the box alone.
        box: y0 x0 y1 x1 in pixels of the image.
        size: The image's height and width.
        threshold: A pixel is inside whose probability is at least that.
    """
    sides = np.asarray(probabilities.shape)
    half = (box[2:] - box[:2]) / 2 * (sides + 2) / sides
    centre = (box[:2] + box[2:]) / 2
    # Truncated, not rounded down: what begins left of the image begins up to a pixel later.
    first, last = (centre - half).astype(int), (centre + half).astype(int)
    lengths = np.maximum(last - first + 1, 1)
    start = np.clip(first, 0, size)
    stop = np.clip(last + 1, start, size)
    grid = np.pad(probabilities, 1)
    rows, columns = (
        resample.interpolation(int(n) + 2, int(length), method="bilinear", align_corners=False)[
            begin - whole : end - whole
        ]
        for n, length, begin, end, whole in zip(sides, lengths, start, stop, first, strict=True)
    )
    inside = rows @ grid @ columns.T >= threshold
    return Mask((int(start[0]), int(start[1])), inside)
