"""DeepLabv3 (Chen et al. 2017, arXiv:1706.05587, figure 5)."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from segjax import encoders
from segjax.layers import conv, dense, resample
from segjax.models import fcn_dilated
from segjax.structs import Features, Outputs


class Model(nn.Module):
    """Look at dilated features through holes of several sizes and at their mean; classify.

    `encoder` sets the output stride and multi-grid: the paper's is `dict(type="resnet", depth=101,
    output_stride=16, multi_grid=(1, 2, 4))`. Published weights have fields of their own:
    torchvision's `rates=(12, 24, 36), convs=1, dropout=0.5, aux=(-2,)` and an encoder with
    `output_stride=8, dilate_first=False`; segmentation_models.pytorch's `rates=(12, 24, 36),
    convs=1, dropout=0.5, align_corners=True` and an encoder with `output_stride=8`.

    With sharded rows a convolution needs a halo of `rates` rows at the output stride; where a shard
    has fewer, XLA gathers them all.

    Attributes:
        num_classes: Channels of the logits.
        encoder: Section of the encoder.
        rates: Dilations of the pyramid's 3x3 convolutions: (6, 12, 18) at output stride 16, twice
            as much at 8.
        width: Channels of the pyramid.
        separable: Make these convolutions depthwise separable.
        convs: 3x3 convolutions between pyramid and classifier.
        dropout: Rate at the end of the pyramid; 0.1 is that of the authors' code.
        aux: Indices of the encoder's features that get an auxiliary head while training.
        align_corners: Enlarge the logits so that corner pixels lie on each other.
        norm: A name in `norm.NORMS`, for the heads; the encoder has its own.
        remat: A name in `remat.POLICIES`, for the encoder's blocks.
        compute_dtype: Of features and logits.
        param_dtype: Of parameters.
    """

    num_classes: int
    encoder: Mapping[str, Any]
    rates: Sequence[int] = (6, 12, 18)
    width: int = 256
    separable: bool = False
    convs: int = 0
    dropout: float = 0.1
    aux: Sequence[int] = ()
    align_corners: bool = False
    norm: str = "batch"
    remat: str = "none"
    compute_dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, image: Float[Array, "b h w _"], *, train: bool) -> Outputs:
        """Return logits [b h w num_classes] in `compute_dtype`.

        Raises:
            ConfigError: A side below 32 pixels.
        """
        size = image.shape[1:-1]
        conv.check_size(size, model="deeplabv3")
        dtypes = conv.dtypes_of(self)
        encoder = encoders.build(self)
        features = encoder(image, train=train)
        pyramid = Aspp(
            self.width, self.rates, self.separable, self.dropout, self.norm, **dtypes, name="aspp"
        )
        x = pyramid(features[-1], train=train)
        for i in range(self.convs):
            x = conv.ConvNormAct(self.width, norm=self.norm, **dtypes, name=f"conv{i}")(
                x, train=train
            )
        logits = dense.Dense(self.num_classes, **dtypes, name="head")(x)
        enlarge = {"size": size, "align_corners": self.align_corners}
        aux = fcn_dilated.auxiliary(self, features, train=train, **enlarge)
        return Outputs(resample.resize(logits, **enlarge), aux)


class Aspp(nn.Module):
    """Atrous spatial pyramid pooling: a 1x1, several dilated 3x3 convolutions and the mean."""

    features: int
    rates: Sequence[int]
    separable: bool
    dropout: float
    norm: str
    compute_dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: Features, *, train: bool) -> Float[Array, "b h w {self.features}"]:
        """Return what the branches see, projected to `features` channels."""
        kinds = (conv.ConvNormAct, conv.SeparableConv)
        plain, atrous = (
            functools.partial(kind, self.features, norm=self.norm, **conv.dtypes_of(self))
            for kind in (kinds[0], kinds[self.separable])
        )
        branches = [plain(kernel=1, name="branch0")(x, train=train)]
        for i, rate in enumerate(self.rates, 1):
            branches.append(atrous(dilation=rate, name=f"branch{i}")(x, train=train))
        mean = plain(kernel=1, name="pool")(x.mean((1, 2), keepdims=True), train=train)
        branches.append(jnp.broadcast_to(mean, branches[0].shape))
        x = plain(kernel=1, name="project")(jnp.concatenate(branches, axis=-1), train=train)
        return nn.Dropout(self.dropout, deterministic=not train)(x)
