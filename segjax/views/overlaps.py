"""Multi-label maps as class maps to look at: each combination of classes is a class of its own."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64, Integer, UInt8

from segjax.views.colour import VOID_LABEL, Colour

MOST_CLASSES = 62
"""That a whole number of 64 bits can hold as flags."""
MOST = VOID_LABEL - 1
"""Combinations that have a colour of their own; one more stands for all others."""
NOTHING: Colour = (38, 40, 51)
OTHERS: Colour = (250, 250, 250)

Maps = Integer[np.ndarray, "*space k"]
Pair = tuple[Maps, Maps]


def flatten(
    pairs: Sequence[Pair], palette: Sequence[Colour], class_names: Sequence[str]
) -> tuple[
    list[tuple[UInt8[np.ndarray, "..."], UInt8[np.ndarray, "..."]]], list[Colour], list[str]
]:
    """Return label and prediction as class maps of combinations, with their colours and names.

    A pixel is void where no class of its label is known; a class that is not known there is in
    neither of both, so that they differ exactly where an answer is wrong. Colours of combinations
    are the mean of their classes', the frequent ones come first. Of more than 62 classes those are
    shown that cover most, of more than 254 combinations the most frequent, and the rest as one.

    Args:
        pairs: Label [*space k] (0, 1, 255) and prediction [*space k] (0, 1) of each example.
        palette: One colour per class.
        class_names: One name per class.
    """
    covered = sum((label == 1).reshape(-1, len(class_names)).sum(0) for label, _ in pairs)
    shown = np.sort(np.argsort(-np.asarray(covered), kind="stable")[:MOST_CLASSES])
    codes, counts = [], {}
    for label, pred in pairs:
        known = label[..., shown] <= 1
        void = ~known.any(axis=-1)
        both = [_codes(known & (maps[..., shown] == 1)) for maps in (label, pred)]
        for code in both:
            for value, count in zip(*np.unique(code[~void], return_counts=True), strict=True):
                counts[int(value)] = counts.get(int(value), 0) + int(count)
        codes.append((void, both))
    found = sorted(counts, key=lambda code: -counts[code])
    kept, number = found[:MOST], {code: i for i, code in enumerate(found)}
    order = np.sort(np.array(found or [0], np.int64))
    numbers = np.array([min(number.get(int(code), 0), MOST) for code in order], np.uint8)
    flat = [
        tuple(
            np.where(
                void, VOID_LABEL, numbers[np.minimum(np.searchsorted(order, c), len(order) - 1)]
            ).astype(np.uint8)
            for c in both
        )
        for void, both in codes
    ]
    members = [[int(shown[i]) for i in range(len(shown)) if code >> i & 1] for code in kept]
    colours = [_blend([palette[c] for c in classes]) for classes in members]
    names = [" + ".join(class_names[c] for c in classes) or "none" for classes in members]
    more = len(found) > len(kept)
    return (
        [(label, pred) for label, pred in flat],
        [*colours, *[OTHERS] * more] or [NOTHING],
        [*names, *["other combinations"] * more] or ["none"],
    )


def _codes(flags: Bool[np.ndarray, "*space k"]) -> Int64[np.ndarray, "*space"]:
    """Return which classes are flagged at each pixel, a bit each."""
    code = np.zeros(flags.shape[:-1], np.int64)
    for i in range(flags.shape[-1]):
        code |= flags[..., i].astype(np.int64) << i
    return code


def _blend(colours: Sequence[Colour]) -> Colour:
    """Return the mean of colours; of none, that of nothing."""
    if not colours:
        return NOTHING
    red, green, blue = (sum(shades) // len(colours) for shades in zip(*colours, strict=True))
    return (red, green, blue)
