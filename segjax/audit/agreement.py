"""How far several people agree about the same images: a bound of what a model's scores can mean."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int64, UInt8

from segjax.errors import DataError
from segjax.metrics import boundary
from segjax.structs import IGNORE_LABEL

WORST = 50
"""Images that are listed, those with the least agreement first."""
SCORES = ("iou", "dice", "boundary_f")
Mask = UInt8[np.ndarray, "..."]
"""A class map [*space], or multi-label maps [*space k]."""


class Compared(NamedTuple):
    """Two masks of an image.

    Attributes:
        pixels: Of each class those that both have (row 0), the one (1), the other (2); what either
            calls void is left out.
        boundary: F1 of the borders of each class, see `metrics.boundary.BoundaryF1`; NaN where
            neither has it.
    """

    pixels: Int64[np.ndarray, "3 k"]
    boundary: Float[np.ndarray, " k"]


def compare(one: Mask, other: Mask, num_classes: int, *, multilabel: bool, name: str) -> Compared:
    """Return what two masks of an image have in common.

    Args:
        one: Of a person.
        other: Of another one.
        num_classes: Of the data.
        multilabel: Whether classes overlap, and masks have a map for each.
        name: Of the image, for messages.

    Raises:
        DataError: They are of other sizes.
    """
    if one.shape != other.shape:
        raise DataError(
            f"{name}: masks of {one.shape} and {other.shape}, expected one size. Mend one of them."
        )
    score = boundary.BoundaryF1()
    pixels = np.zeros((3, num_classes), np.int64)
    borders = np.full(num_classes, np.nan)
    valid = (one != IGNORE_LABEL) & (other != IGNORE_LABEL)
    for k in range(num_classes):
        known = valid[..., k] if multilabel else valid
        first, second = (
            known & (mask[..., k] == 1 if multilabel else mask == k) for mask in (one, other)
        )
        pixels[:, k] = (first & second).sum(), first.sum(), second.sum()
        if first.any() and second.any():
            borders[k] = score.value(first, second)
        elif first.any() or second.any():
            borders[k] = 0.0
    return Compared(pixels, borders)


Read = Callable[[str], np.ndarray]
"""Returns a person's mask of an image by its id; raises `DataError` where there is none."""


def summarize(
    people: Mapping[str, Read],
    ids: Sequence[str],
    class_names: Sequence[str],
    *,
    multilabel: bool = False,
    tell: Callable[[int], None],
) -> dict[str, Any]:
    """Return what `audit.json` says of the agreement of people, as plain data.

    IoU and Dice are of all images' pixels together, the F1 of borders is the mean over images that
    have the class. Void of either is left out.

    Args:
        people: What reads each person's masks, by what they are called; two or more.
        ids: Of the images.
        class_names: Of the data.
        multilabel: Whether classes overlap.
        tell: Is told how many images have been compared.
    """
    pairs = list(itertools.combinations(people, 2))
    found: dict[tuple[str, str], list[Compared]] = {pair: [] for pair in pairs}
    worst, alone = [], 0
    for number, own in enumerate(ids):
        every = {name: _mask(read, own) for name, read in people.items()}
        masks = {name: mask for name, mask in every.items() if mask is not None}
        compared = {
            pair: compare(
                masks[pair[0]], masks[pair[1]], len(class_names), multilabel=multilabel, name=own
            )
            for pair in pairs
            if {*pair} <= {*masks}
        }
        for pair, each in compared.items():
            found[pair].append(each)
        alone += not compared
        if compared:
            worst.append({"image": own, "dice": _of_image(compared.values())})
        tell(number + 1)
    worst.sort(key=lambda row: (row["dice"], row["image"]))
    return {
        "annotators": list(people),
        "images": len(ids) - alone,
        "images_of_one": alone,
        "pairs": [
            {"first": one, "second": other, "images": len(found[one, other]),
             "classes": _classes(found[one, other], class_names)}
            for one, other in pairs
        ],
        "least": worst[:WORST],
    }  # fmt: skip


def _mask(read: Read, own: str) -> np.ndarray | None:
    try:
        return read(own)
    except DataError:
        return None


def _of_image(compared: Iterable[Compared]) -> float:
    """Return the mean Dice of an image over pairs and classes; the background alone counts not."""
    pixels = np.array([each.pixels for each in compared], float)
    pixels = pixels[:, :, 1:] if pixels.shape[2] > 1 else pixels
    total = pixels[:, 1] + pixels[:, 2]
    there = total > 0
    return round(float((2 * pixels[:, 0][there] / total[there]).mean()), 4) if there.any() else 1.0


def _classes(compared: Sequence[Compared], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the scores of each class; None of one that nobody has."""
    pixels = sum((each.pixels for each in compared), np.zeros((3, len(class_names)), np.int64))
    rows = []
    for k, name in enumerate(class_names):
        both, one, other = pixels[:, k].tolist()
        borders = np.array([each.boundary[k] for each in compared])
        borders = borders[np.isfinite(borders)]
        scores = (
            (both / (one + other - both), 2 * both / (one + other), float(borders.mean()))
            if one + other
            else (None,) * 3
        )
        rows.append({"name": name, **dict(zip(SCORES, map(_short, scores), strict=True))})
    return rows


def _short(score: float | None) -> float | None:
    return None if score is None else round(score, 4)
