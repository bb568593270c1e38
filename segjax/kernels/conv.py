"""Convolution with gradients that XLA's CPU backend compiles well anywhere, also inside loops."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from segjax.kernels import depth, depthwise, fusion, products, scaling, sums
from segjax.kernels.dispatch import Kernel, with_gradient
from segjax.kernels.window import NUMBERS, Window, slide
from segjax.runtime import sharding, xla
from segjax.structs import Features

Pads = Sequence[tuple[int, int]]
LANES = 16
"""Channels from which they are worth an axis of their own."""
FEW = 4
"""Images in a batch below which they are too few for channels; channels too few for products."""


def convolve(
    x: Features,
    kernel: Float[Array, "... i o"],
    *,
    strides: Sequence[int],
    padding: Pads,
    dilation: Sequence[int],
) -> Float[Array, "b ... o"]:
    """Slide `kernel` over `x`, in one, two or three dimensions.

    Both ends are placed by `sharding.keep_rows`: XLA's gradients are right only there.

    Args:
        x: Features.
        kernel: [*window i o]. Where `i` is a part of the channels of `x`, channels come in groups;
            each by itself (depthwise) where it is 1.
        strides: By spatial axis, as all that follow.
        padding: Zeros before and behind.
        dilation: Distance of neighbouring taps.
    """
    pads = tuple((low, high) for low, high in padding)
    sizes = x.shape[1:-1], kernel.shape[:-2]
    window = Window(tuple(strides), pads, tuple(dilation), *sizes)
    form = slide
    if x.shape[-1] == kernel.shape[-2]:
        form = of_volumes if x.ndim == 5 and not sharding.splits_rows() else plain
    elif kernel.shape[-2:] == (1, x.shape[-1]) and window.keeps_size():
        form = depthwise.convolve
    y = form(sharding.keep_rows(x, partner=window.length[0]), kernel, window=window)
    return sharding.keep_rows(y, partner=x.shape[1])


def normalized(
    x: Features,
    kernel: Float[Array, "... i o"],
    slope: sums.Channels,
    offset: sums.Channels,
    **window: Any,
) -> Float[Array, "b ... o"]:
    """Return `convolve(x, kernel, **window) * slope + offset` per channel, float32 at least.

    `kernel` is as wide as it is kept, and rounded to the dtype of `x` here.
    """
    if x.shape[-1] != kernel.shape[-2]:
        return _with_offset.reference(x, kernel.astype(x.dtype), slope, offset, **window)
    # Of variables alone, and so an operation by itself, see `inference.ahead`.
    kernel = _with_slope(kernel, slope, dtype=x.dtype)
    return _with_offset(x, kernel, slope, offset, **window)


@Kernel
def _with_slope(kernel: Array, slope: Array, *, dtype: Any) -> Array:
    return kernel.astype(dtype)


@_with_slope.on_cpu
def _in_the_kernel(kernel: Array, slope: Array, *, dtype: Any) -> Array:
    """Put the slope into the kernel: oneDNN adds, and activates, what it has just computed."""
    if not xla.through_onednn(dtype):
        return _with_slope.reference(kernel, slope, dtype=dtype)
    wide = sums.widen(dtype)
    return (kernel.astype(wide) * slope.astype(wide)).astype(dtype)


@Kernel
def _with_offset(x: Array, kernel: Array, slope: Array, offset: Array, **window: Any) -> Array:
    return scaling.affine(convolve(x, kernel, **window), slope, offset)


@_with_offset.on_cpu
def _in_one_call(x: Array, kernel: Array, slope: Array, offset: Array, **window: Any) -> Array:
    if not xla.through_onednn(x.dtype):
        return _with_offset.reference(x, kernel, slope, offset, **window)
    wide = sums.widen(x.dtype)
    return convolve(x, kernel, **window).astype(wide) + offset.astype(wide)


@Kernel
def plain(x: Array, kernel: Array, *, window: Window) -> Array:
    """Convolve without groups."""
    return slide(x, kernel, window=window)


def _plain_forward(x: Any, kernel: Any, *, window: Window) -> tuple[Any, Any]:
    # Each gradient needs the other argument; one that no one asks for is not computed.
    kept = (x.value if kernel.perturbed else None, kernel.value if x.perturbed else None)
    return slide(x.value, kernel.value, window=window), kept


def _plain_backward(kept: Any, g: Any, *, window: Window) -> tuple[Any, Any]:
    """Return gradients with axes in the order that XLA's CPU backend has a fast convolution for.

    Autodiff's are in another, which XLA sets right only outside of loops; inside of them, as in a
    step with microbatches, it convolves by a naive loop.
    """
    x, kernel = kept
    g_x = None if kernel is None else by_input(g, kernel, window=window)
    g_kernel = None if x is None else by_kernel(g, x, window=window)
    return g_x, g_kernel


plain.everywhere(
    with_gradient(_plain_forward, _plain_backward, primal=plain.reference, symbolic_zeros=True)
)


@Kernel
def of_volumes(x: Array, kernel: Array, *, window: Window) -> Array:
    """Convolve volumes without groups, all on this device."""
    return slide(x, kernel, window=window)


of_volumes.accelerator = plain


@of_volumes.on_cpu
def _of_images(x: Array, kernel: Array, *, window: Window) -> Array:
    """Convolve images instead, in float32 at least; oneDNN is as fast at volumes."""
    if window.sees_one() or xla.through_onednn(x.dtype):
        return plain(x, kernel, window=window)
    wide = sums.widen(x.dtype)
    images = functools.partial(slices, window=window.of_images())
    x_wide = fusion.gradient_apart(x.astype(wide))
    y = depth.convolve(x_wide, kernel.astype(wide), window=window, images=images)
    return fusion.gradient_apart(y).astype(x.dtype)


def _slices_backward(kept: Any, g: Any, *, window: Window) -> tuple[Any, Any]:
    x, kernel = kept
    g_x = None if kernel is None else by_input(g, kernel, window=window)
    return g_x, None if x is None else _of_slices(g, x, window=window)


slices = with_gradient(
    _plain_forward, _slices_backward, primal=plain.reference, symbolic_zeros=True
)


@Kernel
def by_input(g: Array, kernel: Array, *, window: Window) -> Array:
    """Return the gradient of `slide` by its input."""
    inputs = jax.ShapeDtypeStruct((len(g), *window.size, kernel.shape[-2]), g.dtype)
    return jax.linear_transpose(lambda x: slide(x, kernel, window=window), inputs)(g)[0]


@by_input.on_cpu
def _by_input_on_cpu(g: Array, kernel: Array, *, window: Window) -> Array:
    """Convolve `g` by the kernel mirrored, with stride for dilation."""
    spatial = range(len(window.size))
    if window.sees_one():
        product = products.by_input(g, kernel.reshape(kernel.shape[-2:]))
        gaps = [
            (0, size - length, stride - 1)
            for (*_, size, length), stride in zip(_spans(window, g), window.strides, strict=True)
        ]
        return lax.pad(product, jnp.zeros((), g.dtype), [(0, 0, 0), *gaps, (0, 0, 0)])
    padding = [(reach - low, size + low - length) for low, reach, size, length in _spans(window, g)]
    return lax.conv_general_dilated(
        g, jnp.flip(kernel, spatial).swapaxes(-1, -2), [1] * len(spatial), padding,
        lhs_dilation=window.strides, rhs_dilation=window.dilation,
        dimension_numbers=NUMBERS[len(spatial)],
    )  # fmt: skip


@Kernel
def by_kernel(g: Array, x: Array, *, window: Window) -> Array:
    """Return the gradient of `slide` by its kernel."""
    kernels = jax.ShapeDtypeStruct((*window.taps, x.shape[-1], g.shape[-1]), g.dtype)
    return jax.linear_transpose(lambda kernel: slide(x, kernel, window=window), kernels)(g)[0]


@by_kernel.on_cpu
def _by_kernel_on_cpu(g: Array, x: Array, *, window: Window) -> Array:
    """Convolve the input by `g`, with channels for the batch and the batch for channels.

    The gradient by a 1x1 kernel is a product. oneDNN takes channels better as an axis of the image,
    and few images better as a product.
    """
    if window.sees_one():
        product = products.by_kernel(x[:, *(slice(None, None, n) for n in window.strides)], g)
        return product.reshape(*window.taps, *product.shape)
    padding = [(low, reach + length - size - low) for low, reach, size, length in _spans(window, g)]
    if xla.through_onednn(x.dtype):
        if _takes_products(window, g, x):
            return _of_products(window, g, x)
        if x.ndim == 4 and x.shape[-1] >= LANES:
            return _of_channels(window, padding, g, x)
    summed = lax.conv_general_dilated(
        x.swapaxes(0, -1), jnp.moveaxis(g, 0, -2), window.dilation, padding,
        rhs_dilation=window.strides, dimension_numbers=NUMBERS[x.ndim - 2],
    )  # fmt: skip
    return jnp.moveaxis(summed, 0, -2)


def _of_products(window: Window, g: Array, x: Array) -> Array:
    """Return the same as products, see `depth.by_kernel`; images are volumes of height 1."""
    taps, low = window.taps, tuple(low for low, _ in window.padding)
    if x.ndim == 4:
        x, g = x[:, :, None], g[:, :, None]
        taps, low = (taps[0], 1, taps[1]), (low[0], 0, low[1])
    if x.shape[-1] <= g.shape[-1]:
        found = depth.by_kernel(x, g, taps=taps, low=low)
    else:
        behind = tuple(tap - 1 - n for tap, n in zip(taps, low, strict=True))
        swapped = depth.by_kernel(g, x, taps=taps, low=behind)
        found = jnp.flip(swapped, (0, 1, 2)).swapaxes(-1, -2)
    return found.reshape(*window.taps, *found.shape[-2:])


def _of_slices(g: Array, x: Array, *, window: Window) -> Array:
    """Return the same of many images: channels lie along the row, between its places.

    The kernel's longer side of channels goes through the faster side of a product.
    """
    if {*window.dilation} != {1} or window.sees_one():
        return by_kernel(g, x, window=window)
    swapped = x.shape[-1] > g.shape[-1] and {*window.strides} == {1}
    spans = list(_spans(window, g))
    if swapped:
        padding = [(reach - low, length + low - size) for low, reach, size, length in spans]
        x, g = g, x
    else:
        padding = [(low, reach + length - size - low) for low, reach, size, length in spans]
    (rows, (before, behind)), channels = padding, x.shape[-1]

    def laid_out(x: Array, g: Array) -> tuple[Array, Array]:  # [1 h w*c b], [h w b k]
        x = x.transpose(1, 2, 3, 0).reshape(1, x.shape[1], -1, x.shape[0])
        return x, g.transpose(1, 2, 0, 3)

    summed = lax.conv_general_dilated(
        *fusion.apart(x, g, function=laid_out), (1, 1),
        [rows, (before * channels, behind * channels)],
        rhs_dilation=(window.strides[0], window.strides[1] * channels),
        dimension_numbers=NUMBERS[2],
    )  # fmt: skip
    summed = summed.reshape(*window.taps, channels, -1)
    return jnp.flip(summed, (0, 1)).swapaxes(2, 3) if swapped else summed


def _takes_products(window: Window, g: Array, x: Array) -> bool:
    """Return whether `depth.by_kernel` is faster.

    It is for few images of many channels, and for volumes of few, but not for an image's own.
    """
    if x.ndim == 3 or {*window.strides, *window.dilation} != {1}:
        return False
    if x.ndim == 4:
        return len(x) < FEW and x.shape[-1] >= LANES
    return FEW < min(x.shape[-1], g.shape[-1]) <= LANES


def _spans(window: Window, g: Array) -> Iterator[tuple[int, int, int, int]]:
    """Yield for each axis: zeros before, the kernel's reach, the input's size, that of `g` spread.

    Reach is from the first tap to the last; `g` is spread by the stride.
    """
    for axis, (low, _) in enumerate(window.padding):
        length = (g.shape[1 + axis] - 1) * window.strides[axis] + 1
        yield low, window.reach[axis], window.size[axis], length


def _of_channels(window: Window, padding: Pads, g: Array, x: Array) -> Array:
    """Return the same with channels as a third axis of the image, where the kernel has length 1."""
    return lax.conv_general_dilated(
        x.transpose(1, 2, 3, 0)[None],  # [1 h w c b]
        g.transpose(1, 2, 0, 3)[:, :, None],  # [h w 1 b k]
        (*window.dilation, 1), [*padding, (0, 0)], rhs_dilation=(*window.strides, 1),
        dimension_numbers=NUMBERS[3],
    )[0]  # fmt: skip
