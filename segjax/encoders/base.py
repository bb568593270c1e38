"""What all encoders share."""

import flax.linen as nn

from segjax.layers import style
from segjax.structs import Features


class Encoder(style.Network):
    """A network that returns features at several strides, for a decoder to join.

    A paper's encoder has fields of its own, `strides` and `encode`.
    """

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
