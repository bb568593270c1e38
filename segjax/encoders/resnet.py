"""ResNet (He et al. 2015, arXiv:1512.03385, table 1), in the form called v1.5, dilatable."""

import functools
from collections.abc import Sequence
from typing import Annotated

import flax.linen as nn

from segjax.config import kinds, rules
from segjax.encoders import base
from segjax.layers import norm as norm_lib
from segjax.layers import resample, style
from segjax.structs import Features

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class Encoder(base.Dilated):
    """Return features at strides 2, 4, 8, 16 and 32, or at `output_stride` at most by dilation.

    In v1.5 the 3x3 convolution of a bottleneck has the stride, not the first 1x1: that is what
    torchvision and timm publish weights for.

    Attributes:
        depth: 18, 34 (basic blocks), 50 or 101 (bottlenecks).
        multi_grid: Factors of the dilation in the last stage's blocks, e.g. (1, 2, 4).
        dilate_first: Dilate the first block of a stage as the others; torchvision's DeepLab and FCN
            weights come from a first block that still has the dilation of the stage before.
        stages: How many stages to compute, the stem counted: 3 ends at stride 8.
        stride_first: Stride in a bottleneck's first 1x1 convolution, as the paper has it and
            detectron2's weights want it.
        norm: A name in `norm.NORMS`.
    """

    depth: Annotated[int, rules.one_of(*BLOCKS)] = 50
    multi_grid: Annotated[Sequence[kinds.Dilation], rules.length(0, 23)] = ()
    dilate_first: bool = True
    stages: Annotated[int, rules.whole(2, 5)] = 5
    width: kinds.Width = 64
    stride_first: bool = False
    norm: norm_lib.Norm = "batch"

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the features that are returned, finest first."""
        return super().strides[: self.stages]

    def encode(self, x: Features, *, train: bool) -> tuple[Features, ...]:
        """Return one feature map a stage, finest first."""
        block = self.style.block(Basic if self.depth < 50 else Bottleneck)
        if self.depth >= 50:
            block = functools.partial(block, stride_first=self.stride_first)
        stem = self.style.conv(self.width, kernel=7, stride=2, name="stem")
        features = [stem(x, train=train)]
        x = resample.max_pool(features[0], window=3)
        dilation = 1
        for stage, blocks in enumerate(BLOCKS[self.depth][: self.stages - 1]):
            stride = 1 if stage == 0 else 2
            before = dilation
            if 2 ** (stage + 2) > self.output_stride:
                stride, dilation = 1, dilation * stride
            for i in range(blocks):
                rate = dilation if i or self.dilate_first else before
                if stage == 3 and self.multi_grid:
                    rate *= self.multi_grid[i % len(self.multi_grid)]
                x = block(
                    self.width * 2**stage,
                    stride=stride if i == 0 else 1,
                    dilation=rate,
                    name=f"layer{stage + 1}_{i}",
                )(x, train=train)
            features.append(x)
        return tuple(features)


class Residual(style.Block):
    """What both blocks share.

    Attributes:
        features: Channels of the 3x3 convolutions.
        stride: Of the first 3x3 convolution.
        dilation: Of the 3x3 convolutions.
    """

    features: int
    stride: int
    dilation: int

    def add(self, y: Features, x: Features, *, train: bool) -> Features:
        """Return `y` plus `x`, projected (option B) where the shape changes, activated."""
        if self.stride != 1 or x.shape[-1] != y.shape[-1]:
            project = self.style.conv(
                y.shape[-1], kernel=1, stride=self.stride, activation="none", name="shortcut"
            )
            x = project(x, train=train)
        return nn.relu(y + x)


class Basic(Residual):
    """Add two 3x3 convolutions to their input (the paper's figure 5, left)."""

    @nn.compact
    def __call__(self, x: Features, *, train: bool) -> Features:
        """Return the block's features."""
        conv = functools.partial(self.style.conv, self.features, dilation=self.dilation)
        y = conv(stride=self.stride, name="conv1")(x, train=train)
        y = conv(activation="none", name="conv2")(y, train=train)
        return self.add(y, x, train=train)


class Bottleneck(Residual):
    """Add a 1x1, 3x3, 1x1 sequence to its input (the paper's figure 5, right).

    Attributes:
        stride_first: The first convolution has the stride, not the second.
    """

    stride_first: bool = False

    @nn.compact
    def __call__(self, x: Features, *, train: bool) -> Features:
        """Return the block's features, four times `features` channels."""
        conv, wide = self.style.conv, 4 * self.features
        first, second = (self.stride, 1) if self.stride_first else (1, self.stride)
        y = conv(self.features, kernel=1, stride=first, name="conv1")(x, train=train)
        y = conv(self.features, stride=second, dilation=self.dilation, name="conv2")(y, train=train)
        y = conv(wide, kernel=1, activation="none", name="conv3")(y, train=train)
        return self.add(y, x, train=train)
