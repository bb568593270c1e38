"""DeepLabv3 (Chen et al. 2017, arXiv:1706.05587, figure 5)."""

from collections.abc import Sequence
from typing import Annotated

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from segjax.config import kinds, rules
from segjax.kernels import joining
from segjax.layers import style
from segjax.models import base
from segjax.structs import Features, Outputs


class Model(base.EncoderDecoder):
    """Pool an encoder's features by atrous convolutions of several rates, then classify.

    `encoder` sets the output stride and multi-grid: the paper's is `dict(type="resnet", depth=101,
    output_stride=16, multi_grid=(1, 2, 4))`. Published weights have fields of their own:
    torchvision's `rates=(12, 24, 36), convs=1, dropout=0.5, aux=(-2,)` and an encoder with
    `output_stride=8, dilate_first=False`; segmentation_models.pytorch's `rates=(12, 24, 36),
    convs=1, dropout=0.5, align_corners=True` and an encoder with `output_stride=8`.

    With sharded rows a convolution needs a halo of `rates` rows at the output stride; where a shard
    has fewer, XLA gathers them all.

    Attributes:
        rates: Dilations of the pyramid's 3x3 convolutions: (6, 12, 18) at output stride 16, twice
            as much at 8.
        width: Channels of the pyramid.
        separable: Make these convolutions depthwise separable.
        convs: 3x3 convolutions between pyramid and classifier.
        dropout: Rate at the end of the pyramid; 0.1 is that of the authors' code.
        aux: Indices of the encoder's features that get an auxiliary head while training.
        align_corners: Enlarge the logits so that corner pixels lie on each other.
    """

    rates: Annotated[Sequence[kinds.Dilation], rules.length(0, 16)] = (6, 12, 18)
    width: kinds.Width = 256
    separable: bool = False
    convs: kinds.DepthOrNone = 0
    dropout: kinds.Dropped = 0.1
    aux: Annotated[Sequence[kinds.Index], rules.length(0, 16)] = ()
    align_corners: bool = False

    def decode(self, encoded: base.Encoded, *, train: bool) -> Outputs:
        """Return logits at the encoder's output stride."""
        pyramid = Aspp(
            self.width, self.rates, self.separable, self.dropout, style=self.style, name="aspp"
        )
        x = pyramid(encoded.features[-1], train=train)
        for i in range(self.convs):
            x = self.style.conv(self.width, name=f"conv{i}")(x, train=train)
        logits = self.style.dense(self.num_classes, name="head")(x)
        return Outputs(logits, self.auxiliary(encoded, train=train))


class Aspp(style.Block):
    """Atrous spatial pyramid pooling: a 1x1, several dilated 3x3 convolutions and the mean.

    Attributes:
        features: Channels of each branch, and to return.
        rates: Dilations of the 3x3 convolutions.
        separable: Make them depthwise separable.
        dropout: Rate at the end.
    """

    features: int
    rates: Sequence[int]
    separable: bool
    dropout: float

    @nn.compact
    def __call__(self, x: Features, *, train: bool) -> Float[Array, "b ... {self.features}"]:
        """Return what the branches see, projected to `features` channels."""
        plain = self.style.conv
        atrous = self.style.separable_conv if self.separable else plain
        branches = [plain(self.features, kernel=1, name="branch0")(x, train=train)]
        for i, rate in enumerate(self.rates, 1):
            branch = atrous(self.features, dilation=rate, name=f"branch{i}")
            branches.append(branch(x, train=train))
        mean = x.mean(range(1, x.ndim - 1), keepdims=True)
        mean = plain(self.features, kernel=1, name="pool")(mean, train=train)
        branches.append(jnp.broadcast_to(mean, branches[0].shape))
        x = joining.join(*branches)
        x = plain(self.features, kernel=1, name="project")(x, train=train)
        return nn.Dropout(self.dropout, deterministic=not train)(x)
