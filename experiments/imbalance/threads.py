"""Pictures with thin threads that are one pixel in a hundred, on a ground with noise and dust."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from segjax.data import core
from segjax.structs import Example

SPLITS = {"train": 128, "val": 32, "test": 64}
SHARE = 0.01
"""Of the pixels, those of threads: the last of an image is cut off where it is reached."""
SIDE, THREAD, DUST = 128, 30.0, 30
"""Pixels of a side, grey levels of threads above the ground, and specks that are as bright."""


class Source:
    """One split of the pictures; example `i` is a function of the split and `i` alone.

    Args:
        split: `train`, `val` or `test`.
    """

    class_names = ("ground", "thread")
    palette = ((0, 0, 0), (255, 200, 0))
    schema = core.semantic_schema(1)

    def __init__(self, *, split: str):
        self.split, self.number = split, SPLITS[split]

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> Example:
        rng = np.random.default_rng([sorted(SPLITS).index(self.split), index])
        label = draw_threads(rng)
        ground = 25 * _smooth(rng.normal(size=(SIDE, SIDE)), 8) + rng.normal(0, 16, (SIDE, SIDE))
        dust = np.zeros((SIDE, SIDE), bool)
        dust[tuple(rng.integers(0, SIDE, (2, DUST)))] = True
        dust = ndimage.binary_dilation(dust)
        bright = ndimage.gaussian_filter((label | dust).astype(np.float64), 0.6)
        image = np.clip(110 + ground + THREAD * bright, 0, 255).astype(np.uint8)
        name = f"{self.split}/{index}"
        return Example(image=image[..., None], label=label.astype(np.uint8), name=name)


def draw_threads(rng: np.random.Generator) -> np.ndarray:
    """Return a mask of threads two pixels wide, `SHARE` of the pixels; bool [h w]."""
    mask, room = np.zeros((SIDE, SIDE), bool), round(SHARE * SIDE**2)
    while mask.sum() < room:
        place, heading = rng.uniform(0, SIDE, 2), rng.uniform(0, 2 * np.pi)
        for _ in range(int(rng.integers(40, 120))):
            _stamp(mask, place)
            heading += rng.normal(0, 0.15)
            place = place + [np.sin(heading), np.cos(heading)]
            if mask.sum() >= room or not (0 <= place.min() and place.max() < SIDE):
                break
    return mask


def _stamp(mask: np.ndarray, place: Sequence[float]) -> None:
    y, x = (int(at) for at in place)
    mask[y : y + 2, x : x + 2] = True


def _smooth(noise: np.ndarray, sigma: float) -> np.ndarray:
    """Return noise without what is finer than `sigma` pixels, of unit deviation."""
    found = ndimage.gaussian_filter(noise, sigma, mode="wrap")
    return found / found.std()
