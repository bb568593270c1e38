"""EoMT: a ViT whose last blocks see queries too (Kerssies et al. 2025, arXiv:2503.19108)."""

import functools
from typing import Annotated, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from segjax import encoders
from segjax.config import kinds, rules
from segjax.encoders.base import Plain
from segjax.errors import ConfigError
from segjax.kernels import activations
from segjax.layers import resample, style
from segjax.layers.queries import Answers, Outputs
from segjax.models import base
from segjax.structs import Features


class Model(style.Network, kw_only=True):
    """Let queries join a ViT's patches before its last blocks; each answers a class and a mask.

    Training has the answers before each of those blocks too, and lets a query see only the patches
    of its own mask there (section 3.2), with a probability that sinks to 0, see `__call__`: at
    inference queries see everything, and the model is a plain ViT.

    Attributes:
        num_classes: Classes that a query can answer, beside none of them.
        encoder: Section of the encoder: `dict(type="vit", ...)` or `dict(type="dinov3", ...)`. Its
            `layers` have no use here.
        queries: How many: the most objects or regions of an image. 100 or 200 in the paper.
        blocks: The encoder's last blocks, which see queries: 3 with S and B, 4 with L, 5 with g.
        upscales: How often the patches' resolution is doubled for masks: 2 makes stride 4 of 16.
    """

    dims: ClassVar[tuple[int, ...]] = (2,)
    outputs: ClassVar[str] = "queries"
    """What a task must take."""

    num_classes: int
    encoder: kinds.EncoderSection
    queries: Annotated[int, rules.whole(1, 1024)] = 100
    blocks: kinds.Depth = 3
    upscales: Annotated[int, rules.whole(0, 4)] = 2

    @nn.compact
    def __call__(
        self, image: Features, *, train: bool, attend: Float[Array, " blocks"] | None = None
    ) -> Outputs:
        """Return the answers of the queries, in `compute_dtype`.

        Args:
            image: Normalised.
            train: Whether the model is trained.
            attend: In training, the probability that a query sees no more than its mask, for each
                of the last blocks; None: 1 for each of them.

        Raises:
            ConfigError: A side below 32 pixels, another encoder than a ViT, or fewer blocks than
                shall see queries.
        """
        self.check_axes(image)
        self.check()
        base.check_size(image.shape[1:-1], model=style.title(self))
        if attend is not None and len(attend) != self.blocks:
            raise ConfigError(
                f"config.model.blocks={self.blocks}: config.task.annealing is of {len(attend)} "
                "blocks, or annealing_percent. Give each two moments."
            )
        encoder = self.vit()
        head = Head(self.num_classes, self.upscales, style=self.style, name="head")
        start = self.param(
            "queries", nn.initializers.normal(1.0), (1, self.queries, encoder.shape.width),
            self.param_dtype,
        )  # fmt: skip
        x, turns, grid = encoder.tokens(encoder.prepare(image), train=train)
        first = encoder.shape.depth - self.blocks
        answer = functools.partial(self.answer, encoder, head, grid)
        earlier = []
        for i, block in enumerate(encoder.blocks):
            sees = None
            if i == first:
                start = jnp.broadcast_to(start.astype(x.dtype), (x.shape[0], *start.shape[1:]))
                x = jnp.concatenate([start, x], axis=1)
            if i >= first and train:
                earlier.append(answer(x))
                share = None if attend is None else attend[i - first]
                sees = self.sight(earlier[-1].masks, grid, encoder.before, share)
            x = block(x, sees, turns, train=train)
        return Outputs(answer(x), tuple(earlier), image.shape[1:-1])

    def vit(self) -> Plain:
        """Return the encoder; raise `ConfigError` for one that is no ViT or has too few blocks."""
        encoder = encoders.build(self.encoder, self.style)
        if not isinstance(encoder, Plain):
            raise ConfigError(
                f"config.model.encoder.type={self.encoder['type']!r}: EoMT expects a ViT. Use "
                "'vit' or 'dinov3'."
            )
        encoder.check()
        if self.blocks > encoder.shape.depth:
            raise ConfigError(
                f"config.model.blocks={self.blocks}: expected at most {encoder.shape.depth}, the "
                "encoder's depth."
            )
        return encoder

    def answer(
        self, encoder: Plain, head: "Head", grid: tuple[int, ...], x: Float[Array, "b n c"]
    ) -> Answers:
        """Return what the queries among some tokens answer."""
        x = encoder.last_norm(x)
        patches = x[:, self.queries + encoder.before :]
        return head(x[:, : self.queries], patches.reshape(x.shape[0], *grid, x.shape[-1]))

    def sight(
        self,
        masks: Float[Array, "b h w q"],
        grid: tuple[int, ...],
        before: int,
        share: Float[Array, ""] | None,
    ) -> Bool[Array, "b n n"]:
        """Return which tokens each token sees: all, but a query of the patches those of its mask.

        As queries always see each other, none sees nothing. A query is so with probability `share`.
        """
        inside = jax.lax.stop_gradient(resample.resize(masks, grid)) > 0
        inside = inside.reshape(masks.shape[0], -1, self.queries).swapaxes(1, 2)
        if share is not None:
            key, shape = self.make_rng("dropout"), (*inside.shape[:2], 1)
            inside |= ~jax.random.bernoulli(key, share, shape)
        around = ((0, 0), (0, before + inside.shape[2]), (self.queries + before, 0))
        return jnp.pad(inside, around, constant_values=True)


class Head(style.Block):
    """Classify queries, and multiply them, after a perceptron, with enlarged patches: masks.

    Attributes:
        num_classes: Of the classes, none of them not counted.
        upscales: How often the patches' resolution is doubled.
    """

    num_classes: int
    upscales: int

    @nn.compact
    def __call__(self, queries: Float[Array, "b q c"], patches: Float[Array, "b h w c"]) -> Answers:
        """Return logits."""
        width, dense = patches.shape[-1], self.style.dense
        classes = dense(self.num_classes + 1, name="classes")(queries)
        for i in range(2):
            queries = activations.gelu(dense(width, name=f"mask{i}")(queries))
        queries = dense(width, name="mask2")(queries)
        for i in range(self.upscales):
            patches = Upscale(style=self.style, name=f"upscale{i}")(patches)
        return Answers(classes, jnp.einsum("bhwc,bqc->bhwq", patches, queries))


class Upscale(style.Block):
    """Double the resolution, then look at the neighbours, each channel by itself."""

    @nn.compact
    def __call__(self, x: Features) -> Features:
        """Return the enlarged features."""
        channels = x.shape[-1]
        x = resample.UpConv(channels, **self.style.dtypes, name="up")(x)
        x = activations.gelu(x)
        x = self.style.plain_conv(channels, groups=-1, bias=False, name="depthwise")(x)
        return self.style.layer_norm(epsilon=1e-6, name="norm")(x)
