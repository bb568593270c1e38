"""Bring what a scanner or a sensor measured to one scale, image by image, before it is cut up.

What a value means in a volume or a scene of many bits is decided by the whole image, or by the unit
it is in, and not by the window that the device sees. So it is done on the host, alike in training
and in prediction; images are float32 from there on. `config.input.intensity` lists what is done.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float

from segjax.config import kinds, rules
from segjax.data import core, lazy
from segjax.data.lazy import Lazy
from segjax.errors import ConfigError
from segjax.structs import Example, Schema

SAMPLE = 1 << 24
"""Pixels of an image that is read in parts, from which its own scale is found."""
Percent: TypeAlias = Annotated[kinds.Real, rules.number(0, 100)]
Numbers: TypeAlias = kinds.AnyNumber | Sequence[kinds.AnyNumber]
Pixels: TypeAlias = Float[np.ndarray, "n c"]


class Scale(NamedTuple):
    """How the values of each channel are changed: clipped, then shifted, then multiplied."""

    low: Float[np.ndarray, " c"]
    high: Float[np.ndarray, " c"]
    shift: Float[np.ndarray, " c"]
    factor: Float[np.ndarray, " c"]


Find = Callable[[Pixels], Scale]
"""Finds the scale of an image from its pixels, float64, or from some of them."""


def per_image(values: Pixels, *, nonzero: bool = False, epsilon: kinds.Positive = 1e-6) -> Scale:
    """Give every channel of an image zero mean and unit standard deviation.

    Args:
        values: Of an image.
        nonzero: Pixels that are 0 in all channels do not count, as where nothing was measured.
        epsilon: Added to the standard deviation, in the image's own units.
    """
    inside, endless = _inside(values, nonzero), np.full(values.shape[1], np.inf)
    return Scale(-endless, endless, inside.mean(0), 1 / (inside.std(0) + epsilon))


def percentile(
    values: Pixels, *, low: Percent = 0.5, high: Percent = 99.5, nonzero: bool = False
) -> Scale:
    """Bring two percentiles of every channel to 0 and 1, and clip what lies beyond.

    Args:
        values: Of an image.
        low: Percentage of the pixels that are not above what becomes 0.
        high: Likewise of what becomes 1.
        nonzero: Pixels that are 0 in all channels do not count.

    Raises:
        ConfigError: `low` is not below `high`.
    """
    if not low < high:
        raise ConfigError(
            f"config.input.intensity: low={low} and high={high}; expected low < high."
        )
    least, most = np.percentile(_inside(values, nonzero), [low, high], axis=0)
    return Scale(least, most, least, 1 / np.maximum(most - least, np.finfo(np.float32).tiny))


def window(values: Pixels, *, centre: kinds.AnyNumber, width: kinds.Positive) -> Scale:
    """Show a range of values as 0 to 1, as one looks at Hounsfield units, and clip the rest.

    Args:
        values: Of an image.
        centre: The middle of the range (soft tissue: 40, lung: -600).
        width: Its length (soft tissue: 400, lung: 1500).
    """
    one = np.ones(values.shape[1])
    low = (centre - width / 2) * one
    return Scale(low, low + width, low, one / width)


def fixed(
    values: Pixels,
    *,
    mean: Numbers,
    std: Numbers,
    low: Numbers = -(2**30),
    high: Numbers = 2**30,
) -> Scale:
    """Clip, subtract a mean and divide by a standard deviation: the statistics of a data set.

    The log of a training names those of its images where they have more than 8 bits. nnU-Net takes
    those of the foreground of all CT scans, and clips to their 0.5 and 99.5 percentiles.

    Args:
        values: Of an image.
        mean: Of each channel, or one for all.
        std: Likewise, above 0.
        low: What lies below becomes this; likewise.
        high: What lies above; likewise.

    Raises:
        ConfigError: A standard deviation that is none, or numbers for another count of channels.
    """
    found = []
    for name, each in (("low", low), ("high", high), ("mean", mean), ("std", std)):
        numbers = np.atleast_1d(np.asarray(each, np.float64))
        if len(numbers) not in (1, values.shape[1]) or (name == "std" and numbers.min() <= 0):
            raise ConfigError(
                f"config.input.intensity: {name}={each} for images of {values.shape[1]} channels. "
                f"Give one number{' above 0' * (name == 'std')}, or one for each."
            )
        found.append(np.broadcast_to(numbers, values.shape[1]))
    return Scale(found[0], found[1], found[2], 1 / found[3])


def _inside(values: Pixels, nonzero: bool) -> Pixels:
    """Return the pixels that count; all where none would."""
    found = values[(values != 0).any(1)] if nonzero else values
    return found if len(found) else values


def apply(steps: Sequence[Find], image: np.ndarray | Lazy) -> np.ndarray | Lazy:
    """Return an image [*space c] at the scales that each step finds of what the one before made.

    Of an image that is read in parts so is what comes back, and scales are found from every so
    manyth pixel.

    Returns:
        float32; without steps the image itself.
    """
    return change(image, find_scales(steps, image))


def find_scales(steps: Sequence[Find], image: np.ndarray | Lazy) -> tuple[Scale, ...]:
    """Return the scales of an image, see `apply`."""
    if not steps:
        return ()
    found: list[Scale] = []
    seen = _seen(image).reshape(-1, image.shape[-1])
    for find in steps:
        if found:
            seen = _changed(seen, found[-1])
        found.append(find(seen.astype(np.float64)))
    return tuple(found)


def change(image: np.ndarray | Lazy, scales: Sequence[Scale]) -> np.ndarray | Lazy:
    """Return an image at scales, one after the other."""
    for scale in scales:
        one = functools.partial(_changed, scale=scale)
        image = image.map(one, np.float32) if isinstance(image, Lazy) else one(image)
    return image


def _changed(part: np.ndarray, scale: Scale) -> np.ndarray:
    found = (np.clip(part, scale.low, scale.high) - scale.shift) * scale.factor
    return found.astype(np.float32)


def _seen(image: np.ndarray | Lazy) -> np.ndarray:
    dims = len(image.shape) - 1
    step = math.ceil((math.prod(image.shape[:-1]) / SAMPLE) ** (1 / dims))
    if not isinstance(image, Lazy) or step <= 1:
        return np.asarray(image)
    return lazy.thinned(image, step, dims=dims)


class Scaled(core.View):
    """The examples of `source` with their images at the scales that `steps` find, once for each."""

    def __init__(self, source: core.Source, steps: Sequence[Find]):
        super().__init__(source)
        self.steps = steps
        self._scales: dict[int, tuple[Scale, ...]] = {}
        self.schema = scaled_schema(source.schema, steps)

    def __getitem__(self, index: int) -> Example:
        example = self.source[index]
        if index not in self._scales:
            self._scales[index] = find_scales(self.steps, example["image"])
        return Example(**{**example, "image": change(example["image"], self._scales[index])})


def view(source: core.Source, steps: Sequence[Find]) -> core.Source:
    """Return a source with these steps; itself where there are none."""
    return Scaled(source, steps) if steps else source


def scaled_schema(schema: Schema, steps: Sequence[Find]) -> Schema:
    """Return the schema of examples at a scale."""
    dtype = "float32" if steps else schema["image"].dtype
    return {**schema, "image": dataclasses.replace(schema["image"], dtype=dtype)}
