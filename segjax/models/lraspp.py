"""Lite R-ASPP (Howard et al. 2019, arXiv:1905.02244, section 6.4 and figure 10)."""

import flax.linen as nn

from segjax.config import kinds
from segjax.layers import resample
from segjax.models import base
from segjax.structs import Outputs


class Model(base.EncoderDecoder):
    """Weigh an encoder's last features by their mean over the image, add finer scores.

    torchvision's weights are of this form, with the encoder `dict(type="mobilenetv3",
    output_stride=16, first_blocks=True)`. The mean is over the whole image, as torchvision's; the
    paper has windows of 49x49 features, nearly as large as its images.

    Attributes:
        encoder: Section of an encoder with features at stride 8.
        width: Channels that the last features are reduced to.
    """

    width: kinds.Width = 128

    def decode(self, encoded: base.Encoded, *, train: bool) -> Outputs:
        """Return logits at stride 8."""
        low, high = encoded.at(8), encoded.features[-1]
        x = self.style.conv(self.width, kernel=1, name="reduce")(high, train=train)
        mean = high.mean(range(1, high.ndim - 1), keepdims=True)
        x *= nn.sigmoid(self.style.dense(self.width, bias=False, name="weigh")(mean))
        x = resample.resize(x, low.shape[1:-1])
        fine = self.style.dense(self.num_classes, name="low")(low)
        return Outputs(fine + self.style.dense(self.num_classes, name="high")(x))
