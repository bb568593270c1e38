"""Masks of queries on an image's own grid, and segments made of them; on the host."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from segjax.layers import resample
from segjax.structs import Mask, Objects

Sides: TypeAlias = Sequence[int] | np.ndarray
"""Of an image or a canvas, in pixels."""


def matrices(
    masks: Sequence[int], canvas: Sides, covered: Sequence[int], whole: Sequence[int]
) -> list[np.ndarray]:
    """Return for each axis the matrix [whole masks] from a mask's cells to an image's pixels.

    As published: bilinearly to the canvas, of which the part that the image covers is taken, and
    that bilinearly to the image.
    """

    def linear(size: int, to: int) -> np.ndarray:
        return resample.interpolation(size, to, method="bilinear", align_corners=False)

    return [
        (linear(part, n) @ linear(cells, int(side))[:part]).astype(np.float32)
        for cells, side, part, n in zip(masks, canvas, covered, whole, strict=True)
    ]


def masks_of(
    logits: np.ndarray, canvas: Sides, covered: Sequence[int], whole: Sequence[int]
) -> tuple[list[Mask], np.ndarray]:
    """Return the masks of logits [m h w] above 0, and the mean probability inside of each.

    Only where some cell around a pixel is above 0 can that pixel be.
    """
    rows, columns = matrices(logits.shape[1:], canvas, covered, whole)
    masks, means = [], []
    for each in logits:
        inside = each > 0
        y = np.flatnonzero((rows[:, inside.any(1)] > 0).any(1))
        x = np.flatnonzero((columns[:, inside.any(0)] > 0).any(1))
        if not len(y) or not len(x):
            masks.append(Mask((0, 0), np.zeros((0, 0), bool)))
            means.append(0.0)
            continue
        y, x = slice(y[0], y[-1] + 1), slice(x[0], x[-1] + 1)
        fine = rows[y] @ each @ columns[x].T
        found = crop(fine > 0)
        corner = found.corner[0] + y.start, found.corner[1] + x.start
        masks.append(Mask(corner, found.inside))
        means.append(float(sigmoid(fine[fine > 0]).sum() / ((fine > 0).sum() + 1e-6)))
    return masks, np.asarray(means, np.float32)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return the probability that a logit stands for."""
    return 1 / (1 + np.exp(-np.clip(x, -80, 80)))


def crop(inside: np.ndarray) -> Mask:
    """Return the pixels of a map as far as their box reaches; empty: there are none."""
    if not inside.any():
        return Mask((0, 0), np.zeros((0, 0), bool))
    y, x = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return Mask((int(y[0]), int(x[0])), inside[y[0] : y[-1] + 1, x[0] : x[-1] + 1])


def objects_of(masks: Sequence[Mask], classes: np.ndarray, scores: np.ndarray) -> Objects:
    """Return objects, the highest score first, without those that have no pixel."""
    order = [i for i in np.argsort(-scores, kind="stable") if masks[i].inside.any()]
    kept = tuple(masks[i] for i in order)
    corners = np.array([mask.corner for mask in kept], np.float32).reshape(-1, 2)
    sides = np.array([mask.inside.shape for mask in kept], np.float32).reshape(-1, 2)
    return Objects(
        classes=np.asarray(classes, np.int32)[order],
        boxes=np.concatenate([corners, corners + sides], axis=1),
        masks=kept,
        scores=np.asarray(scores, np.float32)[order],
        crowd=np.zeros(len(order), bool),
    )


def merge(
    logits: np.ndarray,
    canvas: Sides,
    covered: Sequence[int],
    whole: Sequence[int],
    *,
    scores: np.ndarray,
    classes: np.ndarray,
    stuff: Sequence[int],
    overlap: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return segments made of masks that overlap, as Mask2Former and EoMT do it.

    A pixel is of the query with the largest product of score and probability, if that probability
    is at least a half. A query of whose mask others take too much makes no segment. Queries of one
    stuff make one.

    Args:
        logits: [m h w], in the order of queries.
        canvas: The sides of what the masks cover, in pixels.
        covered: Of the image on it.
        whole: The image's own.
        scores: [m].
        classes: [m].
        stuff: The classes that are not counted object by object.
        overlap: A query's share of the pixels of its mask, at least.

    Returns:
        int32 [*whole], 1..s or 0; the class [s] and the score [s] of each segment.
    """
    segments = np.zeros(tuple(whole), np.int32)
    found, values, of_stuff = [], [], {}
    if len(logits):
        rows, columns = matrices(logits.shape[1:], canvas, covered, whole)
        best = np.full(segments.shape, -1.0, np.float32)
        winner = np.zeros(segments.shape, np.int32)
        inside = []
        for i, each in enumerate(logits):  # one at a time: of all at once there are gigabytes
            p = sigmoid(rows @ each @ columns.T)
            inside.append(np.packbits(p >= 0.5))
            better = scores[i] * p > best
            best[better], winner[better] = (scores[i] * p)[better], i
    for i in range(len(logits)):
        mask = np.unpackbits(inside[i], count=segments.size).reshape(segments.shape).astype(bool)
        own = winner == i
        final = own & mask
        if not final.any() or np.count_nonzero(own) <= overlap * np.count_nonzero(mask):
            continue
        number = of_stuff.get(classes[i])
        if number is None:
            found.append(classes[i])
            values.append(scores[i])
            number = len(found)
            if classes[i] in stuff:
                of_stuff[classes[i]] = number
        segments[final] = number
    return segments, np.asarray(found, np.int32), np.asarray(values, np.float32)
