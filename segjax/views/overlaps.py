"""Multi-label maps as class maps to look at: each combination of classes is a class of its own."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Integer, UInt, UInt8

from segjax.runtime import memory
from segjax.views.colour import VOID_LABEL, Colour

MOST_CLASSES = 62
"""That a whole number of 64 bits can hold as flags."""
MOST = VOID_LABEL - 1
"""Combinations that have a colour of their own; one more stands for all others."""
NOTHING: Colour = (38, 40, 51)
OTHERS: Colour = (250, 250, 250)

Maps = Integer[np.ndarray, "*space k"]
Flat = UInt8[np.ndarray, "*space"]


class Flattened(NamedTuple):
    """Class maps of combinations.

    Attributes:
        pairs: Label and prediction of each example, 255 where void.
        palette: A colour for each combination, the mean of its classes'.
        legend: The names of what occurs, with their colours.
    """

    pairs: list[tuple[Flat, Flat]]
    palette: list[Colour]
    legend: dict[str, Colour]


def flatten(
    pairs: Sequence[tuple[Maps, Maps]], palette: Sequence[Colour], class_names: Sequence[str]
) -> Flattened:
    """Return labels and predictions as class maps of combinations.

    A pixel is void where no class of its label is known; a class that is not known there is in
    neither of both, so that they differ exactly where an answer is wrong. Of more than 62 classes
    those are shown that cover most of the labels, of more than 254 combinations the most frequent,
    and the rest as one.

    Args:
        pairs: Label [*space k] (0, 1, 255) and prediction [*space k] (0, 1) of each example.
        palette: One colour per class.
        class_names: One name per class.
    """
    covered = np.zeros(len(class_names), np.int64)
    for label, _ in pairs:
        covered += (label == 1).reshape(-1, len(class_names)).sum(0)
    shown = np.sort(np.argsort(-covered, kind="stable")[:MOST_CLASSES])
    voids, codes = [], []
    for label, pred in pairs:
        known = label[..., shown] <= 1
        voids.append(~known.any(axis=-1))
        first = _codes(known & (label[..., shown] == 1))
        codes.append((first, first if pred is label else _codes(known & (pred[..., shown] == 1))))
    found = _by_frequency(
        [code[~void] for void, both in zip(voids, codes, strict=True) for code in both]
    )
    flat = [
        (_numbers(label, found, void), _numbers(pred, found, void))
        for void, (label, pred) in zip(voids, codes, strict=True)
    ]
    members = [[int(shown[i]) for i in range(len(shown)) if code >> i & 1] for code in found]
    colours = [_blend([palette[c] for c in classes]) for classes in members[:MOST]]
    several = [colour for colour, classes in zip(colours, members, strict=False) if classes[1:]]
    occur = sorted({c for classes in members for c in classes})
    legend = {"none": NOTHING} | {class_names[c]: palette[c] for c in occur}
    legend |= {"several: mixed": several[0]} if several else {}
    if len(found) > MOST:
        colours, legend = [*colours, OTHERS], legend | {"rare combinations": OTHERS}
    return Flattened(flat, colours or [NOTHING], legend)


def _codes(flags: Bool[np.ndarray, "*space k"]) -> UInt[np.ndarray, "*space"]:
    """Return which classes are flagged at each pixel, a bit each, in as few bytes as hold them."""
    dtype = np.min_scalar_type((1 << flags.shape[-1]) - 1)
    code = np.zeros(flags.shape[:-1], dtype)
    for i in range(flags.shape[-1]):
        code |= flags[..., i].astype(dtype) << dtype.type(i)
    return code


def _by_frequency(codes: Sequence[UInt[np.ndarray, " n"]]) -> list[int]:
    """Return the codes that occur, the most frequent first."""
    counts: dict[int, int] = {}
    for part in codes:
        for code, count in zip(*np.unique(part, return_counts=True), strict=True):
            counts[int(code)] = counts.get(int(code), 0) + int(count)
    return sorted(counts, key=lambda code: -counts[code])


def _numbers(
    code: UInt[np.ndarray, "*space"], found: Sequence[int], void: Bool[np.ndarray, "*space"]
) -> Flat:
    """Return each pixel's place in `found`, one for all behind `MOST`; 255 where void."""
    order = np.argsort(found, kind="stable") if found else np.zeros(1, np.int64)
    known, number = np.array(found or [0], code.dtype)[order], np.empty(code.shape, np.uint8)
    for rows in memory.rows(code.shape):
        at = np.minimum(np.searchsorted(known, code[rows]), len(order) - 1)
        number[rows] = np.where(void[rows], VOID_LABEL, np.minimum(order[at], MOST))
    return number


def _blend(colours: Sequence[Colour]) -> Colour:
    """Return the mean of colours; of none, that of nothing."""
    if not colours:
        return NOTHING
    red, green, blue = (sum(shades) // len(colours) for shades in zip(*colours, strict=True))
    return (red, green, blue)
