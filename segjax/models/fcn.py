"""FCN-32s, -16s and -8s (Long, Shelhamer and Darrell 2014, arXiv:1411.4038, figure 3)."""

from typing import Annotated

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from segjax.config import kinds, rules
from segjax.errors import ConfigError
from segjax.kernels import conv as conv_lib
from segjax.layers import norm as norm_lib
from segjax.layers import resample, style
from segjax.models import base
from segjax.structs import Features, Outputs


class Model(base.EncoderDecoder):
    """Turn VGG's fully connected layers into convolutions, add the scores of finer poolings.

    The authors pad the image by 100 pixels and cut the logits out; here every convolution pads
    evenly and pooling rounds sizes up, so that sizes are kept. With sharded rows fc6 needs a halo
    of three rows at stride 32; where a shard has too few, XLA gathers them all.

    Attributes:
        encoder: Section of a VGG; the paper's is `dict(type="vgg", depth=16, norm="none")`.
        stride: 32, 16 or 8: that of the finest scores, from which the logits are enlarged.
        width: Channels of fc6 and fc7.
        window: Of fc6.
        up: How scores are doubled: 'learned' (a transposed convolution of images that begins as
            bilinear interpolation) or 'bilinear'. The last step is bilinear in any case, as the
            paper's.
        dropout: Rate after fc6 and fc7.
        norm: A name in `norm.NORMS`, for fc6 and fc7; the paper has 'none'.
    """

    stride: Annotated[int, rules.one_of(8, 16, 32)] = 8
    width: kinds.Width = 4096
    window: kinds.Window = 7
    up: Annotated[str, rules.one_of("learned", "bilinear")] = "learned"
    dropout: kinds.Dropped = 0.5
    norm: norm_lib.Norm = "none"

    def decode(self, encoded: base.Encoded, *, train: bool) -> Outputs:
        """Return logits at the image's size; raise `ConfigError` without VGG's poolings."""
        if encoded.strides != (1, 2, 4, 8, 16, 32):
            raise ConfigError(
                f"config.model.encoder.type={self.encoder['type']!r} has strides "
                f"{encoded.strides}, expected 1, 2, 4, 8, 16, 32: those of 'vgg'. Other encoders "
                "go into 'fcn_dilated'."
            )
        x = encoded.features[-1]
        for name, window in (("fc6", self.window), ("fc7", 1)):
            x = self.style.conv(self.width, kernel=window, name=name)(x, train=train)
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        scores = self.style.dense(self.num_classes, name="score32")(x)
        for stride in [s for s in (16, 8) if s >= self.stride]:
            pooled = resample.max_pool(encoded.at(stride // 2))
            finer = self.style.dense(self.num_classes, name=f"score{stride}")(pooled)
            scores = resample.crop(self.double(scores, f"up{stride}"), finer.shape[1:-1]) + finer
        return Outputs(resample.crop(resample.upsample(scores, factor=self.stride), encoded.size))

    def double(self, scores: Features, name: str) -> Features:
        """Return `scores` at twice the resolution, enlarged as `up` says."""
        if self.up == "bilinear":
            return resample.upsample(scores, factor=2)
        if scores.ndim != 4:
            raise ConfigError(
                f"config.model.up='learned' doubles images, got {scores.ndim - 2} spatial axes. "
                "Use up='bilinear'."
            )
        return Double(style=self.style, name=name)(scores)


class Double(style.Block):
    """Double both axes by a transposed convolution with windows of 4, stride 2 and padding 1.

    It begins as bilinear interpolation of each channel (the paper's section 3.3). Each of the four
    pixels that replace one sees 2x2 of the old ones: a 3x3 convolution to 4x the channels makes
    them all, and sharded rows exchange halos only. `kernel[i, j]` is [in out], as
    `nn.ConvTranspose2d`'s.
    """

    @nn.compact
    def __call__(self, x: Features) -> Features:
        """Return the enlarged features in `compute_dtype`."""
        channels = x.shape[-1]
        kernel = self.param("kernel", bilinear, (4, 4, channels, channels), self.param_dtype)
        # Pixel p of a block sees the old pixel at offset t in {-1, 0, 1} by row 1 + p - 2t.
        rows = jnp.pad(kernel.astype(self.compute_dtype), ((1, 1), (1, 1), (0, 0), (0, 0)))
        rows = rows.reshape(3, 2, 3, 2, channels, channels)[::-1, :, ::-1]
        taps = rows.transpose(0, 2, 4, 1, 3, 5).reshape(3, 3, channels, 4 * channels)
        y = conv_lib.convolve(
            x.astype(self.compute_dtype), taps,
            strides=(1, 1), padding=[(1, 1)] * 2, dilation=(1, 1),
        )  # fmt: skip
        return resample.depth_to_space(y.reshape(*y.shape[:-1], 2, 2, channels))


def bilinear(key: Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike) -> Array:
    """Return the kernel [4 4 c c] that interpolates each channel by itself; `key` is not used."""
    ramp = np.array([0.25, 0.75, 0.75, 0.25])
    kernel = ramp[:, None, None, None] * ramp[:, None, None] * np.eye(shape[-1])
    return jnp.asarray(kernel, dtype)
