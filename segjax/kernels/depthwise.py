"""Depthwise convolution as a sum of shifted copies: on a CPU many times as fast as XLA's own."""

import functools
import itertools
import math
import operator

import jax.numpy as jnp
from jaxtyping import Array, Float

from segjax.kernels import fusion, sums
from segjax.kernels.dispatch import Kernel, with_gradient
from segjax.kernels.window import Ints, Window, slide
from segjax.runtime import sharding
from segjax.structs import Features

Taps = Float[Array, "... 1 c"]
MANY = 25
"""Taps from above which a sum of them is worth a pass of its own."""


@Kernel
def convolve(x: Features, kernel: Taps, *, window: Window) -> Features:
    """Convolve each channel by itself, with a window that keeps the size but for its strides."""
    return slide(x, kernel, window=window)


@convolve.on_cpu
def _by_stencil(x: Features, kernel: Taps, *, window: Window) -> Features:
    low = tuple(low for low, _ in window.padding)
    every = (slice(None), *(slice(None, None, stride) for stride in window.strides))
    kernel, near = within_reach(window.size, low, window.dilation, kernel)
    return stencil(x, kernel, low=near, dilation=window.dilation)[every]


def within_reach(size: Ints, low: Ints, dilation: Ints, kernel: Taps) -> tuple[Taps, Ints]:
    """Return `kernel` without outer taps that see nothing but padding, and its zeros before.

    At output stride 16 an image of 512 pixels is 32 samples: a window dilated by 36 is its centre.
    """
    slices, near = [], []
    for length, before, rate, n in zip(size, low, dilation, kernel.shape, strict=False):
        centred = 2 * before == rate * (n - 1)
        outer = min(max(0, (before - length) // rate + 1), (n - 1) // 2) if centred else 0
        slices.append(slice(outer, n - outer))
        near.append(before - outer * rate)
    return kernel[tuple(slices)], tuple(near)


def _stencil_forward(
    x: Features, kernel: Taps, *, low: Ints, dilation: Ints
) -> tuple[Features, tuple[Features, Taps]]:
    """Return the sum of copies of `x`, each shifted and times one tap of `kernel`.

    Args:
        x: Features.
        kernel: One tap a channel and place.
        low: Zeros before the first sample of each axis; as many behind it as keep the size.
        dilation: Distance of taps, by axis.
    """

    def add_up(kernel: Taps, x: Features) -> Features:
        wide = sums.widen(x.dtype)
        taps = kernel.astype(wide).reshape(-1, kernel.shape[-1])
        copies = shifted(x.astype(wide), kernel.shape[:-2], low, dilation)
        terms = (a * tap for a, tap in zip(copies, taps, strict=True))
        return functools.reduce(operator.add, terms).astype(x.dtype)

    # XLA would add up anew for each use, such as a layer norm's mean, variance and result.
    many = math.prod(kernel.shape[:-2]) > MANY and not sharding.splits_rows()
    total = fusion.apart(kernel, x, function=add_up) if many else add_up(kernel, x)
    return total, (x, kernel)


def _stencil_backward(
    saved: tuple[Features, Taps], g: Features, *, low: Ints, dilation: Ints
) -> tuple[Features, Taps]:
    x, kernel = saved
    window = kernel.shape[:-2]
    high = tuple(d * (n - 1) - a for a, d, n in zip(low, dilation, window, strict=True))
    g_x = stencil(g, jnp.flip(kernel, range(len(window))), low=high, dilation=dilation)
    wide = sums.widen(x.dtype)
    products = [g.astype(wide) * copy for copy in shifted(x.astype(wide), window, low, dilation)]
    g_kernel = jnp.stack(sums.channel_sums(*products))
    return g_x, g_kernel.reshape(kernel.shape).astype(kernel.dtype)


stencil = with_gradient(_stencil_forward, _stencil_backward)


def shifted(x: Features, window: Ints, low: Ints, dilation: Ints) -> list[Features]:
    """Return what each tap of `window` sees, row-major: `x` moved, zeros from outside."""
    sides = [(a, d * (n - 1) - a) for a, d, n in zip(low, dilation, window, strict=True)]
    padded = jnp.pad(x, [(0, 0), *sides, (0, 0)])
    *rows, columns = (range(0, d * n, d) for d, n in zip(dilation, window, strict=True))
    *_, width, channels = x.shape
    copies = []
    for start in itertools.product(*rows):
        box = [slice(a, a + n) for a, n in zip(start, x.shape[1:-2], strict=True)]
        row = padded[(slice(None), *box)]
        # Flat, so that XLA cannot merge this slice with the next: where rows are sharded they are
        # exchanged once for each row of the window then, not for each tap.
        row = row.reshape(*row.shape[:-2], -1)
        for a in columns:
            copies.append(row[..., a * channels : (a + width) * channels].reshape(x.shape))
    return copies
