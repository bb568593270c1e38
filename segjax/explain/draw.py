"""Maps as pictures: in colour over the image, in its own size."""

from typing import Literal

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, UInt8

from segjax.views import colour, planes

Kind = Literal["above", "signed", "share", "colours"]
"""What a map's values are: at least 0; of both signs; from 0 to 1; three that are shown as RGB."""
OPACITY, STRIP = 0.6, 24
"""Of colours over the image, and how many rows a signal is shown as."""
OUTSIDE = 99.5
"""The percentile of absolute values that has the full colour: a single pixel does not decide."""


def picture(
    values: Float[np.ndarray, "..."], image: np.ndarray, *, kind: Kind
) -> UInt8[np.ndarray, "h w 3"]:
    """Return a map over its image [*space c] in grey; of colours the map alone.

    Of a volume the three sections through the voxel with the largest value, of a signal a strip.
    """
    dims = image.ndim - 1
    grey = colour.displayable(image, axes=dims).mean(axis=-1, keepdims=True)
    shown = colours(values, kind=kind)
    if kind != "colours":
        shown = np.rint(OPACITY * shown + (1 - OPACITY) * grey).astype(np.uint8)
    return flat(shown, np.abs(values if values.ndim == dims else values.sum(axis=-1)))


def plain(image: np.ndarray, busy: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image alone, cut as `picture` cuts it; `busy` [*space] says where."""
    return flat(colour.displayable(image, axes=image.ndim - 1), busy)


def flat(shown: UInt8[np.ndarray, "*space 3"], busy: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    """Return what is shown of an image in colours; of a volume where `busy` is largest."""
    if shown.ndim == 4:
        at = np.unravel_index(int(np.argmax(busy)), busy.shape)
        return planes.sections(shown, tuple(int(place) for place in at))
    return shown[None].repeat(STRIP, axis=0) if shown.ndim == 2 else shown


def colours(values: Float[np.ndarray, "..."], *, kind: Kind) -> UInt8[np.ndarray, "..."]:
    """Return a map's values in colours [*space 3].

    Above 0 from black over red to white; of both signs from blue over white to red.
    """
    if kind == "colours":
        low, high = (np.percentile(values.reshape(-1, 3), end, axis=0) for end in (1, 99))
        shares = (values - low) / np.where(high > low, high - low, 1)
        return np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)
    largest = 1.0 if kind == "share" else float(np.percentile(np.abs(values), OUTSIDE))
    largest = largest or float(np.abs(values).max()) or 1.0
    shares = values / largest
    shades = mpl.colormaps["RdBu_r" if kind == "signed" else "inferno"]
    shares = (shares + 1) / 2 if kind == "signed" else shares
    return np.rint(255 * shades(np.clip(shares, 0, 1))[..., :3]).astype(np.uint8)
