"""U-Net (Ronneberger, Fischer and Brox 2015, arXiv:1505.04597, figure 1)."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from segjax.errors import ConfigError
from segjax.models import layers
from segjax.structs import Outputs

MIN_SIZE = 32


class Model(nn.Module):
    """Contract, expand, and hand the features of each resolution across.

    Differs from the figure where practice does: convolutions normalise, and pad so that the output
    has the input's size. Pooling lets an odd last row or column stand for itself and the way up
    crops its copy again: every size from 32 up works, and no statistic sees an invented pixel.

    Attributes:
        num_classes: Channels of the logits.
        widths: Channels at each resolution, from the input's to the bottom's.
        convs_per_level: Convolutions at each resolution, on the way down and on the way up.
        norm: A name in `layers.NORMS`.
        activation: A name in `layers.ACTIVATIONS`.
        up: 'transpose' (the figure's 2x2 up-convolution), or 'bilinear' or 'nearest' up-sampling of
            a 1x1 convolution.
        dropout: Rate at the end of the contracting path.
        stem_stride: 1, 2 or 4: work at a half or a quarter of the input's resolution and up-sample
            the logits bilinearly. For large photographs and small machines.
        remat: Keep each resolution's input only and compute its features again for the gradient.
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
        self.check(height, width)
        dtypes: dict[str, Any] = {
            "compute_dtype": self.compute_dtype,
            "param_dtype": self.param_dtype,
        }
        # The third argument, `train`, is static: it stands behind the module itself and x.
        level = functools.partial(
            nn.remat(Level, static_argnums=(2,)) if self.remat else Level,
            convs=self.convs_per_level,
            norm=self.norm,
            activation=self.activation,
            **dtypes,
        )
        *widths, bottom = self.widths
        x, skips = image.astype(self.compute_dtype), []
        for i, features in enumerate(widths):
            stride = self.stem_stride if i == 0 else 1
            x = level(features, stride=stride, name=f"down{i}")(x, train)
            skips.append(x)
            x = layers.max_pool_2x2(x)
        x = level(bottom, name="bottom")(x, train)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        for i, features in reversed(list(enumerate(widths))):
            x = Enlarge(features, self.up, **dtypes, name=f"enlarge{i}")(x)
            h, w = skips[i].shape[1:3]
            x = jnp.concatenate([skips[i], x[:, :h, :w]], axis=-1)
            x = level(features, name=f"up{i}")(x, train)
        logits = layers.pointwise(self.num_classes, **dtypes, name="head")(x)
        logits = layers.upsample(logits, factor=self.stem_stride)
        return Outputs(logits=logits[:, :height, :width])

    def check(self, height: int, width: int) -> None:
        """Raise `ConfigError` for fields that make no U-Net or an image below the smallest size."""
        layers.choose(self.up, ("transpose", "bilinear", "nearest"), what="up")
        if len(self.widths) < 2 or self.convs_per_level < 1:
            raise ConfigError(
                f"model.widths={self.widths}, model.convs_per_level={self.convs_per_level}: "
                "expected at least two widths, one for each resolution, and one convolution."
            )
        if self.stem_stride not in (1, 2, 4):
            raise ConfigError(f"model.stem_stride={self.stem_stride}: expected 1, 2 or 4.")
        if min(height, width) < MIN_SIZE:
            raise ConfigError(
                f"unet: the image is {height} x {width} pixels, expected at least {MIN_SIZE} on "
                "both sides. Pad or enlarge it."
            )


class Level(nn.Module):
    """Convolve 3x3 a few times at one resolution, the first time with `stride`.

    With a stride the windows are 2 * stride wide and centred on blocks of stride x stride pixels.
    Where the last block is cut off it sees the zeros that any padded convolution sees behind the
    edge: nothing is made up that would count in a statistic, and sharded rows stay where they are.
    """

    features: int
    convs: int
    norm: str
    activation: str
    compute_dtype: str
    param_dtype: str
    stride: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool
    ) -> Float[Array, "b y x {self.features}"]:
        """Return the features at the resolution divided by `stride`, rounded up."""
        for i in range(self.convs):
            window = strided(x.shape[1:3], self.stride) if i == 0 and self.stride > 1 else {}
            x = layers.ConvNormAct(
                self.features,
                norm=self.norm,
                activation=self.activation,
                compute_dtype=self.compute_dtype,
                param_dtype=self.param_dtype,
                name=f"conv{i}",
                **window,
            )(x, train=train)
        return x


def strided(size: Sequence[int], stride: int) -> dict[str, Any]:
    """Return kernel, stride and padding of windows centred on blocks that cover `size`."""
    padding = [(stride // 2, stride // 2 + -length % stride) for length in size]
    return {"kernel": (2 * stride, 2 * stride), "stride": stride, "padding": padding}


class Enlarge(nn.Module):
    """Double the resolution and change the number of channels to `features`."""

    features: int
    up: str
    compute_dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w {self.features}"]:
        """Return the features at twice the resolution."""
        dtypes: dict[str, Any] = {
            "compute_dtype": self.compute_dtype,
            "param_dtype": self.param_dtype,
        }
        if self.up == "transpose":
            return layers.UpConv(self.features, **dtypes, name="conv")(x)
        # Averaging commutes with a 1x1 convolution, which is cheaper before there are more pixels.
        project = layers.pointwise(self.features, **dtypes, name="conv")
        return layers.upsample(project(x), factor=2, method=self.up)
