"""FCN-32s, -16s and -8s (Long, Shelhamer and Darrell 2014, arXiv:1411.4038, figure 3)."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from segjax import encoders
from segjax.config import lookup
from segjax.errors import ConfigError
from segjax.kernels import conv as conv_lib
from segjax.layers import conv, dense, resample
from segjax.structs import Features, Outputs


class Model(nn.Module):
    """Turn VGG's fully connected layers into convolutions, add the scores of finer poolings.

    The authors pad the image by 100 pixels and cut the logits out; here every convolution pads
    evenly and pooling rounds sizes up, so that sizes are kept. With sharded rows fc6 needs a halo
    of three rows at stride 32; where a shard has too few, XLA gathers them all.

    Attributes:
        num_classes: Channels of the logits.
        encoder: Section of a VGG; the paper's is `dict(type="vgg", depth=16, norm="none")`.
        stride: 32, 16 or 8: that of the finest scores, from which the logits are enlarged.
        width: Channels of fc6 and fc7.
        window: Of fc6.
        up: How scores are doubled: 'learned' (a transposed convolution that begins as bilinear
            interpolation) or 'bilinear'. The last step is bilinear in any case, as the paper's.
        dropout: Rate after fc6 and fc7.
        remat: A name in `remat.POLICIES`, for the encoder's blocks.
        compute_dtype: Of features and logits.
        param_dtype: Of parameters.
    """

    num_classes: int
    encoder: Mapping[str, Any]
    stride: int = 8
    width: int = 4096
    window: int = 7
    up: str = "learned"
    dropout: float = 0.5
    remat: str = "none"
    compute_dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, image: Float[Array, "b h w _"], *, train: bool) -> Outputs:
        """Return logits [b h w num_classes] in `compute_dtype`.

        Raises:
            ConfigError: A side below 32 pixels, or an encoder without VGG's poolings.
        """
        size, dtypes = image.shape[1:-1], conv.dtypes_of(self)
        encoder = encoders.build(self)
        self.check(size, encoder.strides)
        *features, x = encoder(image, train=train)
        for name, window in (("fc6", self.window), ("fc7", 1)):
            x = conv.ConvNormAct(self.width, kernel=window, norm="none", **dtypes, name=name)(
                x, train=train
            )
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        scores = dense.Dense(self.num_classes, **dtypes, name="score32")(x)
        for stride in [s for s in (16, 8) if s >= self.stride]:
            pooled = resample.max_pool(features[encoder.strides.index(stride // 2)])
            finer = dense.Dense(self.num_classes, **dtypes, name=f"score{stride}")(pooled)
            if self.up == "learned":
                scores = Double(**dtypes, name=f"up{stride}")(scores)
            else:
                scores = resample.upsample(scores, factor=2)
            scores = resample.crop(scores, finer.shape[1:-1]) + finer
        return Outputs(resample.crop(resample.upsample(scores, factor=self.stride), size))

    def check(self, size: tuple[int, ...], strides: tuple[int, ...]) -> None:
        """Raise `ConfigError` for fields that make no FCN or an image below the smallest size."""
        lookup.choose(self.stride, (32, 16, 8), what="model.stride")
        lookup.choose(self.up, ("learned", "bilinear"), what="model.up")
        conv.check_size(size, model="fcn")
        if strides != (1, 2, 4, 8, 16, 32):
            raise ConfigError(
                f"config.model.encoder.type={self.encoder['type']!r} has strides {strides}, "
                "expected 1, 2, 4, 8, 16, 32: those of 'vgg'. Other encoders go into 'fcn_dilated'."
            )


class Double(nn.Module):
    """Double both axes by a transposed convolution with windows of 4, stride 2 and padding 1.

    It begins as bilinear interpolation of each channel (the paper's section 3.3). Each of the four
    pixels that replace one sees 2x2 of the old ones: a 3x3 convolution to 4x the channels makes
    them all, and sharded rows exchange halos only. `kernel[i, j]` is [in out], as
    `nn.ConvTranspose2d`'s.
    """

    compute_dtype: str
    param_dtype: str

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
            x.astype(self.compute_dtype),
            taps,
            strides=(1, 1),
            padding=[(1, 1)] * 2,
            dilation=(1, 1),
        )
        return resample.depth_to_space(y.reshape(*y.shape[:-1], 2, 2, channels))


def bilinear(key: Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike) -> Array:
    """Return the kernel [4 4 c c] that interpolates each channel by itself; `key` is not used."""
    ramp = np.array([0.25, 0.75, 0.75, 0.25])
    kernel = ramp[:, None, None, None] * ramp[:, None, None] * np.eye(shape[-1])
    return jnp.asarray(kernel, dtype)
