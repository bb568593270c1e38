"""ConvNeXt (Liu et al. 2022, arXiv:2201.03545, figure 4 and section 2), version 1."""

import functools
from collections.abc import Sequence
from typing import Annotated, Any

import flax.linen as nn

from segjax.config import kinds, rules
from segjax.encoders import base
from segjax.kernels import activations
from segjax.layers import conv, style
from segjax.structs import Features

WIDTHS = {
    "tiny": (96, 192, 384, 768),
    "small": (96, 192, 384, 768),
    "base": (128, 256, 512, 1024),
}
DEPTHS = {"tiny": (3, 3, 9, 3), "small": (3, 3, 27, 3), "base": (3, 3, 27, 3)}
EPSILON = 1e-6


class Encoder(base.Dilated):
    """Return features at strides 4, 8, 16 and 32, or at `output_stride` at most by dilation.

    They are the residual stream's: who wants them normalised does it (UPerNet).

    Attributes:
        variant: 'tiny', 'small' or 'base'.
        widths: Channels of the four stages, where not the variant's.
        depths: Blocks of the four stages, where not the variant's.
        edge: What becomes of rows and columns that fill no whole patch. 'pad' completes the patch
            with zeros, so sizes are rounded up as in other encoders; 'drop' leaves them out and
            rounds down, as published: the same features at sizes that 32 does not divide.
        drop_path: Rate of stochastic depth in the last block; it rises linearly from the first's 0.
        layer_scale: Initial factor of each channel of a residual branch.
    """

    full_strides = (4, 8, 16, 32)

    variant: Annotated[str, rules.one_of(*WIDTHS)] = "tiny"
    widths: kinds.Stages = ()
    depths: kinds.Depths = ()
    edge: Annotated[str, rules.one_of("pad", "drop")] = "pad"
    drop_path: kinds.Dropped = 0.1
    layer_scale: kinds.AnyNumber = 1e-6

    def encode(self, x: Features, *, train: bool) -> tuple[Features, ...]:
        """Return one feature map a stage, finest first."""
        widths = self.widths or WIDTHS[self.variant]
        depths = self.depths or DEPTHS[self.variant]
        block = functools.partial(self.style.block(Block), layer_scale=self.layer_scale)
        features, dilation, blocks = [], 1, 0
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            stride, before = 2 if stage else 4, dilation
            if 4 * 2**stage > self.output_stride:
                stride, dilation = 1, 2 * dilation
            # The stem normalises its patches, later stages what they are cut from.
            norm = self.style.layer_norm(epsilon=EPSILON, name=f"norm{stage}")
            x = norm(x) if stage else x
            x = self.patches(width, stride, before, x.shape, stage)(x, train=train)
            x = x if stage else norm(x)
            for i in range(depth):
                rate = self.drop_path * blocks / max(sum(depths) - 1, 1)
                layer = block(dilation=dilation, drop_path=rate, name=f"stage{stage}_{i}")
                x = layer(x, train=train)
                blocks += 1
            features.append(x)
        return tuple(features)

    def patches(
        self, width: int, stride: int, dilation: int, shape: Sequence[Any], stage: int
    ) -> conv.ConvNormAct:
        """Return the convolution of windows of 4 or 2 that do not overlap, dilated if it must."""
        padding = [(0, 0 if self.edge == "drop" else -n % stride) for n in shape[1:-1]]
        if stride == 1:
            padding = [(dilation // 2, dilation - dilation // 2)] * len(padding)
        return self.style.conv(
            width,
            kernel=max(stride, 2),
            stride=stride,
            dilation=dilation if stride == 1 else 1,
            padding=padding,
            activation="none",
            name=f"patches{stage}",
        )


class Block(style.Block):
    """Add a depthwise 7x7 convolution, normalised, and two 1x1 ones (the paper's figure 4)."""

    dilation: int
    drop_path: float
    layer_scale: float

    @nn.compact
    def __call__(self, x: Features, *, train: bool) -> Features:
        """Return the block's features."""
        width, dense = x.shape[-1], self.style.dense
        spread = self.style.conv(
            width, kernel=7, dilation=self.dilation, groups=-1, activation="none", name="depthwise"
        )
        y = spread(x, train=train)
        y = self.style.layer_norm(epsilon=EPSILON, name="norm")(y)
        y = activations.gelu(dense(4 * width, name="expand")(y))
        y = dense(width, name="contract")(y)
        init = nn.initializers.constant(self.layer_scale)
        gamma = self.param("gamma", init, (width,), self.param_dtype)
        y = y * gamma.astype(y.dtype)
        return x + conv.DropPath(self.drop_path)(y, train=train)
