"""Bring images to the scale that a model expects, the same way in training and evaluation."""

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from segjax.augment import compose
from segjax.augment.sample import Fill
from segjax.config import kinds, rules

Positive: TypeAlias = Annotated[kinds.Real, rules.number(1e-9)]
Deviation: TypeAlias = Positive | Sequence[Positive]


def fixed(
    image: Shaped[Array, "b *space c"], *, mean: Fill, std: Deviation
) -> Float[Array, "b *space c"]:
    """Subtract `mean` and divide by `std`: one number per channel or one for all.

    They are for images in [0, 1], to which unsigned whole numbers are brought first, or in the
    units of signed ones, see `compose.unit_range`.

    Raises:
        ConfigError: Numbers for another count of channels.
    """
    image = compose.unit_range(image)
    compose.check_channels("normalize:fixed mean", mean, image.shape[-1])
    compose.check_channels("normalize:fixed std", std, image.shape[-1])
    return (image - jnp.asarray(mean, image.dtype)) / jnp.asarray(std, image.dtype)


def per_image(
    image: Shaped[Array, "b *space c"], *, epsilon: Positive = 1e-3
) -> Float[Array, "b *space c"]:
    """Give every image and channel zero mean and unit standard deviation.

    `epsilon`, in the units of `compose.unit_range`, is added to the standard deviation: a blank
    image becomes 0.
    """
    image = compose.unit_range(image)
    space = tuple(range(1, image.ndim - 1))
    centred = image - image.mean(space, keepdims=True)
    return centred / (jnp.sqrt(jnp.mean(centred**2, space, keepdims=True)) + epsilon)
