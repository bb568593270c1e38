"""DeepLabv3+ (Chen et al. 2018, arXiv:1802.02611, figure 2)."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from segjax import encoders
from segjax.config import lookup
from segjax.layers import conv, dense, resample
from segjax.models import deeplabv3
from segjax.structs import Outputs


class Model(nn.Module):
    """DeepLabv3's pyramid, enlarged four times and refined by features at stride 4.

    Weights of segmentation_models.pytorch need `rates=(12, 24, 36), pyramid_convs=1, fuse_convs=1,
    dropout=0.5` and an encoder with `output_stride=16`.

    With sharded rows a convolution needs a halo of `rates` rows at the output stride; where a shard
    has fewer, XLA gathers them all.

    Attributes:
        num_classes: Channels of the logits.
        encoder: Section of the encoder; it sets the output stride, 16 in the paper (8 is slower and
            a little better).
        rates: Dilations of the pyramid's 3x3 convolutions; twice as much at output stride 8.
        width: Channels of pyramid and decoder.
        low_width: Channels that the features at stride 4 are reduced to.
        separable: Make all 3x3 convolutions of pyramid and decoder depthwise separable, as the
            paper does with Xception; with ResNet it has plain ones.
        pyramid_convs: 3x3 convolutions after the pyramid, before it is enlarged.
        fuse_convs: 3x3 convolutions after the features are joined; two in the paper's table 2.
        dropout: Rate at the end of the pyramid; 0.1 is that of the authors' code.
        align_corners: Enlarge so that corner pixels lie on each other, as the authors' code.
        norm: A name in `norm.NORMS`, for the heads; the encoder has its own.
        remat: A name in `remat.POLICIES`, for the encoder's blocks.
        compute_dtype: Of features and logits.
        param_dtype: Of parameters.
    """

    num_classes: int
    encoder: Mapping[str, Any]
    rates: Sequence[int] = (6, 12, 18)
    width: int = 256
    low_width: int = 48
    separable: bool = True
    pyramid_convs: int = 0
    fuse_convs: int = 2
    dropout: float = 0.1
    align_corners: bool = True
    norm: str = "batch"
    remat: str = "none"
    compute_dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, image: Float[Array, "b h w _"], *, train: bool) -> Outputs:
        """Return logits [b h w num_classes] in `compute_dtype`.

        Raises:
            ConfigError: A side below 32 pixels, or an encoder without features at stride 4.
        """
        size = image.shape[1:-1]
        conv.check_size(size, model="deeplabv3plus")
        dtypes = conv.dtypes_of(self)
        encoder = encoders.build(self)
        finest = lookup.choose(4, encoder.strides, what="config.model.encoder: stride")
        features = encoder(image, train=train)
        pyramid = deeplabv3.Aspp(
            self.width, self.rates, self.separable, self.dropout, self.norm, **dtypes, name="aspp"
        )
        kind = conv.SeparableConv if self.separable else conv.ConvNormAct
        unit = functools.partial(kind, self.width, norm=self.norm, **dtypes)
        enlarge = functools.partial(resample.resize, align_corners=self.align_corners)

        x = pyramid(features[-1], train=train)
        for i in range(self.pyramid_convs):
            x = unit(name=f"pyramid_conv{i}")(x, train=train)
        low = conv.ConvNormAct(self.low_width, kernel=1, norm=self.norm, **dtypes, name="low")(
            features[encoder.strides.index(finest)], train=train
        )
        x = jnp.concatenate([enlarge(x, low.shape[1:-1]), low], axis=-1)
        for i in range(self.fuse_convs):
            x = unit(name=f"fuse{i}")(x, train=train)
        logits = dense.Dense(self.num_classes, **dtypes, name="head")(x)
        return Outputs(enlarge(logits, size))
