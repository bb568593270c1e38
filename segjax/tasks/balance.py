"""Weights of classes from how much of each there is, for losses that take `class_weights`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from segjax.config import lookup, rules
from segjax.errors import ConfigError
from segjax.structs import Amounts

KEY = "class_weights"


def inverse(amounts: Amounts) -> Float[np.ndarray, " k"]:
    """Weigh each class by one over its share of the pixels: all count alike, however rare."""
    return 1 / np.maximum(_shares(amounts), 1e-30)


def inverse_sqrt(amounts: Amounts) -> Float[np.ndarray, " k"]:
    """Weigh by one over the square root of the share, between `inverse` and no weights at all."""
    return np.sqrt(inverse(amounts))


def median_frequency(amounts: Amounts) -> Float[np.ndarray, " k"]:
    """Weigh by the median frequency over the class's own (Eigen and Fergus 2015, section 4.3.2).

    A class's frequency is its share of the pixels of those images that have it.
    """
    frequency = np.array(amounts.pixels, float) / np.maximum(amounts.around, 1)
    there = frequency > 0
    return np.median(frequency[there]) / np.maximum(frequency, 1e-30)


def effective_number(amounts: Amounts) -> Float[np.ndarray, " k"]:
    """Weigh by one over the effective number of samples (Cui et al. 2019, equation 2).

    (1 - b) / (1 - b^n) with n the images that have the class, as the pixels of one image are hardly
    samples of their own, and b = (N - 1) / N of N images.
    """
    n = np.array(amounts.images, float)
    b = 1 - 1 / max(2, amounts.examples)
    return (1 - b) / np.maximum(1 - b**n, 1e-30)


SCHEMES: Mapping[str, Callable[[Amounts], np.ndarray]] = {
    "inverse": inverse,
    "inverse_sqrt": inverse_sqrt,
    "median_frequency": median_frequency,
    "effective_number": effective_number,
}
"""By the name that a loss's `class_weights` may have in place of numbers."""


def weights(name: str, amounts: Amounts) -> list[float]:
    """Return one weight for each class, of mean 1 over those that occur; 1 for those that do not.

    Raises:
        ConfigError: There is no such scheme.
    """
    found = SCHEMES[lookup.choose(name, list(SCHEMES), what=KEY)](amounts)
    there = np.array(amounts.pixels) > 0
    found = np.where(there, found / found[there].mean(), 1.0)
    return [float(f"{weight:.6g}") for weight in found]


def numbered(section: Mapping[str, Any], amounts: Amounts | None, *, where: str) -> dict[str, Any]:
    """Return the section of a loss with numbers where its `class_weights` name a scheme.

    Raises:
        ConfigError: There is no such scheme, or the task does not know how much of each class the
            data has.
    """
    found = dict(section)
    name = found.get(KEY)
    if not isinstance(name, str):
        return found
    if name not in SCHEMES:
        raise ConfigError(
            f"{where}.{KEY}={rules.shown(name)}: expected one number for each class, or one of "
            f"{', '.join(SCHEMES)}. Change it, or leave it out for 1 each."
        )
    if amounts is None:
        raise ConfigError(
            f"{where}.{KEY}={name!r}: the task's answers are not the classes of the data, or these "
            "were not counted. Give a number for each."
        )
    return found | {KEY: weights(name, amounts)}


def is_named(losses: Any) -> bool:
    """Return whether some loss of `config.task.losses` names a scheme, so that pixels count."""
    listed = losses if isinstance(losses, Sequence) and not isinstance(losses, str) else ()
    named = [each.get(KEY) for each in listed if isinstance(each, Mapping)]
    return any(isinstance(name, str) and name in SCHEMES for name in named)


def _shares(amounts: Amounts) -> Float[np.ndarray, " k"]:
    pixels = np.array(amounts.pixels, float)
    return pixels / max(1.0, pixels.sum())
