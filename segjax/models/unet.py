"""U-Net (Ronneberger, Fischer and Brox 2015, arXiv:1505.04597, figure 1)."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from segjax.errors import ConfigError
from segjax.models import layers
from segjax.structs import Outputs

MIN_SIZE = 32


class Model(nn.Module):
    """Contract, expand, and hand each resolution's features across.

    Differs from the figure where practice has: convolutions pad, so the output has the input's size,
    and normalise. Pooling keeps an odd last row or column and the way up crops it again, so any size
    from 32 works and no invented pixel enters a statistic.

    Attributes:
        num_classes: Channels of the logits.
        widths: Channels at each resolution, the last of them at the bottom.
        convs_per_level: Convolutions at each resolution, on the way down and on the way up.
        norm: 'batch', 'group', 'layer' or 'none'.
        activation: A name in `layers.ACTIVATIONS`.
        up: 'transpose' (the paper's 2x2 up-convolution), or a 1x1 convolution and 'bilinear' or
            'nearest' up-sampling.
        dropout: Rate at the end of the contracting path.
        stem_stride: 1, 2 or 4: the first convolution's stride; logits are up-sampled bilinearly. A
            quarter or sixteenth of the time, for large photographs.
        remat: Recompute each resolution's features in the backward pass instead of keeping them.
        compute_dtype: Of features and logits.
        param_dtype: Of parameters.
    """

    num_classes: int
    widths: Sequence[int] = (64, 128, 256, 512, 1024)
    convs_per_level: int = 2
    norm: str = "batch"
    activation: str = "relu"
    up: str = "transpose"
    dropout: float = 0.0
    stem_stride: int = 1
    remat: bool = False
    compute_dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, image: Float[Array, "b h w c"], *, train: bool) -> Outputs:
        """Return logits [b h w num_classes] in `compute_dtype`.

        Raises:
            ConfigError: An image side below 32 pixels.
        """
        height, width = image.shape[1:3]
        check_size(height, width)
        x = image.astype(self.compute_dtype)
        skips = []
        for level, features in enumerate(self.widths[:-1]):
            x = self.level(features, f"down{level}", stride=1 if level else self.stem_stride)(
                x, train
            )
            skips.append(x)
            x = layers.max_pool_2x2(x)
        x = self.level(self.widths[-1], "bottom")(x, train)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        for level in reversed(range(len(skips))):
            skip = skips[level]
            x = self.enlarge(x, features=skip.shape[-1], name=f"enlarge{level}")
            x = jnp.concatenate([skip, x[:, : skip.shape[1], : skip.shape[2]]], axis=-1)
            x = self.level(skip.shape[-1], f"up{level}")(x, train)
        x = layers.pointwise(self.num_classes, ...)(x)
        x = layers.upsample(x, factor=self.stem_stride)
        return Outputs(logits=x[:, :height, :width])
