"""Does a mask lie on its image? Borders of classes are compared with the image's own edges."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from scipy import fft, ndimage

from segjax.structs import IGNORE_LABEL

REACH = 24
"""How far a mask is moved along each axis, in pixels of the image looked at."""
NEAR = 3
"""Moves that annotators' own outlines make up for."""
AROUND = 31
"""Side of the square in which an edge is above the others."""
FEWEST = 200
"""Pixels of borders from which on something can be said."""


class Alignment(NamedTuple):
    """How well the borders of a mask meet edges of its image.

    Attributes:
        move: Where the mask would have to go, in pixels along each axis.
        here: What the borders meet where they are, within `NEAR` pixels, in standard deviations of
            all places that were tried.
        there: The same at `move`.
    """

    move: tuple[int, int]
    here: float
    there: float


def align(gray: Float[np.ndarray, "h w"], label: UInt8[np.ndarray, "h w"]) -> Alignment | None:
    """Return where the borders of a mask meet the most edges; None: it has too few of them.

    Edges are the logarithm of the image's gradient, above its mean around, so that many weak ones
    count more than few strong ones, and textures hardly. The sum of them under all borders is taken
    for each move at once, as a product of Fourier transforms.
    """
    border = _borders(label)
    if border.sum() < FEWEST:
        return None
    smooth = ndimage.gaussian_filter(gray, 1.0)
    edges = np.log1p(np.hypot(ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1)))
    edges -= ndimage.uniform_filter(edges, AROUND)
    shape = [fft.next_fast_len(side + REACH, real=True) for side in gray.shape]
    meets: Any = fft.rfft2(edges, shape)  # SciPy says of these only that they are dispatched
    borders: Any = fft.rfft2(border.astype(np.float32), shape)
    every: Any = fft.irfft2(meets * np.conj(borders), shape)
    met = np.roll(every, (REACH, REACH), (0, 1))[: 2 * REACH + 1, : 2 * REACH + 1]
    spread = float(met.std())
    if spread <= 1e-6 * border.sum():
        return None  # a flat image
    met = (met - met.mean()) / spread
    near = np.zeros(met.shape, bool)
    near[REACH - NEAR : REACH + NEAR + 1, REACH - NEAR : REACH + NEAR + 1] = True
    y, x = np.unravel_index(int(np.argmax(met)), met.shape)
    return Alignment((int(y) - REACH, int(x) - REACH), float(met[near].max()), float(met.max()))


def _borders(label: UInt8[np.ndarray, "h w"]) -> np.ndarray:
    """Return the pixels, bool [h w], whose lower or right neighbour is of another class."""
    border = np.zeros(label.shape, bool)
    known = label != IGNORE_LABEL
    for axis in (0, 1):
        own = [slice(None)] * 2
        own[axis] = slice(None, -1)
        other = [slice(None)] * 2
        other[axis] = slice(1, None)
        here, there = tuple(own), tuple(other)
        border[here] |= (label[here] != label[there]) & known[here] & known[there]
    return border
