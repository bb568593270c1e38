"""Bring images to the scale that a model expects, the same way in training and evaluation."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from segjax.augment import compose
from segjax.augment.compose import Real
from segjax.errors import ConfigError


def fixed(
    image: Float[Array, "b h w c"] | UInt8[Array, "b h w c"],
    *,
    mean: Sequence[Real],
    std: Sequence[Real],
) -> Float[Array, "b h w c"]:
    """Subtract `mean` and divide by `std`: one number per channel or one for all, for [0, 1].

    uint8 images are brought to [0, 1] first.

    Raises:
        ConfigError: Numbers for another count of channels.
    """
    image = compose.unit_range(image)
    channels = image.shape[-1]
    for name, value in (("mean", mean), ("std", std)):
        if len(value) not in (1, channels):
            raise ConfigError(
                f"normalize:fixed: {name}={tuple(value)!r} has {len(value)} numbers: expected "
                f"{channels}, one per channel of the image, or 1 for all. Change config.normalize."
            )
    if not all(value > 0 for value in std):
        raise ConfigError(f"normalize:fixed: std={tuple(std)!r}: expected numbers > 0. Raise them.")
    return (image - jnp.asarray(mean, image.dtype)) / jnp.asarray(std, image.dtype)


def per_image(
    image: Float[Array, "b h w c"] | UInt8[Array, "b h w c"], *, epsilon: Real = 1e-3
) -> Float[Array, "b h w c"]:
    """Give every image and channel zero mean and unit standard deviation.

    `epsilon`, in units of [0, 1], is added to the standard deviation: a blank image becomes 0.
    """
    if not epsilon > 0:
        raise ConfigError(f"normalize:per_image: epsilon={epsilon}: expected > 0. Raise it.")
    image = compose.unit_range(image)
    centred = image - image.mean((1, 2), keepdims=True)
    return centred / (jnp.sqrt(jnp.mean(centred**2, (1, 2), keepdims=True)) + epsilon)
