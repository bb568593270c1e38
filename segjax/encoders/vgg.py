"""VGG (Simonyan and Zisserman 2014, arXiv:1409.1556, table 1), its convolutional layers."""

from typing import Annotated

import flax.linen as nn

from segjax.config import kinds, rules
from segjax.encoders import base
from segjax.layers import norm as norm_lib
from segjax.layers import resample, style
from segjax.structs import Features

CONVS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class Encoder(base.Encoder):
    """Return the features before each pooling, strides 1 to 16, and the last pooled ones, 32.

    `resample.max_pool` of one is what the next stage starts from: pool3 of FCN is that of the
    third. Pooling keeps an odd last row or column, which the published networks drop. No dilation:
    it would need pooling to go.

    Attributes:
        depth: 11, 13, 16 or 19 layers, three of which are fully connected and left out.
        width: Channels of the first stage; each later one has twice as many, 8 * `width` at most.
        norm: A name in `norm.NORMS`; the paper's network has 'none'.
        remat: A name in `remat.POLICIES`; the blocks are the stages.
    """

    depth: Annotated[int, rules.one_of(*CONVS)] = 16
    width: kinds.Width = 64
    norm: norm_lib.Norm = "batch"

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the features that are returned, finest first."""
        return (1, 2, 4, 8, 16, 32)

    def encode(self, x: Features, *, train: bool) -> tuple[Features, ...]:
        """Return six feature maps, finest first."""
        stage, features = self.style.block(Stage), []
        for i, convs in enumerate(CONVS[self.depth]):
            x = stage(self.width * min(2**i, 8), convs, name=f"stage{i}")(x, train=train)
            features.append(x)
            x = resample.max_pool(x)
        return (*features, x)


class Stage(style.Block):
    """Convolve 3x3 a few times at one resolution."""

    features: int
    convs: int

    @nn.compact
    def __call__(self, x: Features, *, train: bool) -> Features:
        """Return the features of the last convolution."""
        for i in range(self.convs):
            # The published networks kept their biases when they were normalised.
            x = self.style.conv(self.features, bias=True, name=f"conv{i}")(x, train=train)
        return x
