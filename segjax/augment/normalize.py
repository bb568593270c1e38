"""Bring images to the scale that a model expects, the same way in training and evaluation."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from segjax.augment import compose
from segjax.augment.compose import Fill, Real
from segjax.errors import ConfigError


def fixed(
    image: Float[Array, "b h w c"] | UInt8[Array, "b h w c"], *, mean: Fill, std: Fill
) -> Float[Array, "b h w c"]:
    """Subtract `mean` and divide by `std`: one number per channel or one for all, for [0, 1].

    uint8 images are brought to [0, 1] first.

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
    image: Float[Array, "b h w c"] | UInt8[Array, "b h w c"], *, epsilon: Real = 1e-3
) -> Float[Array, "b h w c"]:
    """Give every image and channel zero mean and unit standard deviation.

    `epsilon`, in units of [0, 1], is added to the standard deviation: a blank image becomes 0.
    """
    compose.check_number("normalize:per_image epsilon", epsilon, lowest=1e-9)
    image = compose.unit_range(image)
    centred = image - image.mean((1, 2), keepdims=True)
    return centred / (jnp.sqrt(jnp.mean(centred**2, (1, 2), keepdims=True)) + epsilon)
