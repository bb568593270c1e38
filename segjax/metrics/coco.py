"""COCO's average precision and recall, of masks, of boxes and of borders of objects.

The rules are those of the reference (pycocotools): the hundred best of each class and image, from
the highest score on, each take the true object of the largest IoU that is left; a crowd may be
taken again and again, and what took it, or what has another size than is asked for, is left out.
Precision is made falling and read at 101 recalls, over ten IoUs from 0.5 to 0.95.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64, Num

from segjax.metrics import overlap

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
RANGES = {"": (0, 1e10), "s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, 1e10)}
"""Areas in pixels, both ends of them included: all, small, medium and large."""
LIMITS = (1, 10, 100)
"""So many of the best of each class and image are looked at."""
NAMES = (
    "AP",
    "AP50",
    "AP75",
    "APs",
    "APm",
    "APl",
    *(f"AR{n}" for n in LIMITS),
    "ARs",
    "ARm",
    "ARl",
)
"""COCO's twelve numbers, in its order."""
MORE = ("AP50s", "AP50m", "AP50l")
"""AP at an IoU of 0.5 by size."""


class Matches(NamedTuple):
    """What became of the found objects of one class in one image.

    Attributes:
        scores: Of the best of them, falling.
        matched: Which took a true object, by range of area and IoU.
        ignored: Which are left out, likewise.
        truths: How many true objects count, by range of area.
    """

    scores: Float[np.ndarray, " d"]
    matched: Bool[np.ndarray, "a t d"]
    ignored: Bool[np.ndarray, "a t d"]
    truths: Int64[np.ndarray, " a"]


def match(
    ious: Float[np.ndarray, "m n"],
    *,
    scores: Float[np.ndarray, " m"],
    areas: Num[np.ndarray, " m"],
    true_areas: Int64[np.ndarray, " n"],
    crowd: Bool[np.ndarray, " n"],
) -> Matches:
    """Match the objects of one class in one image.

    Args:
        ious: Of found objects (rows) and true ones.
        scores: Of the found ones.
        areas: Of the found ones.
        true_areas: Of the true ones.
        crowd: Which of the true ones are crowds.
    """
    order = np.argsort(-scores, kind="stable")[: LIMITS[-1]]
    ious, areas = ious[order], areas[order]
    low, high = np.array([*RANGES.values()], np.float64).T[..., None]
    left_out = crowd | (true_areas < low) | (true_areas > high)  # [a n]
    matched = np.zeros((len(RANGES), len(IOUS), len(order)), bool)
    ignored = np.zeros_like(matched)
    taken = np.zeros((len(RANGES), len(IOUS), len(crowd)), bool)
    least = np.minimum(IOUS, 1 - 1e-10)[:, None]  # [t 1]
    for d in np.flatnonzero((ious >= least.min()).any(axis=1)).tolist():
        free = (ious[d] >= least) & ~(taken & ~crowd)  # [a t n]
        for of_these in (~left_out, left_out):
            value = np.where(free & of_these[:, None], ious[d], -1.0)
            best = value.shape[-1] - 1 - value[..., ::-1].argmax(axis=-1)  # the last of equal ones
            takes = (value.max(axis=-1) >= 0) & ~matched[..., d]
            ignored[..., d] |= takes & (of_these is left_out)
            matched[..., d] |= takes
            a, t = np.nonzero(takes)
            taken[a, t, best[a, t]] = True
    ignored |= ~matched & ((areas < low) | (areas > high))[:, None]
    return Matches(scores[order].astype(np.float64), matched, ignored, (~left_out).sum(axis=-1))


def match_class(compared: overlap.Compared, number: int, kind: str) -> Matches:
    """Return the matches of class `number` in one image by a kind of IoU.

    That of masks (''), of boxes ('box_') or of borders ('boundary_'). A true box has the area of
    its mask, as COCO has it; a found box has its own.
    """
    truth, found = compared.truth, compared.found
    own, true = found.classes == number, truth.classes == number
    areas: Num[np.ndarray, " m"] = compared.areas[1][own]
    if kind == "box_":
        ious = overlap.box_ious(compared, number)
        low, high = np.split(found.boxes[own].astype(np.float64), 2, axis=1)
        areas = np.prod(high - low, axis=1)
    else:
        pairs = compared.pairs
        ious = overlap.table(compared, number, pairs.boundary if kind == "boundary_" else pairs.iou)
    return match(
        ious,
        scores=found.scores[own],
        areas=areas,
        true_areas=compared.areas[0][true],
        crowd=truth.crowd[true],
    )


class Ranked(NamedTuple):
    """The matches of one class in all images, the highest score first.

    Attributes:
        example: Of which image each found object is, counted from 0.
        place: The how manyth of its class and image it is, from 0.
        matches: As of one image; `truths` [n a] of each.
    """

    example: Int64[np.ndarray, " d"]
    place: Int64[np.ndarray, " d"]
    matches: Matches


def rank(found: Sequence[Matches | None]) -> Ranked:
    """Put the matches of one class in one order; None stands for an image without any."""
    rest = [(i, each) for i, each in enumerate(found) if each is not None]
    counts = [len(each.scores) for _, each in rest]
    scores = np.concatenate([each.scores for _, each in rest] or [np.zeros(0)])
    order = np.argsort(-scores, kind="stable")
    shape = (len(RANGES), len(IOUS), 0)
    flags = [
        np.concatenate(
            [getattr(each, name) for _, each in rest] or [np.zeros(shape, bool)], axis=-1
        )
        for name in ("matched", "ignored")
    ]
    truths = np.zeros((len(found), len(RANGES)), np.int64)
    for i, each in rest:
        truths[i] = each.truths
    example = np.repeat(np.array([i for i, _ in rest], np.int64), counts)
    place = np.concatenate([np.arange(count) for count in counts] or [np.zeros(0, np.int64)])
    matched, ignored = (flag[..., order] for flag in flags)
    return Ranked(example[order], place[order], Matches(scores[order], matched, ignored, truths))


class Curves(NamedTuple):
    """How precision falls as recall grows, of one class.

    Attributes:
        precision: At each IoU and each of `RECALLS`.
        recall: The largest at each IoU.
    """

    precision: Float[np.ndarray, "t r"]
    recall: Float[np.ndarray, " t"]


def curves(
    ranked: Ranked, *, area: str = "", limit: int = 100, weights: np.ndarray | None = None
) -> Curves | None:
    """Return the curves of one class; None where no true object counts.

    Args:
        ranked: Of the class.
        area: Key of `RANGES`.
        limit: How many of the best of each image are looked at.
        weights: How often each image counts; None: once.
    """
    at, matches = [*RANGES].index(area), ranked.matches
    times = np.ones(len(matches.truths), np.int64) if weights is None else weights
    total = int(times @ matches.truths[:, at])
    if not total:
        return None
    kept = ranked.place < limit
    counts = times[ranked.example[kept]] * ~matches.ignored[at][:, kept]
    hits = np.cumsum(counts * matches.matched[at][:, kept], axis=-1).astype(np.float64)
    every = np.cumsum(counts, axis=-1).astype(np.float64)
    recall, precision = hits / total, hits / (every + np.spacing(1))
    falling = np.maximum.accumulate(precision[:, ::-1], axis=-1)[:, ::-1]
    falling = np.concatenate([falling, np.zeros((len(IOUS), 1))], axis=-1)  # beyond the last
    places = np.stack([np.searchsorted(each, RECALLS, side="left") for each in recall])
    most = recall[:, -1] if recall.size else np.zeros(len(IOUS))
    return Curves(np.take_along_axis(falling, places, axis=-1), most)


def scores(
    ranked: Ranked, *, areas: Collection[str] = tuple(RANGES), weights: np.ndarray | None = None
) -> dict[str, float | None]:
    """Return those of `NAMES` and `MORE` of one class that are of `areas`, keys of `RANGES`.

    None where no true object counts.
    """
    found = {area: curves(ranked, area=area, weights=weights) for area in areas}
    values: dict[str, float | None] = {}
    if "" in areas:
        every = found[""]
        few = {n: curves(ranked, limit=n, weights=weights) for n in LIMITS[:-1]}
        values |= {
            "AP": _mean(every, "precision"),
            "AP50": _mean(every, "precision", 0),
            "AP75": _mean(every, "precision", 5),
        }
        values |= {f"AR{n}": _mean(few.get(n, every), "recall") for n in LIMITS}
    for area in (each for each in areas if each):
        values |= {
            f"AP{area}": _mean(found[area], "precision"),
            f"AR{area}": _mean(found[area], "recall"),
            f"AP50{area}": _mean(found[area], "precision", 0),
        }
    return {name: values[name] for name in (*NAMES, *MORE) if name in values}


def average_precision(ranked: Ranked, weights: np.ndarray | None = None) -> float | None:
    """Return the AP of one class alone, see `curves`."""
    return _mean(curves(ranked, weights=weights), "precision")


def _mean(found: Curves | None, name: str, at: int | None = None) -> float | None:
    if found is None:
        return None
    values = getattr(found, name)
    return float(np.mean(values if at is None else values[at]))


def means(per_class: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Return the mean of each number over the classes that have it; None where none has.

    All classes have as many IoUs and recalls, so it is COCO's mean over everything at once.
    """
    names = per_class[0] if per_class else ()
    return {name: mean([each[name] for each in per_class]) for name in names}


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of what is not None; None of nothing."""
    own = [value for value in values if value is not None]
    return float(np.mean(own)) if own else None


def image_values(
    matches: Mapping[int, Matches], classes: Sequence[int], *, least_score: float
) -> Float[np.ndarray, " k"]:
    """Return the AP of each class in one image alone; NaN where it has none.

    It is the AP of a split that consists of this image. A class of which the image has no object
    that counts is 0 where one is found with a score of at least `least_score`, and without a value
    elsewhere: hardly likely ones, of which detectors name many, say nothing of an empty image.
    """
    values = np.full(len(classes), np.nan)
    for i, number in enumerate(classes):
        if number in matches:
            own = matches[number]
            value = average_precision(rank([own]))
            wrong = (~own.ignored[0, 0] & (own.scores >= least_score)).any()
            values[i] = value if value is not None else 0 if wrong else np.nan
    return values


def table(found: Sequence[Curves | None]) -> dict[str, Any]:
    """Return the precision at each of `RECALLS`, at an IoU of 0.5 and on average, for a figure."""
    own = [each for each in found if each is not None]
    if not own:
        return {}
    precision = np.mean([each.precision for each in own], axis=0)
    return {
        "0.5": precision[0].tolist(),
        "0.75": precision[5].tolist(),
        "mean": precision.mean(0).tolist(),
    }
