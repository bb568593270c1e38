"""Arrays in files, read a part at a time: what is larger than a machine's memory has parts."""

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from segjax.data import raster
from segjax.errors import DataError

Region = tuple[slice, ...]
LARGE = 64 << 20
"""Bytes of an array that is read a part at a time, where its file allows that."""
LARGEST = 64 << 30
"""Bytes of the largest array that is read so."""
BAND = 4 << 20
"""Bytes that are looked at together where all of an array is gone through."""
_ONE_PART = contextvars.ContextVar("one_part", default=False)


@contextlib.contextmanager
def one_part() -> Iterator[None]:
    """Ask, of what is opened within, for images of which most likely one part is read.

    It may then be a `Lazy` array although its file is small, see `large.open_image`.
    """
    token = _ONE_PART.set(True)
    try:
        yield
    finally:
        _ONE_PART.reset(token)


def one_part_wanted() -> bool:
    """Say whether that was asked for, in this thread."""
    return _ONE_PART.get()


class Lazy:
    """An array that is read where it is indexed, by one slice of step 1 for each axis in front.

    `numpy.asarray` reads all of it, up to `raster.MAX_BYTES`.

    Args:
        shape: Its own.
        dtype: Its own.
        read: Returns a part of it. Called by one thread at a time.
        name: The file, for messages.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: Any,
        read: Callable[[Region], np.ndarray],
        *,
        name: str,
    ):
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.read, self.name = read, name

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __getitem__(self, region: slice | Region) -> np.ndarray:
        region = region if isinstance(region, tuple) else (region,)
        rest = self.shape[len(region) :]
        spans = [part.indices(side) for part, side in zip(region, self.shape, strict=False)]
        whole = (*(slice(a, b) for a, b, _ in spans), *map(slice, (0,) * len(rest), rest))
        return self.read(whole)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.nbytes > raster.MAX_BYTES:
            raise DataError(
                f"{self.name}: {'x'.join(map(str, self.shape))} values of {self.dtype} take "
                f"{self.nbytes >> 20:,} MiB, at most {raster.MAX_BYTES >> 20:,} MiB are read at "
                "once. Cut it into tiles, or save it smaller."
            )
        return self[()].astype(dtype or self.dtype, copy=False)

    def with_channel(self) -> "Lazy":
        """Return it with one channel behind its axes."""

        def read(region: Region) -> np.ndarray:
            return self.read(region[:-1])[..., None][(..., region[-1])]

        return Lazy((*self.shape, 1), self.dtype, read, name=self.name)

    def map(self, function: Callable[[np.ndarray], np.ndarray], dtype: Any) -> "Lazy":
        """Return what a function makes of every value, computed of the parts that are read."""
        return Lazy(self.shape, dtype, lambda region: function(self.read(region)), name=self.name)


def thinned(array: Any, step: int, *, dims: int) -> np.ndarray:
    """Return every so manyth pixel along each of the first `dims` axes, read a row at a time."""
    rest = (slice(None, None, step),) * (dims - 1)
    rows = [np.asarray(array[at : at + 1])[(0, *rest)] for at in range(0, array.shape[0], step)]
    return np.stack(rows)


def bands(array: Any) -> Iterator[tuple[int, np.ndarray]]:
    """Yield an array as bands over its first axis, of some `BAND` bytes, and where each begins.

    Which rows a band holds is decided by shape and type alone, whether the array is `Lazy` or not.
    """
    row = math.prod(array.shape[1:]) * array.dtype.itemsize
    step = max(1, BAND // max(1, row))
    for start in range(0, array.shape[0], step):
        yield start, np.asarray(array[start : start + step])
