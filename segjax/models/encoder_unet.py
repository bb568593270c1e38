"""U-Net on any encoder, in the form that segmentation_models.pytorch publishes weights of."""

import math
from collections.abc import Sequence
from typing import Annotated

import flax.linen as nn
from jaxtyping import Array, Float

from segjax.config import kinds, rules
from segjax.errors import ConfigError
from segjax.kernels import joining
from segjax.layers import resample, style
from segjax.models import base, unet
from segjax.structs import Features, Outputs


class Model(base.EncoderDecoder):
    """Double the encoder's last features up to the image, joined by its finer ones on the way.

    One block for each halving that the encoder did. Where it has no features of a resolution (a
    ResNet none at stride 1, a transformer none at 2 either) the block only enlarges.

    Attributes:
        encoder: The section of an encoder whose strides are powers of two.
        widths: Channels of each block, from the coarsest: as many as the encoder halves.
        center: Convolve twice before the first block, as published for VGG.
        finest_skip: Use no features finer than this stride; 2 for the published VGG.
        deep_supervision: How many coarser blocks give logits of their own in training, at 1/2, 1/4,
            … of the input's resolution; `task.deep_weights` says what they count.
        remat: A name in `remat.POLICIES`; the blocks are the encoder's own and the decoder's.
    """

    widths: kinds.Widths = (256, 128, 64, 32, 16)
    center: bool = False
    finest_skip: Annotated[int, rules.one_of(1, 2, 4, 8, 16, 32)] = 1
    deep_supervision: kinds.DepthOrNone = 0

    def decode(self, encoded: base.Encoded, *, train: bool) -> Outputs:
        """Return logits at the image's size; raise `ConfigError` if `widths` do not suit."""
        check_halvings(encoded.strides, self.widths)
        skips = dict(zip(encoded.strides, encoded.features, strict=True))
        x, stride = encoded.features[-1], encoded.strides[-1]
        if self.center:
            level = self.style.block(unet.Level)
            x = level(x.shape[-1], convs=2, activation="relu", name="center")(x, train=train)
        join, coarser = self.style.block(Join), []
        for i, width in enumerate(self.widths):
            stride //= 2
            used = [skips[stride]] if stride in skips and stride >= self.finest_skip else []
            x = join(width, size=encoded.size_at(stride), name=f"up{i}")(x, *used, train=train)
            coarser.insert(0, x)
        deep = self.deep_logits(coarser[1:], self.deep_supervision, train=train)
        return Outputs(self.conv_head()(x, train=train), deep=deep)


class Join(style.Block):
    """Double features, lay finer ones beside them, convolve 3x3 twice.

    Attributes:
        features: Channels to return.
        size: The spatial size to return, that of the finer ones; doubling may overshoot it by one.
    """

    features: int
    size: Sequence[int]

    @nn.compact
    def __call__(
        self, coarse: Features, *finer: Features, train: bool
    ) -> Float[Array, "b ... {self.features}"]:
        """Return the features at the size of the finer ones."""
        coarse = resample.crop(resample.upsample(coarse, factor=2, method="nearest"), self.size)
        x = joining.join(coarse, *finer)
        for name in ("conv1", "conv2"):
            x = self.style.conv(self.features, name=name)(x, train=train)
        return x


def check_halvings(strides: Sequence[int], widths: Sequence[int]) -> None:
    """Raise `ConfigError` unless there is one width for each halving that the encoder did."""
    if any(stride & (stride - 1) for stride in strides):
        raise ConfigError(
            f"config.model.encoder has strides {tuple(strides)}, expected powers of two. "
            "Use an encoder that halves, e.g. resnet."
        )
    halvings = int(math.log2(strides[-1]))
    if len(widths) != halvings:
        raise ConfigError(
            f"config.model.widths={tuple(widths)}: expected {halvings} widths, one for each "
            f"halving up to the encoder's stride {strides[-1]}."
        )
