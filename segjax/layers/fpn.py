"""Feature pyramid network (Lin et al. 2017, arXiv:1612.03144, figure 3)."""

from collections.abc import Sequence

import flax.linen as nn

from segjax.layers import resample, style
from segjax.structs import Features


class Pyramid(style.Block):
    """Bring features of all strides to one width, each with all coarser ones added to it.

    As torchvision's: nearest enlargement, a 3x3 convolution at each level, and no activation.

    Attributes:
        width: Channels of all levels.
    """

    width: int

    @nn.compact
    def __call__(self, features: Sequence[Features], *, train: bool) -> tuple[Features, ...]:
        """Return one level for each of `features`, finest first."""
        levels: list[Features] = []
        for i, x in reversed(list(enumerate(features))):
            lateral = self.style.conv(self.width, kernel=1, activation="none", name=f"lateral{i}")
            x = lateral(x, train=train)
            if levels:
                x = x + resample.resize(levels[0], x.shape[1:-1], method="nearest")
            levels.insert(0, x)
        return tuple(
            self.style.conv(self.width, activation="none", name=f"smooth{i}")(x, train=train)
            for i, x in enumerate(levels)
        )
