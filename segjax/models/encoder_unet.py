"""U-Net on any encoder, in the form that segmentation_models.pytorch publishes weights of."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from segjax import encoders
from segjax.errors import ConfigError
from segjax.layers import conv, remat, resample
from segjax.models import unet
from segjax.structs import Features, Outputs


class Model(nn.Module):
    """Double the encoder's last features up to the image, joined by its finer ones on the way.

    One block for each halving that the encoder did. Where it has no features of a resolution (a
    ResNet none at stride 1, a transformer none at 2 either) the block only enlarges.

    Attributes:
        num_classes: Channels of the logits.
        encoder: The section of an encoder whose strides are powers of two.
        widths: Channels of each block, from the coarsest: as many as the encoder halves.
        center: Convolve twice before the first block, as published for VGG.
        finest_skip: Use no features finer than this stride; 2 for the published VGG.
        norm: A name in `norm.NORMS`.
        remat: A name in `remat.POLICIES`; the blocks are the encoder's own and the decoder's.
        compute_dtype: Of features and logits.
        param_dtype: Of parameters.
    """

    num_classes: int
    encoder: Mapping[str, Any]
    widths: Sequence[int] = (256, 128, 64, 32, 16)
    center: bool = False
    finest_skip: int = 1
    norm: str = "batch"
    remat: str = "none"
    compute_dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, image: Features, *, train: bool) -> Outputs:
        """Return logits [b h w num_classes] in `compute_dtype`.

        Raises:
            ConfigError: A side below 32 pixels, or an encoder that does not suit `widths`.
        """
        size, dtypes = image.shape[1:-1], conv.dtypes_of(self)
        conv.check_size(size, model="encoder_unet")
        encoder = encoders.build(self)
        check_halvings(encoder.strides, self.widths)
        features = encoder(image, train=train)
        skips = dict(zip(encoder.strides, features, strict=True))
        x, stride = features[-1], encoder.strides[-1]
        if self.center:
            level = remat.remat(unet.Level, self.remat)
            x = level(
                x.shape[-1], convs=2, norm=self.norm, activation="relu", **dtypes, name="center"
            )(x, train)
        join = functools.partial(remat.remat(Join, self.remat), norm=self.norm, **dtypes)
        for i, width in enumerate(self.widths):
            stride //= 2
            used = [skips[stride]] if stride in skips and stride >= self.finest_skip else []
            x = join(width, size=at_stride(size, stride), name=f"up{i}")((x, *used), train)
        logits = head(self.num_classes, **dtypes)(x, train=train)
        return Outputs(logits=logits)


class Join(nn.Module):
    """Double the first of several features, lay the others beside it, convolve 3x3 twice.

    Attributes:
        features: Channels to return.
        size: The spatial size to return, that of the others; doubling may overshoot it by one.
    """

    features: int
    size: Sequence[int]
    norm: str
    compute_dtype: str
    param_dtype: str

    @nn.compact
    def __call__(
        self, x: tuple[Features, ...], train: bool
    ) -> Float[Array, "b ... {self.features}"]:
        """Return the features at the size of the others."""
        coarse, *finer = x
        coarse = resample.crop(resample.upsample(coarse, factor=2, method="nearest"), self.size)
        y = jnp.concatenate([coarse, *finer], axis=-1)
        for name in ("conv1", "conv2"):
            unit = conv.ConvNormAct(
                self.features, norm=self.norm, **conv.dtypes_of(self), name=name
            )
            y = unit(y, train=train)
        return y


def head(num_classes: int, *, compute_dtype: str, param_dtype: str) -> conv.ConvNormAct:
    """Return the 3x3 convolution that makes logits."""
    return conv.ConvNormAct(
        num_classes,
        norm="none",
        activation="none",
        compute_dtype=compute_dtype,
        param_dtype=param_dtype,
        name="head",
    )


def at_stride(size: Sequence[int], stride: int) -> tuple[int, ...]:
    """Return the size of features at `stride`, rounded up as encoders do."""
    return tuple(-(-length // stride) for length in size)


def check_halvings(strides: Sequence[int], widths: Sequence[int]) -> None:
    """Raise `ConfigError` unless there is one width for each halving that the encoder did."""
    if any(stride & (stride - 1) for stride in strides):
        raise ConfigError(
            f"config.model.encoder has strides {tuple(strides)}, expected powers of two. "
            "Use an encoder that halves, e.g. resnet."
        )
    halvings = int(math.log2(strides[-1]))
    if len(widths) != halvings:
        raise ConfigError(
            f"config.model.widths={tuple(widths)}: expected {halvings} widths, one for each "
            f"halving up to the encoder's stride {strides[-1]}."
        )
