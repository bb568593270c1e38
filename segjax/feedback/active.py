"""Choose the images that a person should label next: unsure ones that differ from each other.

Greedy, in the manner of core-sets (Sener and Savarese 2018) weighted by uncertainty: the next image
has the largest product of its mean entropy and its distance to all that is chosen or labelled.
"""

import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from segjax.data.decode import Reading
from segjax.errors import ConfigError, DataError
from segjax.evaluators.report import Scored
from segjax.inference import folder
from segjax.inference.layout import Layout
from segjax.runtime import files

GRID = 4
"""An image's description has the mean of each class and channel in so many cells along an axis."""


class Seen(NamedTuple):
    """What is known of an image.

    Attributes:
        file: The image.
        uncertainty: The mean over its pixels of the entropy of the predicted classes, in nats.
        place: Its description.
    """

    file: pathlib.Path
    uncertainty: float
    place: Float[np.ndarray, " d"]


class Pick(NamedTuple):
    """An image to label.

    Attributes:
        file: The image.
        uncertainty: See `Seen`.
        distance: To the nearest that is labelled or was picked before; of the first pick without
            labelled ones, to the mean of all.
    """

    file: pathlib.Path
    uncertainty: float
    distance: float


def see(
    files: Iterable[pathlib.Path],
    *,
    predictor: Scored,
    layout: Layout,
    reading: Reading,
    tell: Callable[[str], None],
    done: Callable[[int], None],
) -> list[Seen]:
    """Describe images by what a model says of them; those that cannot be read are told.

    Raises:
        ConfigError: The model finds objects, and has no probabilities of classes.
    """
    if not hasattr(predictor, "tiles"):
        raise ConfigError("--mode=active needs probabilities of classes; this run finds objects.")
    found = []
    for number, file in enumerate(files, start=1):
        try:
            image, _, _ = folder.open_scaled(file, layout, reading, ())
            found.append(_describe(file, image, predictor))
        except DataError as error:
            tell(f"skipped: {error}")
        done(number)
    return found


def _describe(file: pathlib.Path, image: Any, predictor: Any) -> Seen:
    probabilities: Any = None
    for region, part in predictor.tiles(image, probabilities=True):
        if probabilities is None:
            probabilities = np.empty((*image.shape[:-1], part.shape[-1]), np.float32)
        probabilities[region] = part
    shares = np.clip(probabilities, 1e-12, 1)
    entropy = float(-(shares * np.log(shares)).sum(axis=-1).mean())
    pixels = np.asarray(image).astype(np.float32)
    place = np.concatenate([_cells(probabilities).ravel(), _cells(pixels).ravel()])
    return Seen(file, entropy, place)


def _cells(array: np.ndarray) -> np.ndarray:
    """Return the means in `GRID` cells along each axis in space."""
    for axis in range(array.ndim - 1):
        parts = np.array_split(array, min(GRID, array.shape[axis]), axis=axis)
        means = [part.mean(axis=axis, keepdims=True) for part in parts]
        means += [means[-1]] * (GRID - len(means))
        array = np.concatenate(means, axis=axis)
    return array


def choose(
    seen: Sequence[Seen], count: int, *, labelled: Sequence[Seen] = (), diversity: float = 1.0
) -> list[Pick]:
    """Return the images to label, the most useful first.

    Args:
        seen: Candidates; of those that are exactly alike only one is ever chosen.
        count: The most to choose.
        labelled: Those that need no more labels.
        diversity: The power of the distance; 0: by uncertainty alone.
    """
    if not seen:
        return []
    places = np.stack([each.place for each in (*seen, *labelled)]).astype(np.float64)
    spread = places.std(axis=0)
    places = (places - places.mean(axis=0)) / np.where(spread > 1e-9, spread, 1)
    own, others = places[: len(seen)], places[len(seen) :]
    unsure = np.array([each.uncertainty for each in seen])
    distance = np.linalg.norm(own, axis=1)  # to the mean of all
    if len(others):
        distance = np.full(len(seen), np.inf)
        for other in others:
            distance = np.minimum(distance, np.linalg.norm(own - other, axis=1))
    picks: list[Pick] = []
    left = np.ones(len(seen), bool)
    while len(picks) < count and left.any():
        score = np.where(left, (unsure + 1e-9) * (distance + 1e-9) ** diversity, -1)
        best = int(np.argmax(score))
        picks.append(Pick(seen[best].file, float(unsure[best]), float(distance[best])))
        to_it = np.linalg.norm(own - own[best], axis=1)
        first = len(picks) == 1 and not len(others)
        distance = to_it if first else np.minimum(distance, to_it)
        left &= to_it > 1e-9
    return picks


def write(path: pathlib.Path, picks: Sequence[Pick]) -> None:
    """Write a table of picks, CSV with a header.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    rows = [[number, *map(str, pick)] for number, pick in enumerate(picks, start=1)]
    files.write_csv(path, [["rank", "file", "uncertainty", "distance"], *rows])
