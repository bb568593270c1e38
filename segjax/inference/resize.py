"""Scores brought to another size on the host, before a class is chosen."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from segjax.layers import resample

Scores = Float[np.ndarray, "*space k"]


def argmax_at_size(scores: Scores, size: Sequence[int]) -> UInt8[np.ndarray, "*space"]:
    """Return the largest class after resizing scores [*space k] to `size`, linearly.

    One class at a time: memory does not grow with their number.
    """
    best = np.full(size, -np.inf, np.float32)
    classes = np.zeros(size, np.uint8)
    for k in range(scores.shape[-1]):
        plane = resized(scores[..., k], size)
        better = plane > best
        classes[better], best[better] = k, plane[better]
    return classes


def at_size(scores: Scores, size: Sequence[int]) -> Scores:
    """Return scores [*space k] resized to `size`, linearly."""
    return np.stack([resized(scores[..., k], size) for k in range(scores.shape[-1])], axis=-1)


def resized(plane: Float[np.ndarray, "*space"], size: Sequence[int]) -> Float[np.ndarray, "*space"]:
    """Return one class's scores at `size`: Pillow's bilinear of images, else axis by axis."""
    if plane.shape == tuple(size):
        return plane
    if plane.ndim == 2:
        picture = Image.fromarray(np.ascontiguousarray(plane))
        return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    for axis, length in enumerate(size):
        weights = resample.interpolation(
            plane.shape[axis], length, method="bilinear", align_corners=False
        )
        plane = np.moveaxis(np.tensordot(weights.astype(np.float32), plane, (1, axis)), 0, axis)
    return plane
