"""Mix Transformer (Xie et al. 2021, arXiv:2105.15203, section 3.1 and table 6)."""

import functools
from collections.abc import Sequence
from typing import Annotated

import flax.linen as nn
from jaxtyping import Array, Float

from segjax.config import kinds, rules
from segjax.encoders import base
from segjax.errors import ConfigError
from segjax.layers import attention, conv, style
from segjax.structs import Features

SMALL, LARGE = (32, 64, 160, 256), (64, 128, 320, 512)
VARIANTS = {
    "b0": (SMALL, (2, 2, 2, 2)),
    "b1": (LARGE, (2, 2, 2, 2)),
    "b2": (LARGE, (3, 4, 6, 3)),
    "b3": (LARGE, (3, 4, 18, 3)),
    "b4": (LARGE, (3, 8, 27, 3)),
    "b5": (LARGE, (3, 6, 40, 3)),
}
"""Channels and blocks of each stage."""
HEADS, EXPANSION = (1, 2, 5, 8), 4


class Encoder(base.Encoder):
    """Return features at strides 4, 8, 16 and 32.

    No position is encoded but by the zeros around convolutions, so any image size will do.

    Attributes:
        variant: 'b0' to 'b5', as published weights are: the paper's table expands channels 8 times,
            not 4, in the first two stages and has a block less in the second stage of B2 and B3.
        widths: Channels of each stage, divisible by 1, 2, 5 and 8, where not the variant's.
        depths: Blocks of each stage, where not the variant's.
        reduction: Of the features that keys and values come from, along each axis, by stage.
        drop_path: Rate of dropping the last block's branches; it rises linearly from 0.
        epsilon: Added to the variance by the layer norms of blocks and stages: 1e-5 in Hugging
            Face's code, 1e-6 in the authors' and in segmentation_models.pytorch.
    """

    variant: Annotated[str, rules.one_of(*VARIANTS)] = "b0"
    widths: kinds.Stages = ()
    depths: kinds.Depths = ()
    reduction: Annotated[Sequence[Annotated[int, rules.whole(1, 64)]], rules.length(4, 4)] = (
        8, 4, 2, 1,
    )  # fmt: skip
    drop_path: kinds.Dropped = 0.1
    epsilon: kinds.Epsilon = 1e-5

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the features that are returned, finest first."""
        return (4, 8, 16, 32)

    def encode(self, x: Features, *, train: bool) -> tuple[Features, ...]:
        """Return one feature map a stage, finest first."""
        widths, depths = self.stages()
        block = functools.partial(self.style.block(Block), epsilon=self.epsilon)
        features, blocks = [], 0
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            embed = PatchEmbedding(
                width, stride=2 if stage else 4, style=self.style, name=f"embed{stage}"
            )
            x = embed(x, train=train)
            for i in range(depth):
                layer = block(
                    HEADS[stage],
                    reduction=self.reduction[stage],
                    drop_path=self.drop_path * blocks / max(sum(depths) - 1, 1),
                    name=f"block{stage}_{i}",
                )
                x = layer(x, train=train)
                blocks += 1
            x = self.style.layer_norm(epsilon=self.epsilon, name=f"norm{stage}")(x)
            features.append(x)
        return tuple(features)

    def stages(self) -> tuple[Sequence[int], Sequence[int]]:
        """Return channels and blocks of the stages."""
        widths, depths = VARIANTS[self.variant]
        return self.widths or widths, self.depths or depths


class PatchEmbedding(style.Block):
    """Convolve with windows that overlap: 7 wide at stride 4, 3 wide at stride 2."""

    features: int
    stride: int

    @nn.compact
    def __call__(self, x: Features, *, train: bool) -> Features:
        """Return the features at the resolution divided by `stride`, rounded up."""
        project = self.style.conv(
            self.features, kernel=2 * self.stride - 1, stride=self.stride, activation="none",
            name="project",
        )  # fmt: skip
        return self.style.layer_norm(epsilon=1e-5, name="norm")(project(x, train=train))


class Block(style.Block):
    """Add efficient self-attention (equation 2) and Mix-FFN (equation 3), each normalised before.

    Attributes:
        heads: Of the attention.
        reduction: Keys and values come from features this much smaller an axis.
    """

    heads: int
    reduction: int
    drop_path: float
    epsilon: float

    @nn.compact
    def __call__(self, x: Features, *, train: bool) -> Features:
        """Return the block's features."""
        drop = functools.partial(conv.DropPath(self.drop_path), train=train)
        norm = functools.partial(self.style.layer_norm, epsilon=self.epsilon)
        y = norm(name="norm1")(x)
        memory = self.reduce(y, train=train) if self.reduction > 1 else y
        attend = attention.Attention(self.heads, **self.style.dtypes, name="attention")
        x = x + drop(attend(tokens(y), tokens(memory)).reshape(x.shape))
        return x + drop(self.mix(norm(name="norm2")(x), train=train))

    def reduce(self, x: Features, *, train: bool) -> Features:
        """Return one feature for each full window of `reduction` along each axis."""
        size = x.shape[1:-1]
        if min(size) < self.reduction:
            raise ConfigError(
                f"mit: features of size {' x '.join(map(str, size))} cannot be reduced by "
                f"encoder.reduction={self.reduction}. Enlarge the image or reduce less."
            )
        reduce = self.style.conv(
            x.shape[-1], kernel=self.reduction, stride=self.reduction, padding=[(0, 0)] * len(size),
            activation="none", name="reduce",
        )  # fmt: skip
        return self.style.layer_norm(epsilon=1e-5, name="reduce_norm")(reduce(x, train=train))

    def mix(self, x: Features, *, train: bool) -> Features:
        """Return the feed-forward part, whose 3x3 convolution encodes positions by its padding."""
        channels, wide = x.shape[-1], EXPANSION * x.shape[-1]
        dense = functools.partial(attention.dense, **self.style.dtypes)
        x = dense(wide, name="expand")(x)
        x = self.style.conv(wide, groups=-1, activation="gelu", name="depthwise")(x, train=train)
        return dense(channels, name="contract")(x)


def tokens(x: Float[Array, "b ... c"]) -> Float[Array, "b n c"]:
    """Return the pixels of a feature map as a sequence."""
    return x.reshape(x.shape[0], -1, x.shape[-1])
