"""What a reader gives: an array that is read where it is indexed, and where it lies."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from segjax.data import raster
from segjax.data.geometry import Geometry
from segjax.data.lazy import LARGEST, Lazy


@dataclasses.dataclass(frozen=True)
class Stored:
    """An array in a file, as it is stored.

    Attributes:
        array: With the axes in space first, from the slowest to the fastest: depth, height, width.
        dims: How many axes lie in space, where the format says so; 0: it does not.
        geometry: Where they lie; None: the format says nothing.
        void: The value that the file says stands for no pixel.
        parts: Whether a part of it is read without all of it.
        streamed: Whether it is unpacked from its beginning, as far as it is asked for.
    """

    array: Lazy
    dims: int = 0
    geometry: Geometry | None = None
    void: float | None = None
    parts: bool = True
    streamed: bool = False


def check_size(shape: Sequence[int], dtype: np.dtype, *, parts: bool) -> None:
    """Refuse what cannot be an array of real numbers in memory, before room is made for it.

    Args:
        shape: As the file says.
        dtype: Likewise.
        parts: Whether it can be read a part at a time.

    Raises:
        ValueError: It cannot.
    """
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ValueError(f"values of the type {dtype}, which are no real numbers")
    if not shape or min(shape) < 1 or len(shape) > 5:
        raise ValueError(f"an array of shape {tuple(shape)}")
    size, most = math.prod(shape) * dtype.itemsize, LARGEST if parts else raster.MAX_BYTES
    if size > most:
        raise ValueError(
            f"an array of shape {tuple(shape)} takes {size >> 20:,} MiB, at most {most >> 20:,} "
            "MiB are read"
        )
