"""Interpolate along an axis: by a matrix, by a whole factor, at places that are computed."""

import functools
import math

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from segjax.kernels.dispatch import Kernel, with_gradient
from segjax.kernels.sums import widen
from segjax.structs import Features

REACH = 2
"""Samples on either side that a bicubic kernel sees."""


def matrix(x: Features, weights: np.ndarray, *, axis: int) -> Features:
    """Multiply `axis` by `weights` [to from]."""
    axes = "bhwdc"[: x.ndim - 1] + "c"
    old, new = axes[axis], axes.replace(axes[axis], "y")
    factors = jnp.asarray(weights, x.dtype)
    return jnp.einsum(f"{axes},y{old}->{new}", x, factors, precision="highest")


def shift(x: Array, by: int, *, axis: int, fill: float = 0.0) -> Array:
    """Return `x` moved by `by` places along `axis`, `fill` where nothing comes from."""
    if by == 0:
        return x
    widths = [(0, 0, 0)] * x.ndim
    widths[axis] = (by, -by, 0)
    return lax.pad(x, jnp.asarray(fill, x.dtype), widths)


@Kernel
def stretch(x: Features, *, weights: np.ndarray, axis: int) -> Features:
    """Return `matrix(x, weights, axis=axis)`, where `weights` enlarge by a whole factor.

    Rows i * factor to (i + 1) * factor - 1 of `weights` see no sample further than `REACH` from i.
    """
    return matrix(x, weights, axis=axis)


def _bands(n: int, weights: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """Return the weights of all `n` samples' neighbours, by phase and tap, without those of zeros.

    Phase p of sample i is row i * factor + p of `weights`, its tap t sample i + t.
    """
    factor, own = len(weights) // n, np.arange(n)
    band = np.pad(weights, ((0, 0), (REACH, REACH))).reshape(n, factor, -1)
    taps = range(-REACH, REACH + 1)
    every = {(p, tap): band[own, p, own + REACH + tap] for p in range(factor) for tap in taps}
    return {key: values for key, values in every.items() if values.any()}


def _times(x: Array, factors: np.ndarray, *, axis: int) -> Array:
    return x * jnp.asarray(factors.reshape(-1, *[1] * (x.ndim - 1 - axis)), x.dtype)


def _stretch_forward(x: Array, *, weights: np.ndarray, axis: int) -> tuple[Array, None]:
    """Add up shifted copies: sharded rows exchange no more than a halo."""
    n = x.shape[axis]
    factor, bands = len(weights) // n, _bands(n, weights)
    samples = [
        sum(
            _times(shift(x, -tap, axis=axis), near, axis=axis)
            for (q, tap), near in bands.items()
            if p == q
        )
        for p in range(factor)
    ]
    # Phases lie behind their sample: [… n factor …] to [… n*factor …].
    shape = (*x.shape[:axis], n * factor, *x.shape[axis + 1 :])
    return jnp.stack(samples, axis + 1).reshape(shape), None


def _stretch_backward(_: None, g: Array, *, weights: np.ndarray, axis: int) -> tuple[Array]:
    """Add up slices in float32 at least; autodiff adds padded copies, rounded one by one."""
    n = weights.shape[1]
    phases = g.reshape(*g.shape[:axis], n, -1, *g.shape[axis + 1 :])  # [… n factor …]
    phases = jnp.pad(phases, [(REACH * (a == axis),) * 2 for a in range(phases.ndim)])
    phases = phases.astype(widen(g.dtype))
    terms = []
    for (p, tap), near in _bands(n, weights).items():
        seen = lax.index_in_dim(phases, p, axis + 1, keepdims=False)
        seen = lax.slice_in_dim(seen, REACH - tap, REACH - tap + n, axis=axis)
        terms.append(_times(seen, np.roll(near, tap), axis=axis))
    return (functools.reduce(jnp.add, terms).astype(g.dtype),)


stretch.everywhere(with_gradient(_stretch_forward, _stretch_backward))


@Kernel
def filtered(
    image: Float[Array, "..."],
    source: Float[Array, " n"],
    reach: Float[Array, ""],
    *,
    axis: int,
    smallest: float,
) -> Float[Array, "..."]:
    """Return `image` along `axis` as a triangle filter sees it around each place.

    Args:
        image: Any array.
        source: Places in pixels; pixel i covers [i, i + 1).
        reach: Half the filter's width, in pixels: 1 interpolates, more averages.
        axis: Of `image`.
        smallest: `1 / smallest` is at least `reach`.
    """
    weights = _triangle(source[:, None], jnp.arange(image.shape[axis]), reach)
    weights = (weights / weights.sum(1, keepdims=True)).astype(image.dtype)
    # The default precision of matrix units would change the pixels of a mere crop.
    out = jnp.tensordot(weights, image, (1, axis), precision="highest")
    return jnp.moveaxis(out, 0, axis)


@filtered.on_cpu
def _by_taps(
    image: Float[Array, "..."],
    source: Float[Array, " n"],
    reach: Float[Array, ""],
    *,
    axis: int,
    smallest: float,
) -> Float[Array, "..."]:
    """Add up the pixels under each filter: a CPU gathers faster than it multiplies matrices."""
    first = jnp.floor(source - 0.5 - reach).astype(jnp.int32) + 1
    last = image.shape[axis] - 1
    pixels = [first + tap for tap in range(2 * math.ceil(1 / smallest))]
    weights = [
        jnp.where((pixel >= 0) & (pixel <= last), _triangle(source, pixel, reach), 0)
        for pixel in pixels
    ]
    total = sum(weights[1:], weights[0])
    shape = [-1 if i == axis else 1 for i in range(image.ndim)]
    parts = [
        jnp.take(image, pixel, axis=axis, mode="clip")
        * (weight / total).reshape(shape).astype(image.dtype)
        for pixel, weight in zip(pixels, weights, strict=True)
    ]
    return sum(parts[1:], parts[0])


def _triangle(
    source: Float[Array, "..."], pixel: Int[Array, "..."], reach: Float[Array, ""]
) -> Float[Array, "..."]:
    """Return the weight of a pixel in the filter that is centred on `source`."""
    return jnp.maximum(0, 1 - jnp.abs(source - 0.5 - pixel.astype(source.dtype)) / reach)
