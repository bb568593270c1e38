"""What all encoders share: the check, the cast, the output stride."""

from typing import Annotated, ClassVar

import flax.linen as nn

from segjax.config import rules
from segjax.layers import style
from segjax.structs import Features


class Encoder(style.Network):
    """A network that returns features at several strides, for a decoder to join.

    A paper's encoder has fields of its own, `strides` and `encode`.
    """

    where = "config.model.encoder"

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the features that are returned, finest first."""
        raise NotImplementedError

    @nn.compact
    def __call__(self, image: Features, *, train: bool) -> tuple[Features, ...]:
        """Return one feature map for each of `strides`, sizes rounded up, in `compute_dtype`.

        Raises:
            ConfigError: Fields that make no such network, or an image of too many axes.
        """
        self.check_axes(image)
        self.check()
        return self.encode(self.prepare(image), train=train)

    def encode(self, x: Features, *, train: bool) -> tuple[Features, ...]:
        """Return the feature maps of `x`, which `prepare` made of an image."""
        raise NotImplementedError


class Dilated(Encoder, kw_only=True):
    """An encoder whose later stages may dilate instead of striding (Chen et al. 2017).

    Attributes:
        output_stride: 32, 16 or 8: the largest stride.
    """

    full_strides: ClassVar[tuple[int, ...]] = (2, 4, 8, 16, 32)
    """Strides without dilation."""

    output_stride: Annotated[int, rules.one_of(8, 16, 32)] = 32

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the features that are returned, finest first."""
        return tuple(min(stride, self.output_stride) for stride in self.full_strides)
