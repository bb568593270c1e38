"""A conditional random field on an image: neighbours, and above all those alike, share a class.

Mean-field inference of Krähenbühl and Koltun, Efficient Inference in Fully Connected CRFs with
Gaussian Edge Potentials (2011), equations 3 and 6 with the Potts model and symmetric normalisation
of the kernels. Each pixel's neighbours are those of a window, which may be dilated, instead of all
pixels, as in Teichmann and Cipolla, Convolutional CRFs for Semantic Segmentation (2018): a window
that covers the image makes it fully connected.
"""

import functools
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Num

LEAST = 1e-8
"""No class is taken to be less probable than this."""
MULTIPLE = 64
"""Images are padded with void to multiples of it, so that few sizes are compiled."""


class Field(NamedTuple):
    """How strongly pixels pull at each other, and how far.

    Attributes:
        smooth_weight: Of the kernel of positions alone, exp(-|p - q|² / 2 smooth_std²).
        smooth_std: In pixels.
        colour_weight: Of the kernel exp(-|p - q|² / 2 position_std² - |x - y|² / 2 colour_std²).
        position_std: In pixels.
        colour_std: In standard deviations of the image's values.
    """

    smooth_weight: float
    smooth_std: float
    colour_weight: float
    position_std: float
    colour_std: float


def mean_field(
    probabilities: Float[np.ndarray, "*space k"],
    image: Num[np.ndarray, "*space c"],
    valid: Bool[np.ndarray, "*space"],
    *,
    field: Field,
    radius: int,
    dilation: int,
    iterations: int,
) -> Float[np.ndarray, "*space k"]:
    """Return the probabilities after some rounds of messages between neighbours.

    Args:
        probabilities: Of each class.
        image: Of any type; its values are divided by their standard deviation.
        valid: Pixels that are not void. Others neither give nor take: they keep what they have.
        field: The kernels.
        radius: A window has 2 radius + 1 pixels along each axis.
        dilation: They are so far apart.
        iterations: How many rounds.
    """
    colours = image.astype(np.float32)
    spread = float(colours.std()) or 1.0
    more = [(0, -side % MULTIPLE) for side in valid.shape]
    found = _mean_field(
        np.pad(probabilities.astype(np.float32), [*more, (0, 0)]),
        np.pad(colours / spread, [*more, (0, 0)]),
        np.pad(valid, more),
        jnp.asarray(field, jnp.float32),
        radius=radius, dilation=dilation, iterations=iterations,
    )  # fmt: skip
    inside = tuple(slice(side) for side in valid.shape)
    return np.where(valid[..., None], np.asarray(found)[inside], probabilities)


@functools.partial(jax.jit, static_argnames=("radius", "dilation", "iterations"))
def _mean_field(
    probabilities: Float[Array, "*space k"],
    image: Float[Array, "*space c"],
    valid: Bool[Array, "*space"],
    field: Float[Array, " 5"],
    *,
    radius: int,
    dilation: int,
    iterations: int,
) -> Float[Array, "*space k"]:
    space, reach = valid.shape, radius * dilation
    smooth_weight, smooth_std, colour_weight, position_std, colour_std = field
    around = itertools.product(range(-radius, radius + 1), repeat=len(space))
    offsets = jnp.asarray([each for each in around if any(each)]) * dilation

    def padded(x: Array) -> Array:
        return jnp.pad(x, [(reach, reach)] * len(space) + [(0, 0)] * (x.ndim - len(space)))

    def shifted(x: Array, offset: Array) -> Array:
        """Return each pixel's neighbour at an offset, of an array that is `padded`."""
        start = [*(offset + reach), *[0] * (x.ndim - len(space))]
        return lax.dynamic_slice(x, start, (*space, *x.shape[len(space) :]))

    wide_image, wide_valid = padded(image), padded(valid)

    def kernels(offset: Array) -> tuple[Array, Array]:
        """Return both kernels between each pixel and its neighbour; 0 where one is void."""
        distance = jnp.sum(jnp.square(offset.astype(jnp.float32)))
        colour = jnp.sum(jnp.square(shifted(wide_image, offset) - image), axis=-1)
        both = valid & shifted(wide_valid, offset)
        smooth = jnp.exp(-distance / (2 * smooth_std**2))
        alike = jnp.exp(-distance / (2 * position_std**2) - colour / (2 * colour_std**2))
        return jnp.where(both, smooth, 0), jnp.where(both, alike, 0)

    def add_norms(sums: tuple[Array, Array], offset: Array) -> tuple[tuple[Array, Array], None]:
        smooth, alike = kernels(offset)
        return (sums[0] + smooth, sums[1] + alike), None

    nothing = jnp.zeros(space, jnp.float32)
    sums = lax.scan(add_norms, (nothing, nothing), offsets)[0]
    norms = [lax.rsqrt(jnp.maximum(each, math.ulp(1.0))) for each in sums]
    wide_norms = [padded(norm) for norm in norms]

    def round_of_messages(number: int, q: Array) -> Array:
        del number
        wide_q = padded(jnp.where(valid[..., None], q, 0))

        def add(message: Array, offset: Array) -> tuple[Array, None]:
            smooth, alike = kernels(offset)
            weight = smooth_weight * smooth * norms[0] * shifted(wide_norms[0], offset)
            weight += colour_weight * alike * norms[1] * shifted(wide_norms[1], offset)
            return message + weight[..., None] * shifted(wide_q, offset), None

        message = lax.scan(add, jnp.zeros_like(q), offsets)[0]
        return jax.nn.softmax(jnp.log(jnp.maximum(probabilities, LEAST)) + message)

    return lax.fori_loop(0, iterations, round_of_messages, probabilities)
