"""Overlap and closeness of the borders of truth and prediction, counted in pixels.

A border is of its mask's own pixels. Where truth or prediction alone is empty the score is 0, where
both are there is none.
"""

import dataclasses
from typing import Annotated, Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from segjax.config import rules
from segjax.metrics import base, contours

Share: TypeAlias = Annotated[float | int, rules.number(0, 1, open_ends="low")]
"""Of an image's diagonal."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Boundary(base.PerExample):
    """What scores of borders share.

    Attributes:
        background: The first class has a value too.
    """

    background: bool = False

    def __call__(self, seen: base.Seen) -> Float[np.ndarray, " k"]:
        """Return the value of each class."""
        values = np.full(seen.num_classes, np.nan)
        for number in base.foreground(seen.num_classes, self.background):
            truth, pred = seen.regions(number)
            if truth.any() and pred.any():
                values[number] = self.value(truth, pred)
            elif truth.any() or pred.any():
                values[number] = 0
        return values

    def value(self, truth: Bool[np.ndarray, "*s"], pred: Bool[np.ndarray, "*s"]) -> float:
        """Return the value of one class, of which truth and prediction have some pixel."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoundaryIou(_Boundary):
    """IoU of the pixels within a distance of the border, inside of their masks.

    Cheng et al. 2021 (Boundary IoU, arXiv 2103.16562), whose own code it follows: chessboard
    distance, at least one pixel, and the image's frame is a border.

    Attributes:
        ratio: The distance as a share of the image's diagonal.
    """

    ratio: Share = 0.02

    def value(self, truth: Bool[np.ndarray, "*s"], pred: Bool[np.ndarray, "*s"]) -> float:
        """Return the IoU."""
        width = max(1, round(self.ratio * diagonal(truth.shape)))
        first, second = rim(truth, width), rim(pred, width)
        return float(np.sum(first & second) / np.sum(first | second))


def rim(mask: Bool[np.ndarray, "*s"], width: int) -> Bool[np.ndarray, "*s"]:
    """Return the pixels of a mask that are at most `width` steps from outside, diagonals too."""
    depth = np.asarray(ndimage.distance_transform_cdt(np.pad(mask, 1), "chessboard"))
    return mask & (depth[(slice(1, -1),) * mask.ndim] <= width)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoundaryF1(_Boundary):
    """The F1 of border pixels that have one of the other border within a distance.

    Csurka et al. 2013 (What is a good evaluation measure for semantic segmentation?, BMVC). A
    border pixel has a side in common with one outside of its mask or of the image.

    Attributes:
        ratio: The distance as a share of the image's diagonal; Euclidean.
    """

    ratio: Share = 0.0075

    def value(self, truth: Bool[np.ndarray, "*s"], pred: Bool[np.ndarray, "*s"]) -> float:
        """Return the F1."""
        limit = self.ratio * diagonal(truth.shape)
        first, second = border(truth), border(pred)
        steps = (1.0,) * truth.ndim
        precision = np.mean(contours.to_nearest(first, spacing=steps)[second] <= limit)
        recall = np.mean(contours.to_nearest(second, spacing=steps)[first] <= limit)
        both = precision + recall
        return float(2 * precision * recall / both) if both else 0.0


def border(mask: Bool[np.ndarray, "*s"]) -> Bool[np.ndarray, "*s"]:
    """Return the pixels of a mask that have a side in common with what is outside."""
    eroded: Any = ndimage.binary_erosion(mask)
    return mask & ~eroded


def diagonal(shape: tuple[int, ...]) -> float:
    """Return the diagonal of an image in pixels."""
    return float(np.linalg.norm(shape))
