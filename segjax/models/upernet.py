"""UPerNet (Xiao et al. 2018, arXiv:1807.10221, figure 4) for semantic segmentation."""

import dataclasses
from collections.abc import Sequence

from segjax.config import kinds
from segjax.errors import ConfigError
from segjax.kernels import joining
from segjax.layers import norm as norm_lib
from segjax.layers import resample
from segjax.models import base, pspnet
from segjax.structs import Features, Outputs


class Model(base.EncoderDecoder):
    """Pool the coarsest features over grids, add them on to finer ones, fuse all levels.

    The paper's pyramid pooling module and feature pyramid network, and an auxiliary head on the
    features before the coarsest, as OpenMMLab and Hugging Face have them.

    Attributes:
        encoder: Section of an encoder with at least four features; the last four are used.
        width: Channels of all levels.
        bins: Cells along each side of the grids.
        aux_width: Channels of the auxiliary head, which works while training; 0: no such head.
        feature_norm: A name in `norm.NORMS`, for the encoder's features: 'layer' with ConvNeXt and
            Swin.
        feature_epsilon: Added to the variance by it: 1e-5 with Swin.
    """

    width: kinds.Width = 512
    bins: kinds.Bins = (1, 2, 3, 6)
    aux_width: kinds.WidthOrNone = 256
    feature_norm: norm_lib.Norm = "none"
    feature_epsilon: kinds.Epsilon = 1e-6

    def decode(self, encoded: base.Encoded, *, train: bool) -> Outputs:
        """Return logits at the stride of the finest of four features."""
        features = encoded.features[-4:]
        if len(features) < 4:
            raise ConfigError(
                f"config.model.encoder: got {len(features)} features, upernet needs 4."
            )
        features = [self.normalize(x, i, train=train) for i, x in enumerate(features)]
        x = self.top_down(features, train=train)
        logits, aux = self.style.dense(self.num_classes, name="head")(x), ()
        if self.aux_width and self.has_aux(train=train):
            x = self.style.conv(self.aux_width, name="aux_conv")(features[-2], train=train)
            aux = (self.style.dense(self.num_classes, name="aux_head")(x),)
        return Outputs(logits, aux)

    def normalize(self, x: Features, index: int, *, train: bool) -> Features:
        """Return features of the encoder, normalised by `feature_norm`."""
        style = dataclasses.replace(self.style, norm=self.feature_norm)
        return style.normalization(
            train=train, epsilon=self.feature_epsilon, name=f"feature_norm{index}"
        )(x)

    def top_down(self, features: Sequence[Features], *, train: bool) -> Features:
        """Return the levels, each with all coarser ones added, fused at the finest one's size."""
        conv, (*finer, coarsest) = self.style.conv, features
        levels = [self.pyramid(coarsest, train=train)]
        for i, x in reversed(list(enumerate(finer))):
            x = conv(self.width, kernel=1, name=f"lateral{i}")(x, train=train)
            levels.insert(0, x + resample.resize(levels[0], x.shape[1:-1]))
        for i in range(len(finer)):
            levels[i] = conv(self.width, name=f"smooth{i}")(levels[i], train=train)
        levels = [resample.resize(x, levels[0].shape[1:-1]) for x in levels]
        return conv(self.width, name="fuse")(joining.join(*levels), train=train)

    def pyramid(self, x: Features, *, train: bool) -> Features:
        """Return `x` fused with its means over grids of several sizes (PSPNet's module)."""
        conv, levels = self.style.conv, [x]
        for i, bins in enumerate(self.bins):
            reduce = conv(self.width, kernel=1, name=f"level{i}")
            levels.append(pspnet.level(x, bins, reduce, train=train))
        x = joining.join(*levels)
        return conv(self.width, name="bottleneck")(x, train=train)
