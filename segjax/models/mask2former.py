"""Mask2Former: queries look where their masks are (Cheng et al. 2022, arXiv:2112.01527)."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Annotated, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from segjax import encoders
from segjax.config import kinds, rules
from segjax.errors import ConfigError
from segjax.layers import attention, deformable, resample, style
from segjax.layers import norm as norm_lib
from segjax.layers.queries import Answers, Outputs
from segjax.models import base
from segjax.structs import Features

STRIDES = (4, 8, 16, 32)
LEVELS = 3
"""Of the resolutions that queries look at, the coarsest first."""


class Model(style.Network, kw_only=True):
    """Let queries look at three resolutions in turn, each only where its own mask was before.

    Features of an encoder tell each other what they see by deformable attention (section 3.2), the
    finest are added, and each layer of queries answers. Training has the answers before and between
    the layers too. Images are enlarged bilinearly until their sides are multiples of 32, so that
    masks, at stride 4, cover them exactly.

    Attributes:
        num_classes: Classes that a query can answer, beside none of them.
        encoder: Section of an encoder with features at strides 4, 8, 16 and 32.
        feature_norm: A name in `norm.NORMS`, for the encoder's features: 'layer' with Swin.
        queries: How many: the most objects or regions of an image. 100 or 200 in the paper.
        width: Channels of the pixel decoder and of queries, a multiple of 32.
        heads: Of every attention.
        pixel_layers: Of deformable attention.
        pixel_hidden: Channels inside their perceptrons.
        points: Of each head and resolution, that deformable attention reads.
        layers: Of queries.
        hidden: Channels inside their perceptrons.
    """

    dims: ClassVar[tuple[int, ...]] = (2,)
    outputs: ClassVar[str] = "queries"
    """What a task must take."""

    num_classes: int
    encoder: kinds.EncoderSection
    feature_norm: norm_lib.Norm = "none"
    queries: Annotated[int, rules.whole(1, 1024)] = 100
    width: kinds.Width = 256
    heads: Annotated[int, rules.whole(1, 256)] = 8
    pixel_layers: kinds.Depth = 6
    pixel_hidden: kinds.Width = 1024
    points: Annotated[int, rules.whole(1, 64)] = 4
    layers: kinds.Depth = 9
    hidden: kinds.Width = 2048

    @nn.compact
    def __call__(
        self, image: Features, *, train: bool, attend: Float[Array, " blocks"] | None = None
    ) -> Outputs:
        """Return the answers of the queries, in `compute_dtype`.

        Args:
            image: Normalised.
            train: Whether the model is trained.
            attend: None: masked attention is part of the model, and never ends.

        Raises:
            ConfigError: A side below 32 pixels, an encoder without the strides, a width that heads
                and positions do not divide, or a task that ends masked attention.
        """
        self.check_axes(image)
        self.check()
        base.check_size(image.shape[1:-1], model=style.title(self))
        if attend is not None:
            raise ConfigError(
                "config.task.annealing ends masked attention, which mask2former predicts with too. "
                "Set it, or annealing_percent, to []."
            )
        pixels, levels = self.decode(self.features(image, train=train))
        decoder = Decoder(
            self.queries, self.num_classes, self.layers, self.heads, self.hidden,
            style=self.style, name="decoder",
        )  # fmt: skip
        earlier, last = decoder(pixels, levels, train=train)
        return Outputs(last, earlier, image.shape[1:-1])

    def check(self) -> None:
        """Raise `ConfigError` for fields that make no such network."""
        super().check()
        if self.width % (4 * self.heads):
            raise ConfigError(
                f"config.model.width={self.width}: expected a multiple of 4 for each of "
                f"heads={self.heads}. Change one of them."
            )

    def features(self, image: Features, *, train: bool) -> tuple[Features, ...]:
        """Return the encoder's features, normalised, finest first.

        Raises:
            ConfigError: It has none at the strides.
        """
        encoder = encoders.build(self.encoder, self.style)
        if encoder.strides[-4:] != STRIDES:
            raise ConfigError(
                f"config.model.encoder: its features have the strides {encoder.strides}, "
                f"mask2former needs {STRIDES}. Use another encoder, or output_stride=32."
            )
        size = [-(-n // STRIDES[-1]) * STRIDES[-1] for n in image.shape[1:-1]]
        found = encoder(resample.resize(image, size), train=train)[-4:]
        own = dataclasses.replace(self.style, norm=self.feature_norm).normalization
        return tuple(own(train=train, name=f"feature_norm{i}")(x) for i, x in enumerate(found))

    def decode(self, features: Sequence[Features]) -> tuple[Features, tuple[Features, ...]]:
        """Return the features that masks are made of, and those to look at, the coarsest first."""
        conv = functools.partial(self.style.conv, self.width, norm="group")
        finest, *coarser = features
        coarser.reverse()
        levels = [
            conv(kernel=1, bias=True, activation="none", name=f"input{i}")(x, train=False)
            for i, x in enumerate(coarser)
        ]
        sizes = tuple(x.shape[1:-1] for x in levels)
        own = self.param(
            "levels", nn.initializers.normal(1.0), (LEVELS, self.width), self.param_dtype
        ).astype(self.compute_dtype)  # fmt: skip
        places = [
            jnp.asarray(positions(size, self.width), self.compute_dtype) + own[i]
            for i, size in enumerate(sizes)
        ]
        x, place = jnp.concatenate([flat(x) for x in levels], axis=1), jnp.concatenate(places)
        layer = self.style.block(PixelLayer)
        for i in range(self.pixel_layers):
            x = layer(
                heads=self.heads, points=self.points, hidden=self.pixel_hidden, sizes=sizes,
                name=f"pixel_layer{i}",
            )(x, place)  # fmt: skip
        ends = np.cumsum([math.prod(size) for size in sizes])[:-1]
        levels = [
            part.reshape(part.shape[0], *size, -1)
            for part, size in zip(jnp.split(x, ends, axis=1), sizes, strict=True)
        ]
        y = conv(kernel=1, activation="none", name="lateral")(finest, train=False)
        y = y + resample.resize(levels[-1], y.shape[1:-1])
        y = conv(name="smooth")(y, train=False)
        return self.style.dense(self.width, name="pixels")(y), tuple(levels)


class PixelLayer(style.Block):
    """Add deformable attention and a perceptron, each normalised behind.

    Attributes:
        heads: Of the attention.
        points: Of each head and resolution.
        hidden: Channels inside the perceptron.
        sizes: Of the resolutions.
    """

    heads: int
    points: int
    hidden: int
    sizes: tuple[tuple[int, ...], ...]

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"], place: Float[Array, "n c"]) -> Array:
        """Return as many channels; `place` says where each of the pixels is."""
        look = deformable.Attention(
            self.heads, self.points, self.sizes, style=self.style, name="attention"
        )
        x = self.style.layer_norm(name="norm1")(x + look(x + place, x))
        return self.style.layer_norm(name="norm2")(x + perceptron(self, x, self.hidden))


class Decoder(style.Block):
    """Let queries look at each resolution in turn, and answer before, between and behind.

    Attributes:
        queries: How many.
        num_classes: Of the classes, none of them not counted.
        layers: How many.
        heads: Of the attentions.
        hidden: Channels inside the perceptrons.
    """

    queries: int
    num_classes: int
    layers: int
    heads: int
    hidden: int

    def setup(self) -> None:
        """Make what all layers share."""
        self.last_norm = self.style.layer_norm(name="norm")
        self.head = Head(self.num_classes, style=self.style)

    @nn.compact
    def __call__(
        self, pixels: Features, levels: Sequence[Features], *, train: bool
    ) -> tuple[tuple[Answers, ...], Answers]:
        """Return the answers before the last in training, none otherwise, and the last.

        Args:
            pixels: At stride 4, of which masks are made.
            levels: To look at, the coarsest first.
            train: Whether the model is trained.
        """
        channels = pixels.shape[-1]

        def table(name: str, count: int) -> Array:
            init = nn.initializers.normal(1.0)
            return self.param(name, init, (1, count, channels), self.param_dtype).astype(
                self.compute_dtype
            )

        start, place, own = (
            table(name, count)
            for name, count in (
                ("features", self.queries), ("places", self.queries), ("levels", len(levels))
            )
        )  # fmt: skip
        memories = [flat(x) + own[:, i, None] for i, x in enumerate(levels)]
        where = [
            jnp.asarray(positions(x.shape[1:-1], channels), self.compute_dtype) for x in levels
        ]
        x = jnp.broadcast_to(start, (pixels.shape[0], *start.shape[1:]))
        answers = [self.head(self.last_norm(x), pixels)]
        layer = self.style.block(QueryLayer)
        for i in range(self.layers):
            at = i % len(levels)
            sees = sight(answers[-1].masks, levels[at].shape[1:-1])
            told = memories[at]
            x = layer(heads=self.heads, hidden=self.hidden, name=f"layer{i}")(
                x, place, told + where[at], told, sees
            )
            answers.append(self.head(self.last_norm(x), pixels))
        return tuple(answers[:-1]) if train else (), answers[-1]


class QueryLayer(style.Block):
    """Add masked attention, attention of queries and a perceptron, each normalised behind.

    Attributes:
        heads: Of the attentions.
        hidden: Channels inside the perceptron.
    """

    heads: int
    hidden: int

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b q c"],
        place: Float[Array, "1 q c"],
        memory: Float[Array, "b n c"],
        told: Float[Array, "b n c"],
        sees: Bool[Array, "b q n"],
    ) -> Float[Array, "b q c"]:
        """Return the queries.

        Args:
            x: The queries.
            place: What queries are told apart by.
            memory: The pixels, with their positions.
            told: The pixels without.
            sees: Which pixels each query sees.
        """
        attend, norm = (
            functools.partial(attention.Attention, self.heads, **self.style.dtypes),
            self.style.layer_norm,
        )
        x = norm(name="norm1")(x + attend(name="cross")(x + place, memory, sees, told=told))
        x = norm(name="norm2")(x + attend(name="among")(x + place, x + place, told=x))
        return norm(name="norm3")(x + perceptron(self, x, self.hidden))


class Head(style.Block):
    """Classify queries, and multiply them, after a perceptron, with pixels: masks.

    Attributes:
        num_classes: Of the classes, none of them not counted.
    """

    num_classes: int

    @nn.compact
    def __call__(self, queries: Float[Array, "b q c"], pixels: Float[Array, "b h w c"]) -> Answers:
        """Return logits."""
        width, dense = pixels.shape[-1], self.style.dense
        classes = dense(self.num_classes + 1, name="classes")(queries)
        for i in range(2):
            queries = nn.relu(dense(width, name=f"mask{i}")(queries))
        queries = dense(width, name="mask2")(queries)
        return Answers(classes, jnp.einsum("bhwc,bqc->bhwq", pixels, queries))


def perceptron(block: style.Block, x: Float[Array, "b n c"], hidden: int) -> Float[Array, "b n c"]:
    """Return as many channels, having gone through `hidden` ones."""
    dense = functools.partial(attention.dense, **block.style.dtypes)
    return dense(x.shape[-1], name="contract")(nn.relu(dense(hidden, name="expand")(x)))


def flat(x: Features) -> Float[Array, "b n c"]:
    """Return the pixels of features one after the other."""
    return x.reshape(x.shape[0], -1, x.shape[-1])


def sight(masks: Float[Array, "b h w q"], size: Sequence[int]) -> Bool[Array, "b q n"]:
    """Return which pixels of a resolution each query sees: those of its mask, or else all."""
    inside = flat(jax.lax.stop_gradient(resample.resize(masks, size))).swapaxes(1, 2) >= 0
    return inside | ~inside.any(-1, keepdims=True)


def positions(size: Sequence[int], channels: int) -> np.ndarray:
    """Return sines and cosines [h*w channels] of where pixels are: rows first, then columns.

    As in DETR (Carion et al. 2020, arXiv:2005.12872): along each axis from 0 to 2 pi.
    """
    half = channels // 2
    period = 10000.0 ** (2 * (np.arange(half) // 2) / half)
    parts = []
    for n in size:
        angle = np.arange(1, n + 1)[:, None] / (n + 1e-6) * 2 * math.pi / period
        waves = np.stack([np.sin(angle[:, 0::2]), np.cos(angle[:, 1::2])], axis=-1)
        parts.append(waves.reshape(n, half))
    rows, columns = np.repeat(parts[0], size[1], axis=0), np.tile(parts[1], (size[0], 1))
    return np.concatenate([rows, columns], axis=-1)
