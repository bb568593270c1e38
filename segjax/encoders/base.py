"""What all encoders share: the check, the cast, the output stride; and what all ViTs do."""

import functools
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from segjax.config import kinds, rules
from segjax.errors import ConfigError
from segjax.layers import attention, resample, style, transformer
from segjax.structs import Features

HEAD_WIDTH = 64
"""Channels of a head of attention."""


class Encoder(style.Network):
    """A network that returns features at several strides, for a decoder to join.

    A paper's encoder has fields of its own, `strides` and `encode`.
    """

    where = "config.model.encoder"

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the features that are returned, finest first."""
        raise NotImplementedError

    @nn.compact
    def __call__(self, image: Features, *, train: bool) -> tuple[Features, ...]:
        """Return one feature map for each of `strides`, sizes rounded up, in `compute_dtype`.

        Raises:
            ConfigError: Fields that make no such network, or an image of too many axes.
        """
        self.check_axes(image)
        self.check()
        return self.encode(self.prepare(image), train=train)

    def encode(self, x: Features, *, train: bool) -> tuple[Features, ...]:
        """Return the feature maps of `x`, which `prepare` made of an image."""
        raise NotImplementedError


class Dilated(Encoder, kw_only=True):
    """An encoder whose later stages may dilate instead of striding (Chen et al. 2017).

    Attributes:
        output_stride: 32, 16 or 8: the largest stride.
    """

    full_strides: ClassVar[tuple[int, ...]] = (2, 4, 8, 16, 32)
    """Strides without dilation."""

    output_stride: Annotated[int, rules.one_of(8, 16, 32)] = 32

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the features that are returned, finest first."""
        return tuple(min(stride, self.output_stride) for stride in self.full_strides)


class Tokens(NamedTuple):
    """An image as a transformer sees it.

    Attributes:
        tokens: Those before the patches, then the patches, row by row.
        turns: By which attention turns the patches, see `attention.rotate`; None: positions are in
            the tokens.
        size: Patches along the image's axes.
    """

    tokens: Float[Array, "b n c"]
    turns: attention.Turns | None
    size: tuple[int, ...]


class Shape(NamedTuple):
    """The size of a plain transformer: channels, blocks, and what its perceptrons are.

    Attributes:
        hidden: Channels inside a perceptron, as a multiple of `width`.
        gated: See `transformer.Block`.
    """

    width: int
    depth: int
    hidden: float = 4
    gated: bool = False


class Plain(Encoder):
    """A transformer of one width (arXiv:2010.11929): normalised features, all at stride `patch`.

    An image that patches do not cover exactly is enlarged bilinearly until they do. A paper's file
    has `variant`, a key of `shapes`, and says where patches are.

    Attributes:
        width: Channels, where not the variant's.
        heads: Of the attention; 0: one for 64 channels, at least one.
        depth: Blocks, where not the variant's.
        layers: Indices of the blocks whose features are returned, ascending; -1 is the last.
        patch: Side of a patch in pixels.
        registers: Tokens of no meaning beside the class token (arXiv:2309.16588).
        drop_path: Rate of dropping a residual branch.
        layer_scale: What residual branches are scaled by at first.
        epsilon: Added to the variance by layer norms.
    """

    shapes: ClassVar[Mapping[str, Shape]] = {}
    """Of each variant."""
    key_bias: ClassVar[bool] = True
    """Whether keys have a bias."""
    dims = (2,)

    variant: str = ""
    width: kinds.WidthOrNone = 0
    heads: kinds.WidthOrNone = 0
    depth: kinds.DepthOrNone = 0
    layers: Annotated[Sequence[kinds.Index], rules.length(1, 256)] = (-1,)
    patch: Annotated[int, rules.whole(1, 1024)] = 14
    registers: Annotated[int, rules.whole(0, 1024)] = 0
    drop_path: kinds.Dropped = 0.0
    layer_scale: kinds.AnyNumber = 1e-5
    epsilon: kinds.Epsilon = 1e-6

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the features that are returned."""
        return (self.patch,) * len(self.layers)

    @property
    def shape(self) -> Shape:
        """The variant's size, or what the fields say instead."""
        shape = self.shapes[self.variant]
        return shape._replace(width=self.width or shape.width, depth=self.depth or shape.depth)

    @property
    def num_heads(self) -> int:
        """Heads of the attention."""
        return self.heads or max(1, self.shape.width // HEAD_WIDTH)

    def setup(self) -> None:
        """Make the layers, so that a model can take the blocks one by one."""
        self.check()
        width, depth, hidden, gated = self.shape
        self.embed = self.style.conv(
            width, kernel=self.patch, stride=self.patch, padding=((0, 0), (0, 0)),
            activation="none",
        )  # fmt: skip
        self.token = self.param("token", attention.INIT, (1, 1, width), self.param_dtype)
        if self.registers:
            self.register_tokens = self.param(
                "registers", attention.INIT, (1, self.registers, width), self.param_dtype
            )
        block = functools.partial(
            self.style.block(transformer.Block),
            heads=self.num_heads,
            hidden=round(hidden * width),
            gated=gated,
            key_bias=self.key_bias,
            drop_path=self.drop_path,
            layer_scale=self.layer_scale,
            epsilon=self.epsilon,
        )
        self.blocks = [block(name=f"block{i}") for i in range(depth)]
        self.last_norm = self.style.layer_norm(epsilon=self.epsilon, name="norm")

    def prepare(self, image: Features) -> Features:
        """Return the image enlarged to whole patches, in `compute_dtype`."""
        size = [-(-n // self.patch) * self.patch for n in image.shape[1:-1]]
        return resample.resize(image, size).astype(self.compute_dtype)

    def encode(self, x: Features, *, train: bool) -> tuple[Features, ...]:
        """Return one feature map for each of `layers`."""
        x, turns, size = self.tokens(x, train=train)
        chosen, features = self.chosen(), []
        for i, block in enumerate(self.blocks):
            x = block(x, None, turns, train=train)
            if i in chosen:
                patches = self.last_norm(x)[:, self.before :]
                features.append(patches.reshape(x.shape[0], *size, -1))
        return tuple(features)

    @property
    def before(self) -> int:
        """How many tokens stand before the patches: the class token and the registers."""
        return 1 + self.registers

    def tokens(self, x: Features, *, train: bool) -> Tokens:
        """Return what the first block sees of what `prepare` made of an image."""
        x = self.embed(x, train=train)
        size = x.shape[1:-1]
        token, x, turns = self.place(x)
        before = [token]
        if self.registers:
            before.append(self.register_tokens.astype(self.compute_dtype))
        first = jnp.concatenate(before, axis=1)
        first = jnp.broadcast_to(first, (x.shape[0], *first.shape[1:]))
        patches = x.reshape(x.shape[0], -1, x.shape[-1])
        return Tokens(jnp.concatenate([first, patches], axis=1), turns, size)

    def place(
        self, patches: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "1 1 c"], Float[Array, "b h w c"], attention.Turns | None]:
        """Return the class token and the patches, told where they are, and the patches' turns."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise `ConfigError` for fields that make no transformer."""
        super().check()
        chosen, depth = self.chosen(), self.shape.depth
        within = all(-depth <= layer < depth for layer in self.layers)
        if not within or not chosen or sorted(set(chosen)) != chosen:
            raise ConfigError(
                f"encoder.layers={tuple(self.layers)}: expected ascending indices of "
                f"{depth} blocks."
            )

    def chosen(self) -> list[int]:
        """Return the indices in `layers`, counted from the first block."""
        return [layer % self.shape.depth for layer in self.layers]
