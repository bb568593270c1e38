"""SegNet (Badrinarayanan, Kendall and Cipolla 2015, arXiv:1511.00561, figure 2)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from segjax.encoders import vgg
from segjax.errors import ConfigError
from segjax.layers import resample, style
from segjax.models import base
from segjax.structs import Features, Outputs

Index = Int[Array, "b h w c"]
"""Which pixel of each 2x2 window: 0 to 3, row by row."""


class Model(base.EncoderDecoder):
    """Encode with VGG, remember where each maximum was, put features back there on the way up.

    The decoder mirrors the encoder, convolution by convolution; the last one makes the logits.
    Pooling rounds sizes up, as the authors', and unpooling cuts them off again.

    Attributes:
        encoder: Section of a VGG; the paper's is `dict(type="vgg", depth=16)`.
        remat: A name in `remat.POLICIES`; the blocks are the resolutions.
    """

    dims = (2,)

    def decode(self, encoded: base.Encoded, *, train: bool) -> Outputs:
        """Return logits at the image's size; raise `ConfigError` for an encoder that is no VGG."""
        if not isinstance(encoded.encoder, vgg.Encoder):
            raise ConfigError(
                f"config.model.encoder.type={self.encoder['type']!r}: SegNet needs the maxima of "
                "every pooling, which only 'vgg' has."
            )
        *features, x = encoded.features
        depths, stage = vgg.CONVS[encoded.encoder.depth], self.style.block(Stage)
        for i in reversed(range(len(features))):
            pooled = features[i]
            x = unpool(x, argmax_pool(pooled), pooled.shape[1:-1])
            finer = features[max(i - 1, 0)].shape[-1]
            up = stage(pooled.shape[-1], finer, convs=depths[i] - (i == 0), name=f"up{i}")
            x = up(x, train=train)
        return Outputs(self.conv_head()(x, train=train))


class Stage(style.Block):
    """Convolve 3x3 a few times at one resolution, at the end to the next finer one's channels."""

    features: int
    finer: int
    convs: int

    @nn.compact
    def __call__(self, x: Features, *, train: bool) -> Features:
        """Return the features of the last convolution."""
        for i in reversed(range(self.convs)):
            features = self.features if i else self.finer
            x = self.style.conv(features, name=f"conv{i}")(x, train=train)
        return x


def argmax_pool(x: Float[Array, "b h w c"]) -> Int[Array, "b _ _ c"]:
    """Return which pixel of each 2x2 window `resample.max_pool` takes: 0 to 3, row by row.

    The first of equal ones and the first NaN, as in PyTorch. Windows that reach over the edge have
    their maximum inside. One byte a window is all that the way up has to keep.
    """
    x = jnp.pad(
        x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)), constant_values=-jnp.inf
    )
    windows = x.reshape(x.shape[0], x.shape[1] // 2, 2, x.shape[2] // 2, 2, x.shape[3])
    best, index = windows[:, :, 0, :, 0], jnp.zeros((), jnp.int8)
    for number, (i, j) in enumerate(((0, 1), (1, 0), (1, 1)), 1):
        other = windows[:, :, i, :, j]
        better = (other > best) | (jnp.isnan(other) & ~jnp.isnan(best))
        best = jnp.where(better, other, best)
        index = jnp.where(better, jnp.int8(number), index)
    return index


def unpool(x: Float[Array, "b h w c"], index: Index, size: tuple[int, ...]) -> Features:
    """Put each feature at its index in a 2x2 window of zeros; leave out what is beyond `size`.

    Its gradient is four selects; nothing is scattered, and sharded rows are not moved.
    """
    pixels = jnp.arange(4, dtype=index.dtype)
    zero = jnp.zeros((), x.dtype)
    windows = jnp.where(index[..., None, :] == pixels[:, None], x[..., None, :], zero)
    windows = windows.reshape(*x.shape[:-1], 2, 2, x.shape[-1])
    return resample.crop(resample.depth_to_space(windows), size)
