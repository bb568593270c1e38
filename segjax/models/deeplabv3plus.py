"""DeepLabv3+ (Chen et al. 2018, arXiv:1802.02611, figure 2)."""

from collections.abc import Sequence
from typing import Annotated

from segjax.config import kinds, rules
from segjax.kernels import joining
from segjax.layers import resample
from segjax.models import base, deeplabv3
from segjax.structs import Outputs


class Model(base.EncoderDecoder):
    """DeepLabv3's pyramid, enlarged four times and refined by features at stride 4.

    Weights of segmentation_models.pytorch need `rates=(12, 24, 36), pyramid_convs=1, fuse_convs=1,
    dropout=0.5` and an encoder with `output_stride=16`.

    With sharded rows a convolution needs a halo of `rates` rows at the output stride; where a shard
    has fewer, XLA gathers them all.

    Attributes:
        encoder: Section of an encoder with features at stride 4; it sets the output stride, 16 in
            the paper (8 is slower and a little better).
        rates: Dilations of the pyramid's 3x3 convolutions; twice as much at output stride 8.
        width: Channels of pyramid and decoder.
        low_width: Channels that the features at stride 4 are reduced to.
        separable: Make all 3x3 convolutions of pyramid and decoder depthwise separable, as the
            paper does with Xception; with ResNet it has plain ones.
        pyramid_convs: 3x3 convolutions after the pyramid, before it is enlarged.
        fuse_convs: 3x3 convolutions after the features are joined; two in the paper's table 2.
        dropout: Rate at the end of the pyramid; 0.1 is that of the authors' code.
        align_corners: Enlarge so that corner pixels lie on each other, as the authors' code.
    """

    rates: Annotated[Sequence[kinds.Dilation], rules.length(0, 16)] = (6, 12, 18)
    width: kinds.Width = 256
    low_width: kinds.Width = 48
    separable: bool = True
    pyramid_convs: kinds.DepthOrNone = 0
    fuse_convs: kinds.DepthOrNone = 2
    dropout: kinds.Dropped = 0.1
    align_corners: bool = True

    def decode(self, encoded: base.Encoded, *, train: bool) -> Outputs:
        """Return logits at stride 4."""
        low, conv = encoded.at(4), self.style.conv
        conv3x3 = self.style.separable_conv if self.separable else conv
        pyramid = deeplabv3.Aspp(
            self.width, self.rates, self.separable, self.dropout, style=self.style, name="aspp"
        )
        x = pyramid(encoded.features[-1], train=train)
        for i in range(self.pyramid_convs):
            x = conv3x3(self.width, name=f"pyramid_conv{i}")(x, train=train)
        low = conv(self.low_width, kernel=1, name="low")(low, train=train)
        x = resample.resize(x, low.shape[1:-1], align_corners=self.align_corners)
        x = joining.join(x, low)
        for i in range(self.fuse_convs):
            x = conv3x3(self.width, name=f"fuse{i}")(x, train=train)
        return Outputs(self.style.dense(self.num_classes, name="head")(x))
