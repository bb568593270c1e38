"""Lite R-ASPP (Howard et al. 2019, arXiv:1905.02244, section 6.4 and figure 10)."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from segjax import encoders
from segjax.config import lookup
from segjax.layers import conv, dense, resample
from segjax.structs import Outputs


class Model(nn.Module):
    """Weigh an encoder's last features by their mean over the image, add finer scores.

    torchvision's weights are of this form, with the encoder `dict(type="mobilenetv3",
    output_stride=16, first_blocks=True)`. The mean is over the whole image, as torchvision's; the
    paper has windows of 49x49 features, nearly as large as its images.

    Attributes:
        num_classes: Channels of the logits.
        encoder: Section of an encoder with features at stride 8.
        width: Channels that the last features are reduced to.
        norm: A name in `norm.NORMS`, for the head; the encoder has its own.
        remat: A name in `remat.POLICIES`, for the encoder's blocks.
        compute_dtype: Of features and logits.
        param_dtype: Of parameters.
    """

    num_classes: int
    encoder: Mapping[str, Any]
    width: int = 128
    norm: str = "batch"
    remat: str = "none"
    compute_dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, image: Float[Array, "b h w _"], *, train: bool) -> Outputs:
        """Return logits [b h w num_classes] in `compute_dtype`.

        Raises:
            ConfigError: A side below 32 pixels, or an encoder without features at stride 8.
        """
        size = image.shape[1:-1]
        conv.check_size(size, model="lraspp")
        dtypes = conv.dtypes_of(self)
        encoder = encoders.build(self)
        finest = lookup.choose(8, encoder.strides, what="config.model.encoder: stride")
        features = encoder(image, train=train)
        low, high = features[encoder.strides.index(finest)], features[-1]
        x = conv.ConvNormAct(self.width, kernel=1, norm=self.norm, **dtypes, name="reduce")(
            high, train=train
        )
        mean = high.mean((1, 2), keepdims=True)
        x *= nn.sigmoid(dense.Dense(self.width, **dtypes, bias=False, name="weigh")(mean))
        x = resample.resize(x, low.shape[1:-1])
        scores = [
            dense.Dense(self.num_classes, **dtypes, name=name)(y)
            for name, y in (("low", low), ("high", x))
        ]
        return Outputs(resample.resize(scores[0] + scores[1], size))
