"""Windows over images larger than a network's canvas, in one to three dimensions."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from segjax.data import fit
from segjax.inference.predictor import Image

Size = tuple[int, ...]
Scores = Callable[[list[np.ndarray]], Iterator[Float[np.ndarray, "*space k"]]]
"""From canvases [*space c] to the scores of each, one after the other."""


class Window(NamedTuple):
    """One window: where it begins, and which part of the image it decides."""

    start: Size
    kept: tuple[slice, ...]

    def inner(self) -> tuple[slice, ...]:
        """Return the part that it decides in its own coordinates."""
        return tuple(
            slice(kept.start - start, kept.stop - start)
            for start, kept in zip(self.start, self.kept, strict=True)
        )


def scored(
    image: Image, scores: Scores, *, size: Size, pad_value: float
) -> Iterator[tuple[tuple[slice, ...], Float[np.ndarray, "*space k"]]]:
    """Yield the parts of a large image with their scores (Ronneberger et al. 2015, figure 2).

    Neighbouring windows overlap by at least a quarter; each pixel is taken from the window in whose
    middle it lies, so that it is seen with context on every side. Windows go to the network a row
    along the last axis at a time.

    Args:
        image: [*space c].
        scores: The network.
        size: Of the canvas.
        pad_value: Grey value behind the edge of an image that is smaller along some axis.
    """
    for row in rows(image.shape[:-1], size):
        canvases = [
            fit.fit_image(
                image[tuple(slice(a, a + n) for a, n in zip(window.start, size, strict=True))],
                size=size,
                fit="pad",
                pad_value=pad_value,
            )[0]
            for window in row
        ]
        for window, found in zip(row, scores(canvases), strict=True):
            yield window.kept, found[window.inner()]


def rows(shape: Sequence[int], size: Sequence[int]) -> Iterator[list[Window]]:
    """Yield the windows that cover an image of `shape`, those along the last axis together."""
    *outer, last = (spans(length, window) for length, window in zip(shape, size, strict=True))
    for above in itertools.product(*outer):
        yield [
            Window((*(start for start, _ in above), start), (*(kept for _, kept in above), kept))
            for start, kept in last
        ]


def spans(length: int, window: int) -> list[tuple[int, slice]]:
    """Return `(start, kept)` of the windows along one axis: where each begins, what it decides."""
    if length <= window:
        return [(0, slice(0, length))]
    count = -(-(length - window) // (window * 3 // 4)) + 1
    starts = [round(i * (length - window) / (count - 1)) for i in range(count)]
    cuts = [0, *((a + window + b) // 2 for a, b in zip(starts, starts[1:], strict=False)), length]
    return [(start, slice(cuts[i], cuts[i + 1])) for i, start in enumerate(starts)]
