"""EfficientNet (Tan and Le 2019, arXiv:1905.11946, table 1 and equation 3), dilatable."""

import functools
import math
from typing import Annotated, NamedTuple

from segjax.config import kinds, rules
from segjax.encoders import base
from segjax.layers import mbconv, remat
from segjax.layers import norm as norm_lib
from segjax.structs import Features


class Stage(NamedTuple):
    """Blocks of one width, before scaling (table 1)."""

    channels: int
    blocks: int
    expansion: int
    kernel: int
    stride: int


STAGES = (
    Stage(16, 1, 1, 3, 1),
    Stage(24, 2, 6, 3, 2),
    Stage(40, 2, 6, 5, 2),
    Stage(80, 3, 6, 3, 2),
    Stage(112, 3, 6, 5, 1),
    Stage(192, 4, 6, 5, 2),
    Stage(320, 1, 6, 3, 1),
)
SCALES = {"b0": (1.0, 1.0), "b1": (1.0, 1.1), "b2": (1.1, 1.2), "b3": (1.2, 1.4)}
"""Factors of width and depth."""


class Encoder(base.Dilated):
    """Return features at strides 2, 4, 8, 16 and 32, or at `output_stride` at most by dilation.

    They are those of the last block at each stride; the 1x1 convolution of the classifier is left
    out. Weights ported from TensorFlow (`tf_efficientnet_*`) do not fit: their strided
    convolutions pad unevenly and their normalisation adds 1e-3.

    Attributes:
        variant: 'b0' to 'b3'.
        width: Factor of all channels, which stay multiples of 8, where not the variant's.
        depth: Factor of the number of blocks, where not the variant's.
        drop_path: Rate of stochastic depth, which a block has as its share of those before it.
        norm: A name in `norm.NORMS`.
    """

    variant: Annotated[str, rules.one_of(*SCALES)] = "b0"
    width: kinds.Factor | None = None
    depth: kinds.Factor | None = None
    drop_path: kinds.Dropped = 0.2
    norm: norm_lib.Norm = "batch"

    def encode(self, x: Features, *, train: bool) -> tuple[Features, ...]:
        """Return one feature map a stride, finest first."""
        width, depth = SCALES[self.variant]
        width, depth = self.width or width, self.depth or depth
        block = functools.partial(
            remat.remat(mbconv.InvertedResidual, self.remat), activation="silu",
            squeeze_activation="silu", norm=self.norm, **self.style.dtypes,
        )  # fmt: skip
        stem = self.style.conv(
            mbconv.divisible(32 * width), stride=2, activation="silu", name="stem"
        )
        x = stem(x, train=train)
        counts = [math.ceil(stage.blocks * depth) for stage in STAGES]
        features, reached, dilation = [], 2, 1
        for i, stage in enumerate(STAGES):
            stride = stage.stride
            if stride == 2:
                features.append(x)
                reached *= 2
            if reached > self.output_stride and stride == 2:
                stride, dilation = 1, 2 * dilation
            for j in range(counts[i]):
                x = block(
                    mbconv.divisible(stage.channels * width),
                    expanded=mbconv.divisible(stage.expansion * x.shape[-1]),
                    kernel=stage.kernel,
                    stride=stride if j == 0 else 1,
                    dilation=dilation,
                    squeeze=max(1, x.shape[-1] // 4),
                    drop_path=self.drop_path * (sum(counts[:i]) + j) / sum(counts),
                    name=f"stage{i}_{j}",
                )(x, train=train)
        return (*features, x)
