"""Numbers that describe one image and what was predicted of it, on a sample of its pixels.

They take milliseconds, whatever the image's size, and any number of axes in space.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from segjax.structs import IGNORE_LABEL

PIXELS = 1 << 14
"""About so many pixels of an image are looked at."""
SIDES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
FEW_CHANNELS = 8
"""Images of more channels have no statistic for each."""
_TINY = 1e-6


def of_image(image: Shaped[np.ndarray, "*space c"]) -> dict[str, float]:
    """Return what describes an image, in its own units.

    `input/brightness` is the mean, `input/contrast` the standard deviation, `input/channel<i>` how
    far a channel's mean is from that of all, `input/saturation` the mean range over channels.
    `input/sharpness` is the logarithm of the mean size of second differences along the axes,
    `input/noise` that of their median (after Immerkær 1996): edges move the mean, noise both.
    `input/fineness` is by how much the logarithm of the mean is below that of pixels two apart:
    what an optic or a codec keeps of fine detail, whatever the scene's contrast.
    `input/tilt_<side>` is how much brighter the second half is than the first along an axis.

    Args:
        image: One to three axes in space.
    """
    space = image.shape[:-1]
    found = {
        f"input/{name}": float(side) for name, side in zip(SIDES[len(space)], space, strict=True)
    }
    pixels = _sample(image, len(space)).reshape(-1, image.shape[-1]).astype(np.float32)
    if not len(pixels):
        return found
    means = pixels.mean(axis=0)
    found |= {"input/brightness": float(means.mean()), "input/contrast": float(pixels.std())}
    if 1 < len(means) <= FEW_CHANNELS:
        spread = means - means.mean()
        found |= {f"input/channel{number}": float(mean) for number, mean in enumerate(spread)}
        found["input/saturation"] = float(np.ptp(pixels, axis=1).mean())
    found |= {
        f"input/tilt_{side}": _tilt(image, axis) for axis, side in enumerate(SIDES[len(space)])
    }
    steps, wide = (
        np.concatenate([_second_differences(image, axis, apart) for axis in range(len(space))])
        for apart in (1, 2)
    )
    if steps.size:
        found["input/sharpness"] = math.log(float(steps.mean()) + _TINY)
        found["input/noise"] = math.log(float(np.median(steps)) + 0.1)
    if wide.size:
        found["input/fineness"] = math.log((float(steps.mean()) + 0.1) / (float(wide.mean()) + 0.1))
    return {name: value for name, value in found.items() if math.isfinite(value)}


def of_classes(classes: UInt8[np.ndarray, "..."], class_names: Sequence[str]) -> dict[str, float]:
    """Return what describes a predicted class map [*space] or a multi-label one [*space k].

    `output/area/<class>` is a class's share of the pixels, `output/boundary` the share of
    neighbours along the last axis whose classes differ.
    """
    number = len(class_names)
    several = classes.ndim > 1 and classes.shape[-1] == number and int(classes.max(initial=0)) <= 1
    seen = _sample(classes, classes.ndim - several)
    if several:
        areas = (seen.reshape(-1, number) == 1).mean(axis=0)
    else:
        valid = seen[seen != IGNORE_LABEL]
        areas = np.bincount(valid.ravel(), minlength=number)[:number] / max(1, valid.size)
    rows = np.moveaxis(classes, -1 - several, 0)
    rows = rows if several else rows[..., None]
    lines = _thin(np.moveaxis(rows, 0, -2), axes=rows.ndim - 2)
    changes = (lines[..., 1:, :] != lines[..., :-1, :]).any(axis=-1)
    found = {
        f"output/area/{name}": float(area) for name, area in zip(class_names, areas, strict=True)
    }
    return found | ({"output/boundary": float(changes.mean())} if changes.size else {})


def of_probabilities(probabilities: Float[np.ndarray, "*space k"]) -> dict[str, float]:
    """Return how sure a prediction is, 0 to 1.

    `output/confidence` is the mean probability of the likeliest class, `output/entropy` the mean
    entropy as a share of its largest value.
    """
    seen = _sample(probabilities, probabilities.ndim - 1).reshape(-1, probabilities.shape[-1])
    shares = np.clip(seen.astype(np.float32), 1e-12, 1)
    entropy = -(shares * np.log(shares)).sum(axis=-1) / math.log(max(2, shares.shape[-1]))
    return {
        "output/confidence": float(shares.max(axis=-1).mean()),
        "output/entropy": float(entropy.mean()),
    }


def _sample(array: np.ndarray, axes: int) -> np.ndarray:
    """Return about `PIXELS` pixels, evenly spread over the first `axes` axes."""
    step = max(1, round((math.prod(array.shape[:axes]) / PIXELS) ** (1 / max(1, axes))))
    return np.asarray(array[tuple(slice(step // 2, None, step) for _ in range(axes))])


def _thin(lines: np.ndarray, *, axes: int) -> np.ndarray:
    """Return whole lines along the axis behind the first `axes`, as many as `PIXELS` pixels are."""
    count, length = math.prod(lines.shape[:axes]), lines.shape[axes]
    step = max(1, round((count * length / PIXELS) ** (1 / max(1, axes))))
    return np.asarray(lines[tuple(slice(step // 2 if step < side else 0, None, step)
                                  for side in lines.shape[:axes])])  # fmt: skip


def _tilt(image: np.ndarray, axis: int) -> float:
    """Return the mean of the second half along an axis minus that of the first, on a sample."""
    seen = np.moveaxis(_sample(image, image.ndim - 1), axis, 0)
    middle = len(seen) // 2
    if not middle or not seen.size:
        return math.nan
    return float(seen[-middle:].mean(dtype=np.float64) - seen[:middle].mean(dtype=np.float64))


def _second_differences(image: np.ndarray, axis: int, apart: int) -> np.ndarray:
    """Return the sizes of second differences of pixels so far apart along an axis, flat."""
    lines = _thin(np.moveaxis(image, axis, -2), axes=image.ndim - 2).astype(np.float32)
    ahead, here, behind = lines[..., 2 * apart :, :], lines[..., apart:-apart, :], lines
    return np.abs(ahead - 2 * here + behind[..., : -2 * apart, :]).ravel()
