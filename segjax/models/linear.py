"""A linear classifier on an encoder's features, as DINOv2 is judged by (arXiv:2304.07193, 7.4)."""

import flax.linen as nn

from segjax.config import kinds
from segjax.kernels import joining
from segjax.layers import resample
from segjax.models import base
from segjax.structs import Outputs


class Model(base.EncoderDecoder):
    """Concatenate the encoder's features at the finest one's size, normalise, classify, enlarge.

    The paper's are `dict(type="vit", variant="s")`, frozen, and with `layers=(-4, -3, -2, -1)` its
    "+ms" without the image at several scales.

    Attributes:
        dropout: Rate of whole channels before the classifier.
    """

    dropout: kinds.Dropped = 0.0

    def decode(self, encoded: base.Encoded, *, train: bool) -> Outputs:
        """Return logits at the stride of the encoder's finest features."""
        finest = encoded.features[0].shape[1:-1]
        x = joining.join(*(resample.resize(y, finest) for y in encoded.features))
        x = self.style.normalization(train=train, name="norm")(x)
        space = tuple(range(1, x.ndim - 1))
        x = nn.Dropout(self.dropout, broadcast_dims=space, deterministic=not train)(x)
        return Outputs(self.style.dense(self.num_classes, name="head")(x))
