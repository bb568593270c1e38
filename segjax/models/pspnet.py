"""PSPNet (Zhao et al. 2016, arXiv:1612.01105, figure 3)."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from segjax import encoders
from segjax.kernels import resize
from segjax.layers import conv, resample
from segjax.models import fcn_dilated
from segjax.structs import Features, Outputs


class Model(nn.Module):
    """Join features with their means over grids of several sizes, then classify.

    The paper's encoder is `dict(type="resnet", depth=50, output_stride=8)`; its first 7x7
    convolution is three 3x3 ones in the authors' code. segmentation_models.pytorch ends the encoder
    at stride 8 instead, `stages=3`, and has `fuse_kernel=1, head_kernel=3, norm_of_mean="none",
    dropout=0.2, aux=()`.

    Attributes:
        num_classes: Channels of the logits.
        encoder: Section of the encoder.
        bins: Cells along each side of the grids.
        width: Channels before the classifier.
        fuse_kernel: Window of the convolution after the pyramid.
        head_kernel: Window of the classifier.
        norm_of_mean: Normalisation of the mean over the whole image, a single value per channel
            and example: batch statistics of few examples are noise ('none' avoids them).
        dropout: Rate of whole channels before the classifier.
        aux: Indices of the encoder's features that get an auxiliary head while training; -2 is the
            paper's fourth stage.
        align_corners: Enlarge so that corner pixels lie on each other, as the authors' code.
        norm: A name in `norm.NORMS`, for the heads; the encoder has its own.
        remat: A name in `remat.POLICIES`, for the encoder's blocks.
        compute_dtype: Of features and logits.
        param_dtype: Of parameters.
    """

    num_classes: int
    encoder: Mapping[str, Any]
    bins: Sequence[int] = (1, 2, 3, 6)
    width: int = 512
    fuse_kernel: int = 3
    head_kernel: int = 1
    norm_of_mean: str = "batch"
    dropout: float = 0.1
    aux: Sequence[int] = (-2,)
    align_corners: bool = True
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
        conv.check_size(size, model="pspnet")
        dtypes = conv.dtypes_of(self)
        encoder = encoders.build(self)
        features = encoder(image, train=train)
        x = self.pyramid(features[-1], train=train)
        x = conv.ConvNormAct(
            self.width, kernel=self.fuse_kernel, norm=self.norm, **dtypes, name="fuse"
        )(x, train=train)
        x = nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(x)
        logits = conv.ConvNormAct(
            self.num_classes, kernel=self.head_kernel, norm="none", activation="none",
            **dtypes, name="head",
        )(x, train=train)  # fmt: skip
        enlarge = {"size": size, "align_corners": self.align_corners}
        aux = fcn_dilated.auxiliary(self, features, train=train, **enlarge)
        return Outputs(resample.resize(logits, **enlarge), aux)

    def pyramid(self, x: Features, *, train: bool) -> Features:
        """Return the means over each grid, reduced and enlarged, and `x` itself."""
        unit = functools.partial(
            conv.ConvNormAct, x.shape[-1] // len(self.bins), kernel=1, **conv.dtypes_of(self)
        )
        levels = []
        for i, bins in enumerate(self.bins):
            norm = self.norm_of_mean if bins == 1 else self.norm
            mean = resample.adaptive_avg_pool(x, (bins, bins))
            y = unit(norm=norm, name=f"level{i}")(mean, train=train)
            for axis in (1, 2):
                # As products whatever the factor: every shard of rows holds all the few cells.
                weights = resample.interpolation(
                    bins, x.shape[axis], method="bilinear", align_corners=self.align_corners
                )
                y = resize.matrix(y, weights, axis=axis)
            levels.append(y)
        return jnp.concatenate([*levels, x], axis=-1)
