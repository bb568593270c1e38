"""U-Net++ (Zhou et al. 2018, arXiv:1807.10165, figure 1a) on any encoder."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn

from segjax import encoders
from segjax.layers import conv, dense, remat, resample
from segjax.models import encoder_unet
from segjax.structs import Features, Outputs


class Model(nn.Module):
    """Fill the triangle between encoder and decoder with nodes that see all before them.

    Node X[i, j] of the figure lies in row i (0: the finest features of the encoder) and column j
    (0: the encoder itself). It sees its whole row so far and, doubled, its neighbour below. Nodes
    of the diagonal are the decoder and have `widths` channels, those inside as many as the encoder
    has in their row: the form that segmentation_models.pytorch publishes weights of. An encoder
    whose finest features are coarser than the image adds blocks that only enlarge.

    Attributes:
        num_classes: Channels of the logits.
        encoder: The section of an encoder whose strides are powers of two.
        widths: Channels of the decoder, from the coarsest: as many as the encoder halves.
        deep_supervision: Give auxiliary logits from the inner nodes of the finest row (section 3.2;
            the last node makes the logits alone, the paper's fast mode).
        norm: A name in `norm.NORMS`.
        remat: A name in `remat.POLICIES`; the blocks are the encoder's own and the nodes.
        compute_dtype: Of features and logits.
        param_dtype: Of parameters.
    """

    num_classes: int
    encoder: Mapping[str, Any]
    widths: Sequence[int] = (256, 128, 64, 32, 16)
    deep_supervision: bool = False
    norm: str = "batch"
    remat: str = "none"
    compute_dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, image: Features, *, train: bool) -> Outputs:
        """Return logits [b h w num_classes] in `compute_dtype`; auxiliary ones in training.

        Raises:
            ConfigError: A side below 32 pixels, or an encoder that does not suit `widths`.
        """
        size, dtypes = image.shape[1:-1], conv.dtypes_of(self)
        conv.check_size(size, model="unetpp")
        encoder = encoders.build(self)
        encoder_unet.check_halvings(encoder.strides, self.widths)
        # Of features at the same stride (dilation) the last are the deepest.
        column = dict(zip(encoder.strides, encoder(image, train=train), strict=True))
        strides, depth = list(column), len(column) - 1
        nodes = {(i, 0): features for i, features in enumerate(column.values())}
        join = functools.partial(
            remat.remat(encoder_unet.Join, self.remat), norm=self.norm, **dtypes
        )
        for j in range(1, depth + 1):
            for i in range(depth - j + 1):
                row = [nodes[i, k] for k in reversed(range(j))]
                width = self.widths[j - 1] if i + j == depth else row[-1].shape[-1]
                node = join(width, size=row[0].shape[1:-1], name=f"x{i}_{j}")
                nodes[i, j] = node((nodes[i + 1, j - 1], *row), train)
        x, stride = nodes[0, depth], strides[0]
        for j in range(depth, len(self.widths)):
            stride //= 2
            finer = encoder_unet.at_stride(size, stride)
            x = join(self.widths[j], size=finer, name=f"up{j}")((x,), train)
        logits = encoder_unet.head(self.num_classes, **dtypes)(x, train=train)
        aux = []
        if self.deep_supervision and (train or self.is_initializing()):
            for j in range(1, depth):
                y = dense.Dense(self.num_classes, **dtypes, name=f"aux{j}")(nodes[0, j])
                aux.append(resample.crop(resample.upsample(y, factor=strides[0]), size))
        return Outputs(logits=logits, aux=tuple(aux))
