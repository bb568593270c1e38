"""Bring images to the scale that a model expects, the same way in training and evaluation."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from segjax.augment import compose
from segjax.augment.compose import Fill, Real
from segjax.errors import ConfigError


def fixed(
    image: Shaped[Array, "b *space c"], *, mean: Fill, std: Fill
) -> Float[Array, "b *space c"]:
    """Subtract `mean` and divide by `std`: one number per channel or one for all.

    They are for images in [0, 1], to which unsigned whole numbers are brought first, or in the
    units of signed ones, see `compose.unit_range`.

    Raises:
        ConfigError: Numbers for another count of channels, or a deviation that is not > 0.
    """
    image = compose.unit_range(image)
    compose.check_channels("normalize:fixed mean", mean, image.shape[-1])
    compose.check_channels("normalize:fixed std", std, image.shape[-1])
    if not np.all(np.asarray(std) > 0):
        raise ConfigError(f"normalize:fixed std={std!r}: expected numbers > 0. Raise them.")
    return (image - jnp.asarray(mean, image.dtype)) / jnp.asarray(std, image.dtype)


def per_image(
    image: Shaped[Array, "b *space c"], *, epsilon: Real = 1e-3
) -> Float[Array, "b *space c"]:
    """Give every image and channel zero mean and unit standard deviation.

    `epsilon`, in the units of `compose.unit_range`, is added to the standard deviation: a blank
    image becomes 0.
    """
    compose.check_number("normalize:per_image epsilon", epsilon, lowest=1e-9)
    image = compose.unit_range(image)
    space = tuple(range(1, image.ndim - 1))
    centred = image - image.mean(space, keepdims=True)
    return centred / (jnp.sqrt(jnp.mean(centred**2, space, keepdims=True)) + epsilon)
