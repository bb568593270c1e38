"""PSPNet (Zhao et al. 2016, arXiv:1612.01105, figure 3)."""

from collections.abc import Callable, Sequence
from typing import Annotated

import flax.linen as nn

from segjax.config import kinds, rules
from segjax.errors import ConfigError
from segjax.kernels import joining, resize
from segjax.layers import norm as norm_lib
from segjax.layers import resample
from segjax.models import base
from segjax.runtime import sharding
from segjax.structs import Features, Outputs


class Model(base.EncoderDecoder):
    """Join features with their means over grids of several sizes, then classify.

    The paper's encoder is `dict(type="resnet", depth=50, output_stride=8)`; its first 7x7
    convolution is three 3x3 ones in the authors' code. segmentation_models.pytorch ends the encoder
    at stride 8 instead, `stages=3`, and has `fuse_kernel=1, head_kernel=3, norm_of_mean="none",
    dropout=0.2, aux=()`.

    Attributes:
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
    """

    bins: kinds.Bins = (1, 2, 3, 6)
    width: kinds.Width = 512
    fuse_kernel: kinds.Window = 3
    head_kernel: kinds.Window = 1
    norm_of_mean: norm_lib.Norm = "batch"
    dropout: kinds.Dropped = 0.1
    aux: Annotated[Sequence[kinds.Index], rules.length(0, 16)] = (-2,)
    align_corners: bool = True

    def decode(self, encoded: base.Encoded, *, train: bool) -> Outputs:
        """Return logits at the encoder's output stride."""
        x = self.pyramid(encoded.features[-1], train=train)
        x = self.style.conv(self.width, kernel=self.fuse_kernel, name="fuse")(x, train=train)
        space = tuple(range(1, x.ndim - 1))
        x = nn.Dropout(self.dropout, broadcast_dims=space, deterministic=not train)(x)
        logits = self.conv_head(self.head_kernel)(x, train=train)
        return Outputs(logits, self.auxiliary(encoded, train=train))

    def pyramid(self, x: Features, *, train: bool) -> Features:
        """Return the means over each grid, reduced and enlarged, and `x` itself."""
        width, levels = x.shape[-1] // len(self.bins), []
        if not width:
            raise ConfigError(
                f"config.model.bins={tuple(self.bins)}: expected at most {x.shape[-1]}, one for "
                "each of the encoder's channels. Use fewer, or a wider encoder."
            )
        for i, bins in enumerate(self.bins):
            norm = self.norm_of_mean if bins == 1 else self.norm
            reduce = self.style.conv(width, kernel=1, norm=norm, name=f"level{i}")
            levels.append(level(x, bins, reduce, train=train, align_corners=self.align_corners))
        return joining.join(*levels, x)


def level(
    x: Features,
    bins: int,
    reduce: Callable[..., Features],
    *,
    train: bool,
    align_corners: bool = False,
) -> Features:
    """Return the means of `x` over a grid of `bins` cells a side, reduced, at the size of `x`.

    The grid is whole on every device: all rows of the image see all of it.
    """
    with sharding.whole_rows():
        y = reduce(resample.adaptive_avg_pool(x, (bins,) * (x.ndim - 2)), train=train)
    return enlarge(y, x.shape[1:-1], align_corners=align_corners)


def enlarge(x: Features, size: Sequence[int], *, align_corners: bool = False) -> Features:
    """Interpolate a grid of few cells, which every shard of rows holds, at `size` places.

    As matrix products whatever the factor: `resample.resize` would exchange halos of single cells.
    """
    for axis, length in enumerate(size, 1):
        weights = resample.interpolation(
            x.shape[axis], length, method="bilinear", align_corners=align_corners
        )
        x = resize.matrix(x, weights, axis=axis)
    return x
