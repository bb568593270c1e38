"""FCN on a dilated ResNet: Long et al.'s head (2014, arXiv:1411.4038) in torchvision's form."""

from collections.abc import Sequence
from typing import Annotated

from segjax.config import kinds, rules
from segjax.models import base
from segjax.structs import Outputs


class Model(base.EncoderDecoder):
    """Classify an encoder's last features, enlarge the logits.

    No skips as in the paper (`fcn`): dilation keeps the resolution instead. torchvision's weights
    are of this form, with the encoder `dict(type="resnet", depth=50, output_stride=8,
    dilate_first=False)`.

    Attributes:
        aux: Indices of the encoder's features that get an auxiliary head while training; -2 is the
            stage before the last.
        dropout: Rate before the classifier.
    """

    aux: Annotated[Sequence[kinds.Index], rules.length(0, 16)] = (-2,)
    dropout: kinds.Dropped = 0.1

    def decode(self, encoded: base.Encoded, *, train: bool) -> Outputs:
        """Return logits at the stride of the encoder's last features."""
        head = base.Head(self.num_classes, self.dropout, style=self.style, name="classifier")
        logits = head(encoded.features[-1], train=train)
        return Outputs(logits, self.auxiliary(encoded, train=train))
