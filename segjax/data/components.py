"""Connected components of masks, in one to three dimensions."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Int32, Int64
from scipy import ndimage


def find(
    mask: Bool[np.ndarray, "*space"], *, connectivity: int = 1
) -> tuple[Int32[np.ndarray, "*space"], Int64[np.ndarray, " n"]]:
    """Return the number of each element's component, and how many elements each has.

    Components are counted from 1, in the order of their first elements; 0 is outside of the mask,
    and so is the first of the counts.

    Args:
        mask: What is to be divided.
        connectivity: In how many coordinates neighbours may differ: 1 those that share a side; 2
            also those that share an edge of voxels or a corner of pixels; 3 a corner of voxels.
            More than there are axes is all of them.
    """
    near = ndimage.generate_binary_structure(mask.ndim, min(connectivity, mask.ndim))
    numbers: Any = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, near, output=numbers)
    return numbers, np.bincount(numbers.ravel()).astype(np.int64)
