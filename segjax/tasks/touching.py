"""Objects of one class that touch, told apart by their shape alone."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Int32
from scipy import ndimage

from segjax.errors import extra


def divide(mask: Bool[np.ndarray, "*space"], *, apart: int) -> Int32[np.ndarray, "*space"]:
    """Return of which object each pixel of a mask is, 1, 2, …, and 0 outside of the mask.

    A watershed of the distance to the mask's border (Beucher and Lantuéjoul 1979; Vincent and
    Soille 1991), slightly smoothed: one object for each of its peaks, the line between two where
    the mask is narrow.

    Args:
        mask: Of all objects together, in one to three axes.
        apart: The least distance between two peaks, in pixels along each axis.

    Raises:
        ConfigError: scikit-image is not installed.
    """
    with extra("classical", what="a watershed"):
        from skimage import feature, segmentation
    if not mask.any():
        return np.zeros(mask.shape, np.int32)
    inside = np.pad(mask, 1)  # an object at the image's border is not wider than it is seen
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(inside), 1.0)
    distance = distance[(slice(1, -1),) * mask.ndim]
    label: Any = ndimage.label
    pieces, _ = label(mask)
    peaks = feature.peak_local_max(
        distance, min_distance=apart, labels=pieces, exclude_border=False
    )
    markers = np.zeros(mask.shape, np.int32)
    markers[tuple(peaks.T)] = 1 + np.arange(len(peaks))
    found = segmentation.watershed(-distance, markers, mask=mask).astype(np.int32)
    lost, _ = label(mask & (found == 0))  # pieces that are flat have no peak
    return np.where(lost > 0, lost + len(peaks), found).astype(np.int32)
