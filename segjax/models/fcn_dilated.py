"""FCN on a dilated ResNet: Long et al.'s head (2014, arXiv:1411.4038) in torchvision's form."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from segjax import encoders
from segjax.layers import conv, dense, resample
from segjax.structs import Features, Outputs

AUX_DROPOUT = 0.1
"""Rate before the classifier of an auxiliary head, that of torchvision's and PSPNet's."""


class Model(nn.Module):
    """Classify an encoder's last features, enlarge the logits.

    No skips as in the paper (`fcn`): dilation keeps the resolution instead. torchvision's weights
    are of this form, with the encoder `dict(type="resnet", depth=50, output_stride=8,
    dilate_first=False)`.

    Attributes:
        num_classes: Channels of the logits.
        encoder: Section of the encoder.
        aux: Indices of the encoder's features that get an auxiliary head while training; -2 is the
            stage before the last.
        dropout: Rate before the classifier.
        norm: A name in `norm.NORMS`, for the heads; the encoder has its own.
        remat: A name in `remat.POLICIES`, for the encoder's blocks.
        compute_dtype: Of features and logits.
        param_dtype: Of parameters.
    """

    num_classes: int
    encoder: Mapping[str, Any]
    aux: Sequence[int] = (-2,)
    dropout: float = 0.1
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
        conv.check_size(size, model="fcn_dilated")
        dtypes = conv.dtypes_of(self)
        encoder = encoders.build(self)
        features = encoder(image, train=train)
        head = Head(self.num_classes, self.dropout, self.norm, **dtypes, name="classifier")
        logits = resample.resize(head(features[-1], train=train), size)
        return Outputs(logits=logits, aux=auxiliary(self, features, size, train=train))


class Head(nn.Module):
    """Convolve 3x3 to a quarter of the channels, drop, classify."""

    num_classes: int
    dropout: float
    norm: str
    compute_dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: Features, *, train: bool) -> Float[Array, "b h w {self.num_classes}"]:
        """Return logits at the resolution of `x`."""
        dtypes = conv.dtypes_of(self)
        narrow = max(x.shape[-1] // 4, 1)
        x = conv.ConvNormAct(narrow, norm=self.norm, **dtypes, name="conv")(x, train=train)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return dense.Dense(self.num_classes, **dtypes, name="head")(x)


def auxiliary(
    model: Any,
    features: Sequence[Features],
    size: Sequence[int],
    *,
    train: bool,
    align_corners: bool = False,
) -> tuple[Features, ...]:
    """Return the logits of a head on each of the features `model.aux`; none outside training."""
    if not train and not model.is_initializing():
        return ()
    logits = []
    for i, index in enumerate(model.aux):
        dtypes = conv.dtypes_of(model)
        head = Head(model.num_classes, AUX_DROPOUT, model.norm, **dtypes, name=f"aux{i}")
        small = head(features[index], train=train)
        logits.append(resample.resize(small, size, align_corners=align_corners))
    return tuple(logits)
