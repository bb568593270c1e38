"""U-Net (Ronneberger, Fischer and Brox 2015, arXiv:1505.04597, figure 1), in any dimension."""

import functools
from collections.abc import Sequence
from typing import Annotated, TypedDict

import flax.linen as nn
from jaxtyping import Array, Float

from segjax.config import kinds, rules
from segjax.kernels import joining
from segjax.layers import conv, resample, style
from segjax.models import base
from segjax.structs import Features, Outputs


class Model(base.Segmenter):
    """Contract and expand, with a skip connection at each resolution.

    Differs from the figure where practice does: convolutions normalise, and pad so that the output
    has the input's size. Pooling lets an odd last row or column stand for itself and the way up
    crops its copy again: every size from 32 up works, and no statistic sees an invented pixel.

    The input says how many spatial dimensions there are: signals [b l c], images [b h w c] and
    volumes [b d h w c] (3D U-Net, Çiçek et al. 2016), of any depth, go through the same code.

    Attributes:
        widths: Channels at each resolution, from the input's to the bottom's.
        convs_per_level: Convolutions at each resolution, on the way down and on the way up.
        activation: A name in `conv.ACTIVATIONS`.
        up: 'transpose' (the figure's 2x2 up-convolution), or 'bilinear' or 'nearest' up-sampling of
            a 1x1 convolution.
        dropout: Rate at the end of the contracting path.
        stem_stride: 1, 2 or 4: work at a half or a quarter of the input's resolution and up-sample
            the logits bilinearly. For large photographs and small machines.
        deep_supervision: How many coarser resolutions of the way up give logits of their own in
            training, at 1/2, 1/4, … of the input's; `task.deep_weights` says what they count.
        remat: A name in `remat.POLICIES`; the blocks are the resolutions.
    """

    widths: Annotated[Sequence[kinds.Width], rules.length(2, 16)] = (64, 128, 256, 512, 1024)
    convs_per_level: Annotated[int, rules.whole(1, 64)] = 2
    activation: conv.ActivationName = "relu"
    up: Annotated[str, rules.one_of("transpose", "bilinear", "nearest")] = "transpose"
    dropout: kinds.Dropped = 0.0
    stem_stride: Annotated[int, rules.one_of(1, 2, 4)] = 1
    deep_supervision: kinds.DepthOrNone = 0

    def segment(self, x: Features, *, train: bool) -> Outputs:
        """Return logits at the size of `x`."""
        size, skips = x.shape[1:-1], []
        level = functools.partial(
            self.style.block(Level), convs=self.convs_per_level, activation=self.activation
        )
        *widths, bottom = self.widths
        for i, features in enumerate(widths):
            stride = self.stem_stride if i == 0 else 1
            x = level(features, stride=stride, name=f"down{i}")(x, train=train)
            skips.append(x)
            x = resample.max_pool(x)
        x = level(bottom, name="bottom")(x, train=train)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        coarser: list[Features] = []
        for i, features in reversed(list(enumerate(widths))):
            skip = self.gate_skip(skips[i], x, level=i)
            x = Enlarge(features, self.up, style=self.style, name=f"enlarge{i}")(x)
            x = joining.join(skip, resample.crop(x, skip.shape[1:-1]))
            x = level(features, name=f"up{i}")(x, train=train)
            coarser.insert(0, x)
        logits = self.style.dense(self.num_classes, name="head")(x)
        deep = self.deep_logits(coarser[1:], self.deep_supervision, train=train)

        def enlarge(logits: Features, stride: int) -> Features:
            logits = resample.upsample(logits, factor=self.stem_stride)
            return resample.crop(logits, [-(-length // stride) for length in size])

        deep = tuple(enlarge(y, 2**level) for level, y in enumerate(deep, start=1))
        return Outputs(enlarge(logits, 1), deep=deep)

    def gate_skip(self, skip: Features, coarse: Features, *, level: int) -> Features:
        """Return what the way up gets of `skip`: all of it, unless a subclass gates it."""
        return skip


class Window(TypedDict, total=False):
    """Kernel, stride and padding of a convolution."""

    kernel: int
    stride: int
    padding: list[tuple[int, int]]


class Level(style.Block):
    """Convolve 3x3 a few times at one resolution, the first time with `stride`.

    With a stride the windows are 2 * stride wide and centred on blocks of stride x stride pixels.
    Where the last block is cut off it sees the zeros that any padded convolution sees behind the
    edge: nothing is made up that would count in a statistic, and sharded rows stay where they are.
    """

    features: int
    convs: int
    activation: str
    stride: int = 1

    @nn.compact
    def __call__(self, x: Features, *, train: bool) -> Float[Array, "b ... {self.features}"]:
        """Return the features at the resolution divided by `stride`, rounded up."""
        for i in range(self.convs):
            window = strided(x.shape[1:-1], self.stride) if i == 0 and self.stride > 1 else Window()
            layer = self.style.conv(
                self.features, activation=self.activation, **window, name=f"conv{i}"
            )
            x = layer(x, train=train)
        return x


def strided(size: Sequence[int], stride: int) -> Window:
    """Return kernel, stride and padding of windows centred on blocks that cover `size`."""
    padding = [(stride // 2, stride // 2 + -length % stride) for length in size]
    return {"kernel": 2 * stride, "stride": stride, "padding": padding}


class Enlarge(style.Block):
    """Double the resolution and change the number of channels to `features`."""

    features: int
    up: str

    @nn.compact
    def __call__(self, x: Features) -> Float[Array, "b ... {self.features}"]:
        """Return the features at twice the resolution."""
        if self.up == "transpose":
            return resample.UpConv(self.features, **self.style.dtypes, name="conv")(x)
        # Averaging commutes with a 1x1 convolution, which is cheaper before there are more pixels.
        project = self.style.dense(self.features, name="conv")
        return resample.upsample(project(x), factor=2, method=self.up)
