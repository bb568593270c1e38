"""Losses on regions, one for each image and class: soft Dice and soft Jaccard.

Each returns `(sum, weight)`: `1 - score` summed over the counted (image, class) pairs, and their
number, which depends on the label alone. So the loss is a sum over images: how they are dealt to
devices or accumulation steps cannot change it, and padding images count nothing. *Batch* Dice pools
the areas of all images before dividing: it has neither property, and images where a class is large
outvote those where it is small. Void pixels are left out of every area, and get no gradient.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from segjax.errors import ConfigError
from segjax.losses import pixel
from segjax.structs import Label, Logits

CLASSES = ("present", "all")


def dice(
    logits: Logits,
    label: Label,
    *,
    smooth: float | int = 1.0,
    classes: str = "present",
    square: bool = False,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the soft Dice loss `1 - (2 sum pg + s) / (sum p + sum g + s)` as (sum, weight).

    p is the softmax probability and g the one-hot label, summed over an image's valid pixels.
    Drozdzal et al. 2016 (arXiv 1608.04117); with `square`, p^2 in the denominator, Milletari et al.
    2016 (V-Net, arXiv 1606.04797).

    Args:
        logits: Any float type; computed in float32 at least.
        label: 0..K-1; all else is void.
        smooth: s above, in pixels.
        classes: 'present' counts the classes that occur in the image's label; 'all' counts every
            class of an image with any valid pixel, so that probability on absent classes costs.
        square: Whether to square the probabilities in the denominator.

    Raises:
        ConfigError: `smooth` or `classes` cannot be used.
    """
    _check_options("dice", smooth=smooth, classes=classes)
    overlap, predicted, actual = _areas(logits, label, square=square)
    score = _ratio(2 * overlap + smooth, predicted + actual + smooth)
    return _sum_pairs(1 - score, actual, classes=classes)


def jaccard(
    logits: Logits, label: Label, *, smooth: float | int = 1.0, classes: str = "present"
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the soft IoU loss `1 - (sum pg + s) / (sum p + sum g - sum pg + s)` as (sum, weight).

    Rahman & Wang 2016 (Optimizing Intersection-Over-Union in Deep Neural Networks for Image
    Segmentation, eq. 3 to 5). Arguments and errors are those of `dice`.
    """
    _check_options("jaccard", smooth=smooth, classes=classes)
    overlap, predicted, actual = _areas(logits, label, square=False)
    score = _ratio(overlap + smooth, predicted + actual - overlap + smooth)
    return _sum_pairs(1 - score, actual, classes=classes)


def _check_options(loss: str, *, smooth: float | int, classes: str) -> None:
    """Raise ConfigError unless the options can be used together."""
    if classes not in CLASSES:
        raise ConfigError(f"{loss}: classes={classes!r}, expected one of {', '.join(CLASSES)}.")
    if not 0 <= smooth < math.inf:
        raise ConfigError(f"{loss}: smooth={smooth!r}, expected a number of pixels >= 0. Try 1.")
    if classes == "all" and smooth == 0:
        raise ConfigError(
            f"{loss}: smooth=0 with classes='all', expected smooth > 0: without it an absent class"
            " scores 0 whatever is predicted. Set smooth=1, or classes='present'."
        )


def _areas(
    logits: Logits, label: Label, *, square: bool
) -> tuple[Float[Array, "b k"], Float[Array, "b k"], Float[Array, "b k"]]:
    """Return overlap, predicted and true area of each image and class, in valid pixels."""
    logits, target, valid = pixel.mask_void(logits, label)
    probs = jnp.where(valid[..., None], jax.nn.softmax(logits), 0)
    overlap = jnp.sum(jnp.where(target, probs, 0), axis=(1, 2))
    predicted = jnp.sum(jnp.square(probs) if square else probs, axis=(1, 2))
    actual = jnp.sum(target, axis=(1, 2), dtype=jnp.int32).astype(probs.dtype)
    return overlap, predicted, actual


def _ratio(above: Float[Array, "b k"], below: Float[Array, "b k"]) -> Float[Array, "b k"]:
    """Divide, with a finite result and gradient where both are 0 (no area and no smooth)."""
    return above / jnp.where(below > 0, below, 1)


def _sum_pairs(
    loss: Float[Array, "b k"], actual: Float[Array, "b k"], *, classes: str
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the loss summed over the counted (image, class) pairs, and their number."""
    counted = actual > 0
    if classes == "all":
        counted = jnp.broadcast_to(jnp.any(counted, axis=-1, keepdims=True), loss.shape)
    number = jnp.sum(counted, dtype=jnp.int32).astype(loss.dtype)
    return jnp.sum(jnp.where(counted, loss, 0)), number
