"""Swin Transformer (Liu et al. 2021, arXiv:2103.14030, sections 3.1 to 3.3)."""

import functools
import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from segjax.config import kinds, rules
from segjax.encoders import base
from segjax.kernels import activations
from segjax.layers import attention, conv, style
from segjax.structs import Features


class Shape(NamedTuple):
    """Channels of the first stage, blocks of each, and the side of windows."""

    width: int
    depths: tuple[int, ...]
    window: int = 7


VARIANTS = {
    "t": Shape(96, (2, 2, 6, 2)),
    "s": Shape(96, (2, 2, 18, 2)),
    "b": Shape(128, (2, 2, 18, 2)),
    "l": Shape(192, (2, 2, 18, 2), 12),
}
EXPANSION, EPSILON = 4, 1e-5


class Encoder(base.Encoder):
    """Return features at strides 4, 8, 16 and 32.

    Each block lets the places of a window see each other, every second one in windows shifted by
    half of their side. Images of any size will do: what fills no whole window or patch is completed
    with zeros. Features are the residual stream's: who wants them normalised does it.

    Attributes:
        variant: 't', 's', 'b' or 'l': 96, 96, 128 or 192 channels in the first stage.
        width: Channels of the first stage, where not the variant's; each stage has twice as many.
        depths: Blocks of each stage, where not the variant's.
        head_width: Channels of a head of attention.
        window: Side of the windows; 0: the variant's. Weights of 'b' for images of 384 pixels have
            12.
        drop_path: Rate of dropping the last block's branches; it rises linearly from 0. Published
            are 0.2 for 't', 0.3 for the others.
    """

    dims = (2,)

    variant: Annotated[str, rules.one_of(*VARIANTS)] = "t"
    width: kinds.WidthOrNone = 0
    depths: kinds.Depths = ()
    head_width: kinds.Width = 32
    window: Annotated[int, rules.whole(0, 64)] = 0
    drop_path: kinds.Dropped = 0.2

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the features that are returned, finest first."""
        return (4, 8, 16, 32)

    @property
    def shape(self) -> Shape:
        """The variant's size, or what the fields say instead."""
        own = VARIANTS[self.variant]
        return Shape(
            self.width or own.width, tuple(self.depths) or own.depths, self.window or own.window
        )

    def encode(self, x: Features, *, train: bool) -> tuple[Features, ...]:
        """Return one feature map a stage, finest first."""
        width, depths, window = self.shape
        block, norm = self.style.block(Block), self.style.layer_norm
        embed = self.style.conv(
            width, kernel=4, stride=4, padding=[(0, -n % 4) for n in x.shape[1:-1]],
            activation="none", norm="none", name="embed",
        )  # fmt: skip
        x = norm(epsilon=EPSILON, name="embed_norm")(embed(x, train=train))
        features, blocks = [], 0
        for stage, depth in enumerate(depths):
            if stage:
                x = Merge(style=self.style, name=f"merge{stage}")(x)
            for i in range(depth):
                layer = block(
                    heads=max(1, x.shape[-1] // self.head_width),
                    window=window,
                    shift=i % 2 * (window // 2),
                    drop_path=self.drop_path * blocks / max(sum(depths) - 1, 1),
                    name=f"block{stage}_{i}",
                )
                x = layer(x, train=train)
                blocks += 1
            features.append(x)
        return tuple(features)


class Merge(style.Block):
    """Join the pixels of windows of 2, and halve their channels (section 3.1)."""

    @nn.compact
    def __call__(self, x: Features) -> Features:
        """Return twice the channels at half the resolution, rounded up."""
        x = jnp.pad(x, [(0, 0), *((0, n % 2) for n in x.shape[1:-1]), (0, 0)])
        b, h, w, c = x.shape
        # Of the four pixels the first column comes before the second.
        x = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 4, 2, 5)
        x = x.reshape(b, h // 2, w // 2, 4 * c)
        x = self.style.layer_norm(epsilon=EPSILON, name="norm")(x)
        return attention.dense(2 * c, bias=False, **self.style.dtypes, name="reduce")(x)


class Block(style.Block):
    """Add attention in windows and a perceptron, each normalised before (equation 3).

    Attributes:
        heads: Of the attention.
        window: Side of the windows.
        shift: By how much they are shifted, down and to the right.
        drop_path: Rate of dropping a residual branch.
    """

    heads: int
    window: int
    shift: int
    drop_path: float

    @nn.compact
    def __call__(self, x: Features, *, train: bool) -> Features:
        """Return the block's features."""
        drop = functools.partial(conv.DropPath(self.drop_path), train=train)
        norm = functools.partial(self.style.layer_norm, epsilon=EPSILON)
        dense = functools.partial(attention.dense, **self.style.dtypes)
        channels = x.shape[-1]
        x = x + drop(self.attend(norm(name="norm1")(x)))
        y = dense(EXPANSION * channels, name="expand")(norm(name="norm2")(x))
        return x + drop(dense(channels, name="contract")(activations.gelu(y)))

    def attend(self, x: Features) -> Features:
        """Return what the places of a window tell each other, those of the padding too."""
        size, side = x.shape[1:-1], self.window
        x = jnp.pad(x, [(0, 0), *((0, -n % side) for n in size), (0, 0)])
        sees, padded = None, x.shape
        if self.shift:
            x = jnp.roll(x, (-self.shift, -self.shift), axis=(1, 2))
            one = jnp.asarray(visible(padded[1:-1], side, self.shift))
            sees = jnp.tile(one, (padded[0], 1, 1))
        table = self.param(
            "positions", attention.INIT, ((2 * side - 1) ** 2, self.heads), self.param_dtype
        )
        bias = table[distances(side)].transpose(2, 0, 1)
        own = attention.Attention(self.heads, **self.style.dtypes, name="attention")
        x = cut(x, side)
        x = join(own(x, x, sees, bias=bias), side, padded)
        if self.shift:
            x = jnp.roll(x, (self.shift, self.shift), axis=(1, 2))
        return x[:, : size[0], : size[1]]


def cut(x: Float[Array, "b h w c"], side: int) -> Float[Array, "m n c"]:
    """Return the windows [b * windows side**2 c] of features that they fill."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // side, side, w // side, side, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, side**2, c)


def join(x: Float[Array, "m n c"], side: int, shape: Sequence[int]) -> Float[Array, "b h w c"]:
    """Return the features of `shape` that were `cut`."""
    b, h, w, c = shape
    x = x.reshape(b, h // side, w // side, side, side, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h, w, c)


def distances(side: int) -> np.ndarray:
    """Return for each two places of a window the row [n n] of the table that is of their offset."""
    place = np.stack(np.divmod(np.arange(side**2), side), axis=-1)
    apart = place[:, None] - place + side - 1
    return apart[..., 0] * (2 * side - 1) + apart[..., 1]


def visible(size: Sequence[int], side: int, shift: int) -> Bool[np.ndarray, "windows n n"]:
    """Return which places of shifted windows see each other: those that were neighbours before.

    A shift brings what leaves at one end in at the other, where it meets strangers.
    """
    parts = [(np.arange(n) >= n - side).astype(int) + (np.arange(n) >= n - shift) for n in size]
    part = 3 * parts[0][:, None] + parts[1]
    windows = part.reshape(size[0] // side, side, size[1] // side, side).swapaxes(1, 2)
    windows = windows.reshape(math.prod(size) // side**2, side**2)
    return windows[:, :, None] == windows[:, None, :]
