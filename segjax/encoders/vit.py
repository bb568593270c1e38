"""Vision Transformer (Dosovitskiy et al. 2020, arXiv:2010.11929, figure 1), as DINOv2 has it."""

import functools
from collections.abc import Sequence
from typing import Annotated

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from segjax.config import kinds, rules
from segjax.encoders import base
from segjax.errors import ConfigError
from segjax.kernels import sums
from segjax.layers import attention, conv, resample, style
from segjax.structs import Features

WIDTHS = {"s": 384, "b": 768}
HEAD_WIDTH, EPSILON = 64, 1e-6


class Encoder(base.Encoder):
    """Return normalised features of chosen blocks, all at stride `patch`.

    DINOv2 (Oquab et al. 2023, arXiv:2304.07193) scales residual branches channel by channel. An
    image that patches do not cover exactly is enlarged bilinearly until they do; positions are
    interpolated to its grid, bicubically.

    Attributes:
        variant: 's' or 'b': 384 or 768 channels.
        width: Channels, where not the variant's.
        heads: Of the attention; 0: one for 64 channels, at least one.
        depth: How many blocks to compute.
        layers: Indices of the blocks whose features are returned, ascending; -1 is the last.
        patch: Side of a patch in pixels.
        grid: Patches along a side of the images that positions were learnt on: 37 of 518 pixels.
        drop_path: Rate of dropping a residual branch.
        layer_scale: What residual branches are scaled by at first.
    """

    variant: Annotated[str, rules.one_of(*WIDTHS)] = "s"
    width: kinds.WidthOrNone = 0
    heads: kinds.WidthOrNone = 0
    depth: kinds.Depth = 12
    layers: Annotated[Sequence[kinds.Index], rules.length(1, 256)] = (-1,)
    patch: Annotated[int, rules.whole(1, 1024)] = 14
    grid: Annotated[int, rules.whole(1, 1024)] = 37
    drop_path: kinds.Dropped = 0.0
    layer_scale: kinds.AnyNumber = 1e-5

    dims = (2,)

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the features that are returned."""
        return (self.patch,) * len(self.layers)

    def prepare(self, image: Features) -> Features:
        """Return the image enlarged to whole patches, in `compute_dtype`."""
        size = [-(-n // self.patch) * self.patch for n in image.shape[1:-1]]
        return resample.resize(image, size).astype(self.compute_dtype)

    def encode(self, x: Features, *, train: bool) -> tuple[Features, ...]:
        """Return one feature map for each of `layers`."""
        width = self.width or WIDTHS[self.variant]
        embed = self.style.conv(
            width, kernel=self.patch, stride=self.patch, padding=((0, 0), (0, 0)),
            activation="none", name="embed",
        )  # fmt: skip
        x = embed(x, train=train)
        size = x.shape[1:-1]
        token, positions = self.positions(width, size)
        x = (x + positions).reshape(x.shape[0], -1, width)
        x = jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, width)), x], axis=1)
        block = functools.partial(
            self.style.block(Block),
            self.heads or max(1, width // HEAD_WIDTH),
            drop_path=self.drop_path,
            layer_scale=self.layer_scale,
        )
        norm = self.style.layer_norm(epsilon=EPSILON, name="norm")
        chosen, features = self.chosen(), []
        for i in range(self.depth):
            x = block(name=f"block{i}")(x, train=train)
            if i in chosen:
                features.append(norm(x)[:, 1:].reshape(x.shape[0], *size, width))
        return tuple(features)

    def positions(
        self, width: int, size: Sequence[int]
    ) -> tuple[Float[Array, "1 1 c"], Float[Array, "1 h w c"]]:
        """Return the class token with its position, and the positions of patches."""
        shape = (1, 1 + self.grid**2, width)
        token = self.param("token", attention.INIT, (1, 1, width), self.param_dtype)
        table = self.param("positions", attention.INIT, shape, self.param_dtype)
        table = table.astype(sums.widen(table.dtype))
        patches = table[:, 1:].reshape(1, self.grid, self.grid, width)
        patches = resample.resize(patches, size, method="bicubic")
        token = token.astype(table.dtype) + table[:, :1]
        return token.astype(self.compute_dtype), patches.astype(self.compute_dtype)

    def check(self) -> None:
        """Raise `ConfigError` for fields that make no ViT."""
        super().check()
        chosen = self.chosen()
        within = all(-self.depth <= layer < self.depth for layer in self.layers)
        if not within or not chosen or sorted(set(chosen)) != chosen:
            raise ConfigError(
                f"encoder.layers={tuple(self.layers)}: expected ascending indices of "
                f"{self.depth} blocks."
            )

    def chosen(self) -> list[int]:
        """Return the indices in `layers`, counted from the first block."""
        return [layer % self.depth for layer in self.layers]


class Block(style.Block):
    """Add self-attention and a two-layer perceptron, normalised before, scaled after."""

    heads: int
    drop_path: float
    layer_scale: float

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"], *, train: bool) -> Float[Array, "b n c"]:
        """Return the block's tokens."""
        channels, dtypes = x.shape[-1], self.style.dtypes
        drop = functools.partial(conv.DropPath(self.drop_path), train=train)
        norm = functools.partial(self.style.layer_norm, epsilon=EPSILON)
        y = norm(name="norm1")(x)
        y = attention.Attention(self.heads, **dtypes, name="attention")(y, y)
        x = x + drop(y * self.scale("scale1", channels))
        y = norm(name="norm2")(x)
        y = attention.dense(4 * channels, **dtypes, name="expand")(y)
        y = nn.gelu(y, approximate=False)
        y = attention.dense(channels, **dtypes, name="contract")(y)
        return x + drop(y * self.scale("scale2", channels))

    def scale(self, name: str, channels: int) -> Float[Array, " c"]:
        """Return the factors of a residual branch (LayerScale, arXiv:2103.17239)."""
        init = nn.initializers.constant(self.layer_scale)
        return self.param(name, init, (channels,), self.param_dtype).astype(self.compute_dtype)
