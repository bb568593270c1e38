"""BiSeNetV2 (Yu et al. 2021, arXiv:2004.02147, table 1 and figures 3 to 6), for real time."""

import functools
from collections.abc import Sequence
from typing import Annotated

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from segjax.config import kinds, rules
from segjax.kernels import joining
from segjax.layers import resample, style
from segjax.models import base
from segjax.structs import Features, Outputs


class Model(base.Segmenter):
    """Join a wide shallow detail branch and a narrow deep semantic one, each gating the other.

    The gather-and-expansion layers activate after their depthwise convolutions, which the paper's
    figure 5 leaves out: so do the implementations that reached the paper's accuracy.

    Attributes:
        detail_widths: Channels of the detail branch at strides 2, 4 and 8.
        semantic_widths: Channels of the semantic branch at strides 4, 8, 16 and 32.
        semantic_layers: Gather-and-expansion layers at strides 8, 16 and 32.
        expansion: Channels of their depthwise convolutions, as a multiple of what comes in.
        head_width: Channels of the head before its logits.
        aux_width: The same of the booster heads, which make auxiliary logits from the semantic
            branch at each stride in training; 0: no such heads.
        dropout: Rate before the logits.
        remat: A name in `remat.POLICIES`; the blocks are the stages and layers.
    """

    detail_widths: Annotated[Sequence[kinds.Width], rules.length(3, 3)] = (64, 64, 128)
    semantic_widths: Annotated[
        Sequence[Annotated[int, rules.whole(2, 2**16)]], rules.length(4, 4)
    ] = (16, 32, 64, 128)
    semantic_layers: Annotated[Sequence[kinds.Depth], rules.length(3, 3)] = (2, 2, 4)
    expansion: Annotated[int, rules.whole(1, 64)] = 6
    head_width: kinds.Width = 1024
    aux_width: kinds.WidthOrNone = 128
    dropout: kinds.Dropped = 0.1

    def segment(self, x: Features, *, train: bool) -> Outputs:
        """Return logits at the size of `x`."""
        block, size, detail = self.style.block, x.shape[1:-1], x

        def logits(x: Features, width: int, stride: int, name: str) -> Features:
            head = block(Head)(width, self.num_classes, self.dropout, name=name)
            return resample.crop(resample.upsample(head(x, train=train), factor=stride), size)

        for i, features in enumerate(self.detail_widths):
            stage = block(Detail)(features, convs=3 if i else 2, name=f"detail{i}")
            detail = stage(detail, train=train)
        x = block(Stem)(self.semantic_widths[0], name="stem")(x, train=train)
        semantic = {4: x}
        for i, layers in enumerate(self.semantic_layers):
            for j in range(layers):
                layer = block(GatherExpand)(
                    self.semantic_widths[i + 1],
                    stride=1 if j else 2,
                    expansion=self.expansion,
                    name=f"semantic{i}_{j}",
                )
                x = layer(x, train=train)
            semantic[8 * 2**i] = x
        x = block(Context)(x.shape[-1], name="context")(x, train=train)
        x = block(Aggregate)(detail.shape[-1], name="aggregate")(detail, x, train=train)
        aux = ()
        if self.aux_width and self.has_aux(train=train):
            aux = tuple(logits(y, self.aux_width, s, f"aux{s}") for s, y in semantic.items())
        return Outputs(logits(x, self.head_width, 8, "head"), aux)


class Detail(style.Block):
    """Halve the resolution by the first of a few 3x3 convolutions (table 1, detail branch)."""

    features: int
    convs: int = 3

    @nn.compact
    def __call__(self, x: Features, *, train: bool) -> Features:
        """Return the features at half the resolution."""
        for i in range(self.convs):
            x = self.style.conv(self.features, stride=1 if i else 2, name=f"conv{i}")(
                x, train=train
            )
        return x


class Stem(style.Block):
    """Halve twice, the second time by convolution and by pooling side by side (figure 4a)."""

    features: int

    @nn.compact
    def __call__(self, x: Features, *, train: bool) -> Features:
        """Return the features at a quarter of the resolution."""
        conv = self.style.conv
        x = conv(self.features, stride=2, name="conv")(x, train=train)
        left = conv(self.features // 2, kernel=1, name="squeeze")(x, train=train)
        left = conv(self.features, stride=2, name="left")(left, train=train)
        both = joining.join(left, resample.max_pool(x, window=3))
        return conv(self.features, name="fuse")(both, train=train)


class GatherExpand(style.Block):
    """Gather 3x3, expand by depthwise convolution, project and add (figure 5 b and c)."""

    features: int
    stride: int = 1
    expansion: int = 6

    @nn.compact
    def __call__(self, x: Features, *, train: bool) -> Features:
        """Return the features, at half the resolution with stride 2."""
        conv, linear = self.style.conv, {"stride": 2, "activation": "none", "groups": -1}
        project = functools.partial(conv, self.features, kernel=1, activation="none")
        y = conv(x.shape[-1], name="gather")(x, train=train)
        # Copies first: a grouped convolution that expands gathers a sharded batch.
        y = jnp.repeat(y, self.expansion, axis=-1)
        if self.stride == 2:
            y = conv(y.shape[-1], **linear, name="reduce")(y, train=train)
            x = conv(x.shape[-1], **linear, name="shortcut_reduce")(x, train=train)
            x = project(name="shortcut")(x, train=train)
        y = conv(y.shape[-1], groups=-1, name="expand")(y, train=train)
        y = project(name="project")(y, train=train)
        return nn.relu(x + y)


class Context(style.Block):
    """Add the average of the whole image to every pixel (figure 4b)."""

    features: int

    @nn.compact
    def __call__(self, x: Features, *, train: bool) -> Features:
        """Return features of the same size."""
        conv = self.style.conv
        y = x.mean(axis=range(1, x.ndim - 1), keepdims=True)
        y = self.style.normalization(train=train, name="norm")(y)
        y = conv(x.shape[-1], kernel=1, name="average")(y, train=train)
        return conv(self.features, name="fuse")(x + y, train=train)


class Aggregate(style.Block):
    """Let each branch gate the other at its own resolution, then sum (figure 6)."""

    features: int

    @nn.compact
    def __call__(self, detail: Features, semantic: Features, *, train: bool) -> Features:
        """Return features at the resolution of `detail`; `semantic` is a quarter as large."""
        conv, size, spatial = self.style.conv, detail.shape[1:-1], detail.ndim - 2
        linear = {"activation": "none"}

        def enlarge(x: Features) -> Features:
            return resample.crop(resample.upsample(x, factor=4), size)

        def separable(x: Features, name: str) -> Features:
            y = conv(x.shape[-1], groups=-1, **linear, name=f"{name}_depthwise")
            mix = self.style.dense(self.features, bias=False, name=name)
            return mix(y(x, train=train))

        small = conv(self.features, stride=2, **linear, name="detail_reduce")
        small = nn.pool(
            small(detail, train=train), 0.0, lax.add, (3,) * spatial, (2,) * spatial,
            [(1, 1)] * spatial,
        ) / 3**spatial  # fmt: skip
        gate = conv(self.features, **linear, name="semantic_gate")(semantic, train=train)
        fine = separable(detail, "detail") * nn.sigmoid(enlarge(gate))
        coarse = small * nn.sigmoid(separable(semantic, "semantic"))
        return conv(self.features, name="fuse")(fine + enlarge(coarse), train=train)


class Head(style.Block):
    """Turn features into logits at their own resolution (section 4.4)."""

    features: int
    num_classes: int
    dropout: float

    @nn.compact
    def __call__(self, x: Features, *, train: bool) -> Features:
        """Return the logits."""
        x = self.style.conv(self.features, name="conv")(x, train=train)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return self.style.dense(self.num_classes, name="logits")(x)
