"""Losses that weigh pixels by their distance from the border of the truth.

The distance is Euclidean, in pixels (voxels, samples), exact: along one axis after the other, the
least of `f(j) + (i - j)^2` over all j, which is n operations for each pixel of an axis of n and no
memory beyond the map's own. So these losses cost about as much as a convolution of the whole image:
use them beside another one. Void pixels lie outside of every class, and add nothing to a loss.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from segjax.config import kinds
from segjax.losses import base
from segjax.losses.base import Pair, Target, Valid
from segjax.structs import Label, Labels, Logits

FAR = 1e10
"""The square of a distance to what is not there."""


class _Pairs(base.OfEither):
    """What both losses share: what they are divided by."""

    def number(self, target: Target, valid: Valid) -> Float[Array, ""]:
        """Return the number of pairs of an image and a class that occurs in it."""
        return base.number_of(base.somewhere(target))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Boundary(_Pairs):
    """The boundary loss: the mean of `phi[c] * p[c]` over an image's valid pixels.

    phi is the distance to the border of class c, negative inside: `d(outside)` there and
    `1 - d(inside)` within, as Kervadec et al. 2019 have it (Boundary loss for highly unbalanced
    segmentation, arXiv 1812.07032, eq. 5 and their code). Each pair of image and class counts once,
    where the class occurs in the label. Below 0 where the prediction is good: the paper adds it to
    a loss of regions, with a weight that grows.
    """

    def __call__(self, logits: Logits, label: Label | Labels) -> Pair:
        """Return (sum, weight); computed in float32 at least."""
        logits, target, valid = base.mask_void(logits, label, self.activation)
        probs = base.probabilities(logits, valid, self.activation)
        inside, outside = to_others(target), to_others(~target)
        inside = jnp.where(inside > 0, 1 - inside, 0)  # a class that is everything has no border
        phi = jnp.where(target, inside, outside).astype(probs.dtype)
        return _mean_of_pairs(phi * probs, target, valid)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hausdorff(_Pairs):
    """The distance-transform loss: the mean of `(p - g)^2 (d_g^alpha + d_p^alpha)`.

    d_g and d_p are the distances to the border of the truth and of the prediction `p > 1/2`, on
    both of its sides. Karimi & Salcudean 2019 (Reducing the Hausdorff distance in medical image
    segmentation, arXiv 1904.10030, eq. 8). Each pair of image and class counts once, where the
    class occurs in the label. No gradient passes through the distances.

    Attributes:
        alpha: How strongly what lies far from the border costs; 2 in the paper.
    """

    alpha: kinds.Positive = 2.0

    def __call__(self, logits: Logits, label: Label | Labels) -> Pair:
        """Return (sum, weight); computed in float32 at least."""
        logits, target, valid = base.mask_void(logits, label, self.activation)
        probs = base.probabilities(logits, valid, self.activation)
        predicted = jax.lax.stop_gradient(probs) > 0.5
        borders = to_border(target), to_border(predicted)
        far = sum(border.astype(probs.dtype) ** float(self.alpha) for border in borders)
        return _mean_of_pairs(jnp.square(probs - target.astype(probs.dtype)) * far, target, valid)


def to_border(mask: Bool[Array, "b *space k"]) -> Float[Array, "b *space k"]:
    """Return each pixel's distance to the nearest pixel of the other side; 0 if there is none."""
    return jnp.where(mask, to_others(mask), to_others(~mask))


def to_others(mask: Bool[Array, "b *space k"]) -> Float[Array, "b *space k"]:
    """Return the distance of each pixel of a mask to the nearest that is not of it, float32.

    0 outside of the mask, and where the mask is everything.
    """
    square = jnp.where(mask, FAR, 0).astype(jnp.float32)
    for axis in range(1, mask.ndim - 1):
        square = _least(square, axis)
    return jnp.where(square < FAR, jnp.sqrt(square), 0)


def _least(square: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Return the least of `square[j] + (i - j)^2` along an axis, at each i."""
    length = square.shape[axis]
    place = jnp.arange(length, dtype=jnp.float32).reshape(
        [-1 if a == axis else 1 for a in range(square.ndim)]
    )

    def nearer(j: Array, found: Array) -> Array:
        line = jax.lax.dynamic_slice_in_dim(square, j, 1, axis)
        return jnp.minimum(found, line + jnp.square(place - j))

    return jax.lax.fori_loop(0, length, nearer, jnp.full_like(square, FAR))


def _mean_of_pairs(values: Float[Array, "b *space k"], target: Target, valid: Valid) -> Pair:
    """Return the mean over valid pixels, summed over the pairs that count, and their number."""
    total = jnp.sum(jnp.where(valid, values, 0), axis=tuple(range(1, values.ndim - 1)))
    number = base.pixels_of(valid, values.dtype)
    return base.sum_of(total / jnp.maximum(number, 1), base.somewhere(target))
