"""What all semantic models share: fields, checks, the encoder, auxiliary heads, the logits' size.

A paper's file holds its decoder and its blocks.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
from jaxtyping import Array, Float

from segjax import encoders
from segjax.config import kinds, lookup
from segjax.encoders.base import Encoder
from segjax.errors import ConfigError
from segjax.layers import conv, resample, style
from segjax.layers import norm as norm_lib
from segjax.structs import Features, Outputs

MIN_SIZE = 32
"""The smallest height and width of an image, in pixels."""
AUX_DROPOUT = 0.1
"""Rate before the classifier of an auxiliary head, that of torchvision's and PSPNet's."""


class Segmenter(style.Network, kw_only=True):
    """A model that returns logits of an image's pixels.

    Attributes:
        num_classes: Channels of the logits.
        norm: A name in `norm.NORMS`; an encoder has its own.
    """

    align_corners: ClassVar[bool] = False
    """Whether logits are enlarged so that corner pixels lie on each other."""

    num_classes: int
    norm: norm_lib.Norm = "batch"

    @nn.compact
    def __call__(self, image: Features, *, train: bool) -> Outputs:
        """Return logits [b *space num_classes] in `compute_dtype`; the others in training alone.

        Raises:
            ConfigError: A side below 32 pixels (a volume may have fewer slices), or fields that do
                not fit each other or the encoder.
        """
        self.check_axes(image)
        self.check()
        check_size(image.shape[1:-1], model=style.title(self))
        outputs = self.segment(self.prepare(image), train=train)

        def resize(logits: Features) -> Features:
            return resample.resize(logits, image.shape[1:-1], align_corners=self.align_corners)

        aux = tuple(map(resize, outputs.aux)) if train else ()
        return Outputs(resize(outputs.logits), aux, outputs.deep if train else None)

    def segment(self, x: Features, *, train: bool) -> Outputs:
        """Return logits of any resolution, of what `prepare` made of an image."""
        raise NotImplementedError

    def conv_head(self, kernel: int = 3) -> conv.ConvNormAct:
        """Return the convolution that makes logits."""
        return self.style.conv(
            self.num_classes, kernel=kernel, norm="none", activation="none", name="head"
        )

    def deep_logits(
        self, features: Sequence[Features], count: int, *, train: bool
    ) -> tuple[Features, ...]:
        """Return logits of the first `count` coarser features of a decoder, in training alone.

        Args:
            features: At strides 2, 4, 8, … of what becomes the logits.
            count: The model's `deep_supervision`.
            train: Whether the model is trained.

        Raises:
            ConfigError: There are fewer features.
        """
        if count > len(features):
            raise ConfigError(
                f"config.model.deep_supervision={count}: expected at most {len(features)}, as many "
                "as the decoder has resolutions below the finest. Lower it, or add to widths."
            )
        if not self.has_aux(train=train):
            return ()
        return tuple(
            self.style.dense(self.num_classes, name=f"deep{level}")(x)
            for level, x in enumerate(features[:count], start=1)
        )

    def has_aux(self, *, train: bool) -> bool:
        """Return whether auxiliary heads are to be applied: they have no use but in training."""
        return train or self.is_initializing()


@dataclasses.dataclass(frozen=True)
class Encoded:
    """What an encoder returns of an image.

    Attributes:
        features: One map for each of the encoder's strides, finest first.
        encoder: Where they come from.
        size: The image's.
    """

    features: tuple[Features, ...]
    encoder: Encoder
    size: tuple[int, ...]

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride of each of `features`."""
        return self.encoder.strides

    def at(self, stride: int) -> Features:
        """Return the first features at `stride`; raise `ConfigError` if there are none."""
        lookup.choose(stride, self.strides, what="config.model.encoder: stride")
        return self.features[self.strides.index(stride)]

    def size_at(self, stride: int) -> tuple[int, ...]:
        """Return the size of features at `stride`, rounded up as encoders do."""
        return tuple(-(-length // stride) for length in self.size)


class EncoderDecoder(Segmenter, kw_only=True):
    """A model on an encoder of choice.

    Attributes:
        encoder: Section of the encoder, which gets this model's dtypes and `remat`.
    """

    aux: ClassVar[Sequence[int]] = ()
    """Indices of the encoder's features that get an auxiliary head; a model may have a field."""

    encoder: kinds.EncoderSection

    def prepare(self, image: Features) -> Features:
        """Return `image`: the encoder prepares it."""
        return image

    def segment(self, x: Features, *, train: bool) -> Outputs:
        """Return logits of any resolution."""
        encoder = encoders.build(self.encoder, self.style)
        encoded = Encoded(encoder(x, train=train), encoder, x.shape[1:-1])
        return self.decode(encoded, train=train)

    def decode(self, encoded: Encoded, *, train: bool) -> Outputs:
        """Return logits of any resolution, made of an encoder's features."""
        raise NotImplementedError

    def auxiliary(self, encoded: Encoded, *, train: bool) -> tuple[Features, ...]:
        """Return the logits of a head on each of the features `aux`; none outside training."""
        if not self.has_aux(train=train):
            return ()
        logits = []
        for i, index in enumerate(self.aux):
            if not -len(encoded.features) <= index < len(encoded.features):
                raise ConfigError(
                    f"config.model.aux={tuple(self.aux)}: expected indices of the encoder's "
                    f"{len(encoded.features)} features. Leave {index} out."
                )
            head = Head(self.num_classes, AUX_DROPOUT, style=self.style, name=f"aux{i}")
            logits.append(head(encoded.features[index], train=train))
        return tuple(logits)


class Head(style.Block):
    """Convolve 3x3 to a quarter of the channels, drop, classify: FCN's head in torchvision's form.

    Attributes:
        num_classes: Channels of the logits.
        dropout: Rate before the classifier.
    """

    num_classes: int
    dropout: float

    @nn.compact
    def __call__(self, x: Features, *, train: bool) -> Float[Array, "b ... {self.num_classes}"]:
        """Return logits at the resolution of `x`."""
        x = self.style.conv(max(x.shape[-1] // 4, 1), name="conv")(x, train=train)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return self.style.dense(self.num_classes, name="head")(x)


def check_size(size: Sequence[int], *, model: str) -> None:
    """Raise `ConfigError` for an image with a side below `MIN_SIZE`; a volume's depth is free."""
    if min(size[-2:]) < MIN_SIZE:
        raise ConfigError(
            f"{model}: the image is {' x '.join(map(str, size))} pixels, expected at least "
            f"{MIN_SIZE} on every side but a volume's first. Pad or enlarge it."
        )
