"""Distances of surfaces by DeepMind's surface-distance, of random masks and of few pixels."""

import functools
import itertools
from typing import Any

import numpy as np

from tests.golden.outside import theirs
from tests.outside import recorded

PACKAGES = ("surface-distance",)
CASES: theirs.Cases = {}
TOLERANCES = (0.0, 0.5, 1.0, 2.5)
PERCENTS = (50.0, 95.0, 100.0)
SPACINGS = {2: ((1.0, 1.0), (0.5, 2.0)), 3: ((1.0, 1.0, 1.0), (2.5, 0.7, 1.1))}
DENSITIES = (-1.4, -0.5, 0.9)
"""What noise between -1.74 and 1.74 must exceed: most pixels, many, few."""


def library() -> Any:
    """Return it; it was written for NumPy 1 and an older SciPy, whose names it needs back."""
    from scipy import ndimage

    for module, name, value in (
        (np, "Inf", np.inf), (ndimage, "filters", ndimage), (ndimage, "morphology", ndimage),
    ):  # fmt: skip
        if not hasattr(module, name) or name != "Inf":
            setattr(module, name, value)
    import surface_distance

    return surface_distance


def compare(truth: np.ndarray, pred: np.ndarray, spacing: tuple[float, ...]) -> recorded.Case:
    """Return the case of two masks."""
    package = library()
    with np.errstate(invalid="ignore"):
        found = package.compute_surface_distances(truth, pred, spacing)
        robust = [package.compute_robust_hausdorff(found, percent) for percent in PERCENTS]
        dice = [package.compute_surface_dice_at_tolerance(found, t) for t in TOLERANCES]
        average = package.compute_average_surface_distance(found)
    about = {"spacing": spacing, "percents": PERCENTS, "tolerances": TOLERANCES}
    areas = [found["surfel_areas_gt"].sum(), found["surfel_areas_pred"].sum()]
    return theirs.function(
        about, truth=truth, pred=pred, robust=robust, dice=dice, average=average, areas=areas
    )


def noisy(name: str, shape: tuple[int, ...], level: float) -> np.ndarray:
    """Return a mask of noise."""
    return recorded.noise(name, shape) > level


def random(number: int, axes: int, spacing: tuple[float, ...], level: float) -> recorded.Case:
    """Return the case of two masks of noise, the prediction like the truth but for some pixels."""
    shape = ((7, 9), (4, 5, 6))[axes - 2]
    truth = noisy(f"truth {number}", shape, level)
    pred = truth ^ noisy(f"flipped {number}", shape, 1.2)
    return compare(truth, pred, spacing)


for number, (axes, _, level) in enumerate(itertools.product((2, 3), range(3), DENSITIES)):
    for spacing in SPACINGS[axes]:
        made = functools.partial(random, number, axes, spacing, level)
        CASES[f"surfaces-{axes}d-{number}-{spacing[0]}"] = made


def pixels(*places: tuple[int, ...]) -> np.ndarray:
    """Return a mask of single pixels, in 2-D or 3-D as their numbers say."""
    mask = np.zeros((5, 6, 4)[: len(places[0])], bool)
    for place in places:
        mask[place] = True
    return mask


FEW = {
    "one": (pixels((1, 1)), pixels((3, 4))),
    "corner": (pixels((0, 0)), pixels((4, 5))),
    "diagonal": (pixels((1, 1), (2, 2)), pixels((1, 2), (2, 1))),
    "same": (pixels((2, 3)), pixels((2, 3))),
    "full": (np.ones((5, 6), bool), pixels((0, 3))),
    "one-3d": (pixels((1, 1, 1)), pixels((3, 4, 3))),
    "full-3d": (np.ones((5, 6, 4), bool), ~pixels((2, 2, 2))),
}
EMPTY = {
    "no-truth": (~np.ones((5, 6), bool), pixels((1, 1))),
    "no-pred": (pixels((1, 1)), ~np.ones((5, 6), bool)),
    "neither": (~np.ones((5, 6), bool), ~np.ones((5, 6), bool)),
}
CASES |= {
    f"surfaces-{name}": functools.partial(compare, *masks, SPACINGS[masks[0].ndim][1])
    for name, masks in FEW.items()
}
CASES |= {
    f"empty-{name}": functools.partial(compare, *masks, SPACINGS[2][0])
    for name, masks in EMPTY.items()
}
