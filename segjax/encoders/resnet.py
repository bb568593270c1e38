"""ResNet (He et al. 2015, arXiv:1512.03385, table 1), in the form called v1.5, dilatable.

And ResNeXt (Xie et al. 2016, arXiv:1611.05431) and ResNet-D (He et al. 2018, arXiv:1812.01187).
"""

import functools
from collections.abc import Sequence
from typing import Annotated

import flax.linen as nn
import jax.numpy as jnp

from segjax.config import kinds, rules
from segjax.encoders import base
from segjax.errors import ConfigError
from segjax.kernels import sums
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
        groups: Of the bottlenecks' 3x3 convolutions: 32 in ResNeXt-50 32x4d. XLA gathers the batch
            of a grouped convolution on several devices.
        group_width: Channels of each group in the first stage, of 64 features: 4 in ResNeXt-50
            32x4d, 128 in Wide ResNet-50-2, which has one group.
        deep_stem: Three 3x3 convolutions in place of the first, of half the channels but the last.
        pooled_shortcut: Take the mean of 2x2 pixels before a shortcut is projected, which has no
            stride then. With `deep_stem` it is ResNet-D. Not dilated: `output_stride=32`.
        norm: A name in `norm.NORMS`.
    """

    depth: Annotated[int, rules.one_of(*BLOCKS)] = 50
    multi_grid: Annotated[Sequence[kinds.Dilation], rules.length(0, 23)] = ()
    dilate_first: bool = True
    stages: Annotated[int, rules.whole(2, 5)] = 5
    width: kinds.Width = 64
    stride_first: bool = False
    groups: Annotated[int, rules.whole(1, 1024)] = 1
    group_width: kinds.Width = 64
    deep_stem: bool = False
    pooled_shortcut: bool = False
    norm: norm_lib.Norm = "batch"

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the features that are returned, finest first."""
        return super().strides[: self.stages]

    def encode(self, x: Features, *, train: bool) -> tuple[Features, ...]:
        """Return one feature map a stage, finest first."""
        block = self.style.block(Basic if self.depth < 50 else Bottleneck)
        if self.depth >= 50:
            block = functools.partial(
                block, stride_first=self.stride_first, groups=self.groups,
                group_width=self.group_width,
            )  # fmt: skip
        features = [self.begin(x, train=train)]
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
                    pooled_shortcut=self.pooled_shortcut,
                    name=f"layer{stage + 1}_{i}",
                )(x, train=train)
            features.append(x)
        return tuple(features)

    def begin(self, x: Features, *, train: bool) -> Features:
        """Return the features at stride 2."""
        if not self.deep_stem:
            return self.style.conv(self.width, kernel=7, stride=2, name="stem")(x, train=train)
        half = max(1, self.width // 2)
        for i, (width, stride) in enumerate(((half, 2), (half, 1), (self.width, 1))):
            x = self.style.conv(width, stride=stride, name=f"stem{i}")(x, train=train)
        return x

    def check(self) -> None:
        """Raise `ConfigError` for fields that make no ResNet."""
        super().check()
        if self.pooled_shortcut and self.output_stride != 32:
            raise ConfigError(
                f"encoder.pooled_shortcut=True with output_stride={self.output_stride}: expected "
                "32. Leave one of them out."
            )
        if self.depth < 50 and (self.groups, self.group_width) != (1, 64):
            raise ConfigError(
                f"encoder.groups={self.groups}, group_width={self.group_width}: only bottlenecks "
                "have them. Use depth=50 or more."
            )


class Residual(style.Block):
    """What both blocks share.

    Attributes:
        features: Channels of the 3x3 convolutions.
        stride: Of the first 3x3 convolution.
        dilation: Of the 3x3 convolutions.
        pooled_shortcut: See `Encoder`.
    """

    features: int
    stride: int
    dilation: int
    pooled_shortcut: bool = False

    def add(self, y: Features, x: Features, *, train: bool) -> Features:
        """Return `y` plus `x`, projected (option B) where the shape changes, activated."""
        if self.stride != 1 or x.shape[-1] != y.shape[-1]:
            stride = self.stride
            if self.pooled_shortcut:
                x, stride = pooled(x) if stride == 2 else x, 1
            project = self.style.conv(
                y.shape[-1], kernel=1, stride=stride, activation="none", name="shortcut"
            )
            x = project(x, train=train)
        return nn.relu((y + x).astype(sums.widen(y.dtype))).astype(y.dtype)


def pooled(x: Features) -> Features:
    """Return the mean of each window of 2, at half the size; an odd last row counts alone."""
    for axis in range(1, x.ndim - 1):
        sides = [(0, x.shape[axis] % 2 * (a == axis)) for a in range(x.ndim)]
        x = jnp.pad(x, sides, mode="edge")
        x = x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :]).mean(axis + 1)
    return x


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
        groups: See `Encoder`.
        group_width: See `Encoder`.
    """

    stride_first: bool = False
    groups: int = 1
    group_width: int = 64

    @nn.compact
    def __call__(self, x: Features, *, train: bool) -> Features:
        """Return the block's features, four times `features` channels."""
        conv, wide = self.style.conv, 4 * self.features
        first, second = (self.stride, 1) if self.stride_first else (1, self.stride)
        inner = max(1, self.features * self.group_width // 64) * self.groups
        y = conv(inner, kernel=1, stride=first, name="conv1")(x, train=train)
        middle = conv(
            inner, stride=second, dilation=self.dilation, groups=self.groups, name="conv2"
        )
        y = middle(y, train=train)
        y = conv(wide, kernel=1, activation="none", name="conv3")(y, train=train)
        return self.add(y, x, train=train)
