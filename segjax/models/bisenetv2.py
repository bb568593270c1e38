"""BiSeNetV2 (Yu et al. 2021, arXiv:2004.02147, table 1 and figures 3 to 6), for real time."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from segjax.errors import ConfigError
from segjax.layers import conv, dense, norm, remat, resample
from segjax.structs import Features, Outputs


class Model(nn.Module):
    """A shallow wide branch for detail, a deep narrow one for meaning, each gating the other.

    The gather-and-expansion layers activate after their depthwise convolutions, which the paper's
    figure 5 leaves out: so do the implementations that reached the paper's accuracy.

    Attributes:
        num_classes: Channels of the logits.
        detail_widths: Channels of the detail branch at strides 2, 4 and 8.
        semantic_widths: Channels of the semantic branch at strides 4, 8, 16 and 32.
        semantic_layers: Gather-and-expansion layers at strides 8, 16 and 32.
        expansion: Channels of their depthwise convolutions, as a multiple of what comes in.
        head_width: Channels of the head before its logits.
        aux_width: The same of the booster heads, which make auxiliary logits from the semantic
            branch at each stride in training; 0: no such heads.
        dropout: Rate before the logits.
        norm: A name in `norm.NORMS`.
        remat: A name in `remat.POLICIES`; the blocks are the stages and layers.
        compute_dtype: Of features and logits.
        param_dtype: Of parameters.
    """

    num_classes: int
    detail_widths: Sequence[int] = (64, 64, 128)
    semantic_widths: Sequence[int] = (16, 32, 64, 128)
    semantic_layers: Sequence[int] = (2, 2, 4)
    expansion: int = 6
    head_width: int = 1024
    aux_width: int = 128
    dropout: float = 0.1
    norm: str = "batch"
    remat: str = "none"
    compute_dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, image: Features, *, train: bool) -> Outputs:
        """Return logits [b h w num_classes] in `compute_dtype`; auxiliary ones in training.

        Raises:
            ConfigError: A side below 32 pixels, or widths that do not fit the strides.
        """
        size = image.shape[1:-1]
        self.check(size)
        fields = {"norm": self.norm, **conv.dtypes_of(self)}

        def block(kind: type[nn.Module], features: int, **own: Any) -> Any:
            return remat.remat(kind, self.remat)(features, **own, **fields)

        def logits(x: Features, width: int, stride: int, name: str) -> Features:
            head = block(Head, width, num_classes=self.num_classes, dropout=self.dropout, name=name)
            return resample.crop(resample.upsample(head(x, train), factor=stride), size)

        image = image.astype(self.compute_dtype)
        detail = image
        for i, features in enumerate(self.detail_widths):
            stage = block(Detail, features, convs=3 if i else 2, name=f"detail{i}")
            detail = stage(detail, train)
        x = block(Stem, self.semantic_widths[0], name="stem")(image, train)
        semantic = {4: x}
        for i, layers in enumerate(self.semantic_layers):
            for j in range(layers):
                layer = block(
                    GatherExpand,
                    self.semantic_widths[i + 1],
                    stride=1 if j else 2,
                    expansion=self.expansion,
                    name=f"semantic{i}_{j}",
                )
                x = layer(x, train)
            semantic[8 * 2**i] = x
        x = block(Context, x.shape[-1], name="context")(x, train)
        x = block(Aggregate, detail.shape[-1], name="aggregate")((detail, x), train)
        aux = ()
        if self.aux_width and (train or self.is_initializing()):
            aux = tuple(logits(y, self.aux_width, s, f"aux{s}") for s, y in semantic.items())
        return Outputs(logits=logits(x, self.head_width, 8, "head"), aux=aux)

    def check(self, size: Sequence[int]) -> None:
        """Raise `ConfigError` for stages that do not fit the strides, or too small an image."""
        have = len(self.detail_widths), len(self.semantic_widths), len(self.semantic_layers)
        if have != (3, 4, 3):
            raise ConfigError(
                f"config.model: {have[0]} detail_widths, {have[1]} semantic_widths, {have[2]} "
                "semantic_layers; expected 3, 4 and 3, one for each stride."
            )
        conv.check_size(size, model="bisenetv2")


class Stage(nn.Module):
    """What the stages below have in common: fields, and units made from them."""

    features: int
    norm: str
    compute_dtype: str
    param_dtype: str

    def unit(self, features: int, **own: Any) -> conv.ConvNormAct:
        """Return a convolution of this stage, 3x3 and with ReLU unless said otherwise."""
        return conv.ConvNormAct(features, norm=self.norm, **conv.dtypes_of(self), **own)


class Detail(Stage):
    """Halve the resolution by the first of a few 3x3 convolutions (table 1, detail branch)."""

    convs: int = 3

    @nn.compact
    def __call__(self, x: Features, train: bool) -> Features:
        """Return the features at half the resolution."""
        for i in range(self.convs):
            x = self.unit(self.features, stride=1 if i else 2, name=f"conv{i}")(x, train=train)
        return x


class Stem(Stage):
    """Halve twice, the second time by convolution and by pooling side by side (figure 4a)."""

    @nn.compact
    def __call__(self, x: Features, train: bool) -> Features:
        """Return the features at a quarter of the resolution."""
        x = self.unit(self.features, stride=2, name="conv")(x, train=train)
        left = self.unit(self.features // 2, kernel=1, name="squeeze")(x, train=train)
        left = self.unit(self.features, stride=2, name="left")(left, train=train)
        both = jnp.concatenate([left, resample.max_pool(x, window=3)], axis=-1)
        return self.unit(self.features, name="fuse")(both, train=train)


class GatherExpand(Stage):
    """Gather 3x3, expand by depthwise convolution, project and add (figure 5 b and c)."""

    stride: int = 1
    expansion: int = 6

    @nn.compact
    def __call__(self, x: Features, train: bool) -> Features:
        """Return the features, at half the resolution with stride 2."""
        linear = {"stride": 2, "activation": "none", "groups": -1}
        y = self.unit(x.shape[-1], name="gather")(x, train=train)
        # Copies first: a grouped convolution that expands gathers a sharded batch.
        y = jnp.repeat(y, self.expansion, axis=-1)
        if self.stride == 2:
            y = self.unit(y.shape[-1], **linear, name="reduce")(y, train=train)
            x = self.unit(x.shape[-1], **linear, name="shortcut_reduce")(x, train=train)
            x = self.unit(self.features, kernel=1, activation="none", name="shortcut")(
                x, train=train
            )
        y = self.unit(y.shape[-1], groups=-1, name="expand")(y, train=train)
        y = self.unit(self.features, kernel=1, activation="none", name="project")(y, train=train)
        return nn.relu(x + y)


class Context(Stage):
    """Add the average of the whole image to every pixel (figure 4b)."""

    @nn.compact
    def __call__(self, x: Features, train: bool) -> Features:
        """Return features of the same size."""
        y = x.mean(axis=range(1, x.ndim - 1), keepdims=True)
        y = norm.make_norm(self.norm, train=train, param_dtype=self.param_dtype, name="norm")(y)
        y = self.unit(x.shape[-1], kernel=1, name="average")(y, train=train)
        return self.unit(self.features, name="fuse")(x + y, train=train)


class Aggregate(Stage):
    """Let each branch gate the other at its own resolution, then sum (figure 6)."""

    @nn.compact
    def __call__(self, x: tuple[Features, Features], train: bool) -> Features:
        """Return features at the first's resolution; the second is a quarter as large."""
        detail, semantic = x
        size, linear = detail.shape[1:-1], {"activation": "none"}

        def enlarge(x: Features) -> Features:
            return resample.crop(resample.upsample(x, factor=4), size)

        def separable(x: Features, name: str) -> Features:
            y = self.unit(x.shape[-1], groups=-1, **linear, name=f"{name}_depthwise")
            mix = dense.Dense(self.features, bias=False, **conv.dtypes_of(self), name=name)
            return mix(y(x, train=train))

        small = self.unit(self.features, stride=2, **linear, name="detail_reduce")
        small = nn.pool(small(detail, train=train), 0.0, lax.add, (3, 3), (2, 2), [(1, 1)] * 2) / 9
        gate = self.unit(self.features, **linear, name="semantic_gate")(semantic, train=train)
        fine = separable(detail, "detail") * nn.sigmoid(enlarge(gate))
        coarse = small * nn.sigmoid(separable(semantic, "semantic"))
        return self.unit(self.features, name="fuse")(fine + enlarge(coarse), train=train)


class Head(Stage):
    """Turn features into logits at their own resolution (section 4.4)."""

    num_classes: int = 0
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Features, train: bool) -> Features:
        """Return the logits."""
        x = self.unit(self.features, name="conv")(x, train=train)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return dense.Dense(self.num_classes, **conv.dtypes_of(self), name="logits")(x)
