"""How a convolution slides, and XLA's own form of it."""

from typing import NamedTuple

from jax import lax
from jaxtyping import Array

Ints = tuple[int, ...]
NUMBERS = {1: ("NHC", "HIO", "NHC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}
"""The order of axes by the number of those of space, as `lax.conv_general_dilated` names it."""


class Window(NamedTuple):
    """How a kernel slides over an input, by spatial axis.

    Attributes:
        strides: Steps from one output to the next.
        padding: Zeros before and behind the input.
        dilation: Distance of neighbouring taps.
        size: The input's.
        taps: The kernel's.
    """

    strides: Ints
    padding: tuple[tuple[int, int], ...]
    dilation: Ints
    size: Ints
    taps: Ints

    @property
    def reach(self) -> Ints:
        """Distances from the first tap to the last."""
        return tuple(d * (n - 1) for d, n in zip(self.dilation, self.taps, strict=True))

    @property
    def length(self) -> Ints:
        """The output's size."""
        spans = zip(self.size, self.padding, self.reach, self.strides, strict=True)
        return tuple((n + low + high - reach - 1) // s + 1 for n, (low, high), reach, s in spans)

    def sees_one(self) -> bool:
        """Return whether each output sees one sample of the input, which exists."""
        return set(self.taps) == {1} and not any(map(any, self.padding))

    def keeps_size(self) -> bool:
        """Return whether there are as many outputs as inputs, or would be without strides."""
        return self.reach == tuple(low + high for low, high in self.padding)

    def of_images(self) -> "Window":
        """Return the window without its first axis."""
        return Window(
            self.strides[1:], self.padding[1:], self.dilation[1:], self.size[1:], self.taps[1:]
        )


def slide(x: Array, kernel: Array, *, window: Window) -> Array:
    """Convolve by XLA; channels come in as many groups as the kernel's go into the input's."""
    return lax.conv_general_dilated(
        x, kernel, window.strides, window.padding, rhs_dilation=window.dilation,
        dimension_numbers=NUMBERS[x.ndim - 2],
        feature_group_count=x.shape[-1] // kernel.shape[-2],
    )  # fmt: skip
