"""Convolution of volumes by convolutions of images, which XLA's CPU backend has a fast one for."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from segjax.kernels.dispatch import with_gradient
from segjax.kernels.window import Ints, Window

Images = Callable[[Array, Array], Array]


class Rule(NamedTuple):
    """Winograd's rule for three taps (Lavin and Gray 2015, arXiv:1509.09308), along one axis.

    A tile of neighbouring outputs is `outputs @ ((taps @ kernel) * (inputs @ x))`, where `x` is all
    that it sees: so many products as inputs, two more than outputs, and not three an output.
    """

    outputs: np.ndarray
    taps: np.ndarray
    inputs: np.ndarray


RULES = {
    2: Rule(
        np.array([[1, 1, 1, 0], [0, 1, -1, -1]]),
        np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]),
        np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),
    ),
    4: Rule(
        np.array([
            [1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1],
        ]),
        np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24,
        np.array([
            [4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1],
        ]),
    ),
}  # fmt: skip
"""By the number of outputs of a tile. More lose digits: four cost float32 half of one."""


def convolve(x: Array, kernel: Array, *, window: Window, images: Images) -> Array:
    """Convolve `x` [b d h w c] by `kernel` [k h w c o], along depth by a sum of images' results.

    Args:
        x: Volumes.
        kernel: Of `k` images.
        window: Of both.
        images: Convolves [n h w c] by [h w c o] as `window` does along the last two axes.
    """
    tile = tile_of(window)
    if tile is None:
        return _by_taps(x, kernel, window, images)
    return _by_tiles(x, kernel, window, images, tile)


def tile_of(window: Window) -> int | None:
    """Return the tile for which `images` is asked for fewest images, None: for each tap."""
    if (window.taps[0], window.strides[0], window.dilation[0]) != (3, 1, 1):
        return None
    depth = window.length[0]
    count = {tile: (tile + 2) * -(-depth // tile) for tile in RULES}
    tile = min(RULES, key=lambda tile: count[tile])
    return tile if count[tile] < 3 * depth else None


def by_kernel(x: Array, g: Array, *, taps: Ints, low: Ints) -> Array:
    """Return the gradient by the kernel [*taps c k] as products over all places.

    Neighbours are channels as well, those along depth of `g` and all others of `x`: oneDNN is fast
    at products that have many. The side with fewer channels belongs in `x`, which is copied more.

    Args:
        x: The input [b d h w c].
        g: The result's gradient [b d' h' w' k], without strides and dilation.
        taps: Of the kernel.
        low: Zeros before the input, by axis.
    """
    images, (rows, columns), reach = x.shape[1], g.shape[2:4], taps[0] - 1
    g = _pad(g, (reach - low[0], images + low[0] - g.shape[1]))
    near = [lax.slice_in_dim(g, i, i + images, axis=1) for i in range(reach, -1, -1)]
    right = jnp.stack(near, -2).reshape(-1, taps[0] * g.shape[-1])
    x = x.transpose(4, 0, 1, 2, 3)
    behind = rows + taps[1] - 1 - low[1] - x.shape[3], columns + taps[2] - 1 - low[2] - x.shape[4]
    x = _pad(x, *zip(low[1:], behind, strict=True), axis=3)
    shifts = itertools.product(range(taps[1]), range(taps[2]))
    seen = jnp.stack([x[..., i : i + rows, j : j + columns] for i, j in shifts])
    product = seen.reshape(len(seen) * x.shape[0], -1) @ right
    shape = (taps[1], taps[2], x.shape[0], taps[0], g.shape[-1])
    return product.reshape(shape).transpose(3, 0, 1, 2, 4)


def _by_taps(x: Array, kernel: Array, window: Window, images: Images) -> Array:
    """Add up what each image of the kernel sees."""
    stride, dilation, depth = window.strides[0], window.dilation[0], window.length[0]
    x = _pad(x, window.padding[0])
    terms = []
    for tap, weights in enumerate(kernel):
        start = tap * dilation
        seen = lax.slice_in_dim(x, start, start + (depth - 1) * stride + 1, stride, axis=1)
        terms.append(images(_flat(seen), weights))
    y = functools.reduce(jnp.add, terms)
    return y.reshape(x.shape[0], depth, *y.shape[1:])


def _by_tiles(x: Array, kernel: Array, window: Window, images: Images, tile: int) -> Array:
    """Add up by Winograd's rule."""
    rule, (low, high), depth = RULES[tile], window.padding[0], window.length[0]
    count = -(-depth // tile)
    x = _pad(x, (low, high + count * tile - depth))
    seen = _see(x, tile=tile, depth=depth)
    terms = [
        images(_flat(part), _combine(taps, kernel))
        for part, taps in zip(seen, rule.taps, strict=True)
    ]
    y = [
        _combine(row, terms).reshape(x.shape[0], count, *terms[0].shape[1:]) for row in rule.outputs
    ]
    y = jnp.stack(y, 2)
    return y.reshape(x.shape[0], count * tile, *y.shape[3:])[:, :depth]


def _see_forward(x: Array, *, tile: int, depth: int) -> tuple[tuple[Array, ...], None]:
    """Return the rule's combinations of what each tile sees [b tiles h w c]; the last has all."""
    last = (-(-depth // tile) - 1) * tile + 1
    near = [lax.slice_in_dim(x, start, start + last, tile, axis=1) for start in range(tile + 2)]
    return tuple(_combine(row, near) for row in RULES[tile].inputs), None


def _see_backward(_: None, gs: tuple[Array, ...], *, tile: int, depth: int) -> tuple[Array]:
    """Write each image once, where autodiff pads what each place of a tile is given and adds.

    Two neighbouring tiles see the first two images of the second.
    """
    columns = RULES[tile].inputs.T
    images = [_pad(_combine(columns[i], gs), (0, 1)) for i in range(tile)]
    for i in range(2):
        images[i] = images[i] + _pad(_combine(columns[tile + i], gs), (1, 0))
    g = jnp.stack(images, 2)
    g = g.reshape(len(g), -1, *g.shape[3:])
    return (g[:, : g.shape[1] - tile + 2],)


_see = with_gradient(_see_forward, _see_backward)


def _pad(x: Array, *ends: tuple[int, int], axis: int = 1) -> Array:
    """Return `x` with zeros before and behind, along axes from `axis` on; below 0 it is cut."""
    around = [(0, 0, 0)] * x.ndim
    around[axis : axis + len(ends)] = [(low, high, 0) for low, high in ends]
    return lax.pad(x, jnp.zeros((), x.dtype), around)


def _flat(x: Array) -> Array:
    """Return volumes as images."""
    return x.reshape(-1, *x.shape[2:])


def _combine(factors: np.ndarray, terms: Sequence[Array] | Array) -> Array:
    """Return the sum of `terms`, each times its factor."""
    near = [(float(factor), term) for factor, term in zip(factors, terms, strict=True) if factor]
    parts = [term if factor == 1 else factor * term for factor, term in near]
    return functools.reduce(jnp.add, parts)
