"""U-Net++ (Zhou et al. 2018, arXiv:1807.10165, figure 1a) on any encoder."""

from segjax.config import kinds
from segjax.layers import resample
from segjax.models import base, encoder_unet
from segjax.structs import Outputs


class Model(base.EncoderDecoder):
    """Fill the triangle between encoder and decoder with nodes that see all before them.

    Node X[i, j] of the figure lies in row i (0: the finest features of the encoder) and column j
    (0: the encoder itself). It sees its whole row so far and, doubled, its neighbour below. Nodes
    of the diagonal are the decoder and have `widths` channels, those inside as many as the encoder
    has in their row: the form that segmentation_models.pytorch publishes weights of. An encoder
    whose finest features are coarser than the image adds blocks that only enlarge.

    Attributes:
        encoder: The section of an encoder whose strides are powers of two.
        widths: Channels of the decoder, from the coarsest: as many as the encoder halves.
        deep_supervision: Give auxiliary logits from the inner nodes of the finest row (section 3.2;
            the last node makes the logits alone, the paper's fast mode).
        remat: A name in `remat.POLICIES`; the blocks are the encoder's own and the nodes.
    """

    widths: kinds.Widths = (256, 128, 64, 32, 16)
    deep_supervision: bool = False

    def decode(self, encoded: base.Encoded, *, train: bool) -> Outputs:
        """Return logits at the image's size; raise `ConfigError` if `widths` do not suit."""
        encoder_unet.check_halvings(encoded.strides, self.widths)
        # Of features at the same stride (dilation) the last are the deepest.
        column = dict(zip(encoded.strides, encoded.features, strict=True))
        strides, depth = list(column), len(column) - 1
        nodes = {(i, 0): features for i, features in enumerate(column.values())}
        join = self.style.block(encoder_unet.Join)
        for j in range(1, depth + 1):
            for i in range(depth - j + 1):
                row = [nodes[i, k] for k in reversed(range(j))]
                width = self.widths[j - 1] if i + j == depth else row[-1].shape[-1]
                node = join(width, size=row[0].shape[1:-1], name=f"x{i}_{j}")
                nodes[i, j] = node(nodes[i + 1, j - 1], *row, train=train)
        x, stride = nodes[0, depth], strides[0]
        for j in range(depth, len(self.widths)):
            stride //= 2
            node = join(self.widths[j], size=encoded.size_at(stride), name=f"up{j}")
            x = node(x, train=train)
        logits, aux = self.conv_head()(x, train=train), []
        if self.deep_supervision and self.has_aux(train=train):
            for j in range(1, depth):
                y = self.style.dense(self.num_classes, name=f"aux{j}")(nodes[0, j])
                y = resample.upsample(y, factor=strides[0])
                aux.append(resample.crop(y, encoded.size))
        return Outputs(logits, tuple(aux))
