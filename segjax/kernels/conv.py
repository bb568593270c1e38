"""Convolution with a gradient that XLA's CPU backend compiles well anywhere, also inside loops."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from segjax.kernels import depthwise
from segjax.layers import dense
from segjax.runtime import xla
from segjax.structs import Features

Ints = tuple[int, ...]
Pads = Sequence[tuple[int, int]]
NUMBERS = {1: ("NHC", "HIO", "NHC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}
LANES = 16
"""Channels from which they are worth an axis of their own."""
FEW = 4
"""Images in a batch below which they are too few for channels."""


def convolve(
    x: Features,
    kernel: Float[Array, "... i o"],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    **options: Any,
) -> Features:
    """Do as `lax.conv_general_dilated`, for `nn.Conv(conv_general_dilated=convolve.convolve)`."""
    if options.get("feature_group_count", 1) > 1:
        return depthwise.convolve(x, kernel, strides, padding, **options)
    pads = tuple((low, high) for low, high in padding)
    sizes = x.shape[1:-1], kernel.shape[:-2]
    return plain(Window(tuple(strides), pads, tuple(options["rhs_dilation"]), *sizes), x, kernel)


class Window(NamedTuple):
    """How a convolution slides, by spatial axis; `size` is the input's, `taps` the kernel's."""

    strides: Ints
    padding: tuple[tuple[int, int], ...]
    dilation: Ints
    size: Ints
    taps: Ints


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def plain(window: Window, x: Array, kernel: Array) -> Any:
    """Convolve without groups.

    What autodiff makes of it has its axes in an order that XLA's CPU backend sets right only
    outside of loops, and computes by a naive loop inside of them: a step with microbatches took
    twenty times as long. Here they are in order to begin with. Accelerators keep autodiff's.
    """
    return slide(window, x, kernel)


def slide(window: Window, x: Array, kernel: Array) -> Array:
    """Convolve by `lax`, with autodiff's gradient."""
    return lax.conv_general_dilated(
        x, kernel, window.strides, window.padding, rhs_dilation=window.dilation,
        dimension_numbers=NUMBERS[x.ndim - 2],
    )  # fmt: skip


def _forward(window: Window, x: Any, kernel: Any) -> tuple[Any, Any]:
    # Each gradient needs the other argument; one that no one asks for is not computed.
    kept = (x.value if kernel.perturbed else None, kernel.value if x.perturbed else None)
    return slide(window, x.value, kernel.value), kept


def _backward(window: Window, kept: Any, g: Any) -> tuple[Any, Any]:
    x, kernel = kept
    g_x = g_kernel = None
    if kernel is not None:
        inputs = jax.ShapeDtypeStruct((g.shape[0], *window.size, kernel.shape[-2]), g.dtype)
        g_x = lax.platform_dependent(
            g,
            kernel,
            cpu=functools.partial(input_gradient, window),
            default=lambda g, k: jax.linear_transpose(lambda x: slide(window, x, k), inputs)(g)[0],
        )
    if x is not None:
        kernels = jax.ShapeDtypeStruct((*window.taps, x.shape[-1], g.shape[-1]), g.dtype)
        g_kernel = lax.platform_dependent(
            g,
            x,
            cpu=functools.partial(kernel_gradient, window),
            default=lambda g, x: jax.linear_transpose(lambda k: slide(window, x, k), kernels)(g)[0],
        )
    return g_x, g_kernel


def is_product(window: Window) -> bool:
    """Return whether each place sees one place, which exists."""
    return set(window.taps) == {1} and not any(map(any, window.padding))


def spans(window: Window, g: Array) -> Iterator[tuple[int, int, int, int]]:
    """Yield for each axis: zeros before, the kernel's reach, the input's size, that of `g` spread.

    Reach is from the first tap to the last; `g` is spread by the stride.
    """
    for axis, (low, _) in enumerate(window.padding):
        reach = window.dilation[axis] * (window.taps[axis] - 1)
        yield low, reach, window.size[axis], (g.shape[1 + axis] - 1) * window.strides[axis] + 1


def input_gradient(window: Window, g: Array, kernel: Array) -> Array:
    """Return the gradient by the input: `g` by the kernel mirrored, with stride for dilation."""
    spatial = range(len(window.size))
    if is_product(window):
        product = dense.back(g, kernel.reshape(kernel.shape[-2:]))
        gaps = [
            (0, size - length, stride - 1)
            for (*_, size, length), stride in zip(spans(window, g), window.strides, strict=True)
        ]
        return lax.pad(product, jnp.zeros((), g.dtype), [(0, 0, 0), *gaps, (0, 0, 0)])
    padding = [(reach - low, size + low - length) for low, reach, size, length in spans(window, g)]
    return lax.conv_general_dilated(
        g, jnp.flip(kernel, spatial).swapaxes(-1, -2), [1] * len(spatial), padding,
        lhs_dilation=window.strides, rhs_dilation=window.dilation,
        dimension_numbers=NUMBERS[len(spatial)],
    )  # fmt: skip


def kernel_gradient(window: Window, g: Array, x: Array) -> Array:
    """Return the gradient by the kernel: the input by `g`, channels as batch, batch as channels.

    That of a 1x1 kernel is a product. oneDNN takes channels better as an axis more of the image.
    """
    if is_product(window):
        product = dense.outer(x[:, *(slice(None, None, n) for n in window.strides)], g)
        return product.reshape(*window.taps, *product.shape)
    padding = [(low, reach + length - size - low) for low, reach, size, length in spans(window, g)]
    if x.ndim == 4 and x.shape[-1] >= LANES and xla.through_onednn(x.dtype):
        few = len(x) < FEW and {*window.strides, *window.dilation} == {1}
        return few_images(window, g, x) if few else many_channels(window, padding, g, x)
    summed = lax.conv_general_dilated(
        x.swapaxes(0, -1), jnp.moveaxis(g, 0, -2), window.dilation, padding,
        rhs_dilation=window.strides, dimension_numbers=NUMBERS[x.ndim - 2],
    )  # fmt: skip
    return jnp.moveaxis(summed, 0, -2)


def many_channels(window: Window, padding: Pads, g: Array, x: Array) -> Array:
    """Do the same with channels as a third axis of the image, along which the kernel has length 1.

    1.3 to 3.5 times as fast as with channels for a batch.
    """
    return lax.conv_general_dilated(
        x.transpose(1, 2, 3, 0)[None], g.transpose(1, 2, 0, 3)[:, :, None],
        (*window.dilation, 1), [*padding, (0, 0)], rhs_dilation=(*window.strides, 1),
        dimension_numbers=NUMBERS[3],
    )[0]  # fmt: skip


def few_images(window: Window, g: Array, x: Array) -> Array:
    """Do the same where a batch is too few channels: neighbours along a row are channels as well.

    What each column of taps sees is then an image of its own. Twice to three times as fast for a
    single image. Without strides and dilation only.
    """
    images, rows, columns, features = g.shape
    near = LANES // images
    blocks = -(-columns // near)
    more = blocks * near - columns
    low, high = window.padding[1]
    g = jnp.pad(g, ((0, 0), (0, 0), (0, more), (0, 0)))
    g = g.reshape(images, rows, blocks, near, features).transpose(1, 2, 0, 3, 4)
    x = jnp.pad(x, ((0, 0), (0, 0), (low, high + more), (0, 0)))
    seen = jnp.stack([x[:, :, tap : tap + blocks * near] for tap in range(window.taps[1])])
    seen = seen.reshape(*seen.shape[:3], blocks, near, -1).transpose(0, 2, 3, 5, 1, 4)
    summed = lax.conv_general_dilated(
        seen.reshape(*seen.shape[:4], -1), g.reshape(rows, blocks, 1, -1, features),
        (1, 1, 1), [window.padding[0], (0, 0), (0, 0)], dimension_numbers=NUMBERS[3],
    )  # fmt: skip
    return summed[:, :, 0].swapaxes(0, 1)


plain.defvjp(_forward, _backward, symbolic_zeros=True)
