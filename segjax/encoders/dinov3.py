"""DINOv3's Vision Transformer (Siméoni et al. 2025, arXiv:2508.10104, section 3.2)."""

import math
from collections.abc import Sequence
from typing import Annotated

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from segjax.config import kinds, rules
from segjax.encoders import base
from segjax.encoders.base import Shape
from segjax.errors import ConfigError
from segjax.layers import attention

SHAPES = {
    "s": Shape(384, 12),
    "s+": Shape(384, 12, gated=True),
    "b": Shape(768, 12),
    "l": Shape(1024, 24),
    "h+": Shape(1280, 32, gated=True),
}
PERIOD = 100.0
"""Of the slowest angle, that of the fastest being 1: the base of `rope_embed`."""


class Encoder(base.Plain):
    """Return normalised features of chosen blocks, all at stride `patch`.

    Nothing is learnt of positions: attention turns queries and keys of patches by angles that grow
    with the place, which lies between -1 and 1 along each axis whatever the image's size.

    Attributes:
        variant: 's', 's+', 'b', 'l' or 'h+': 384, 384, 768, 1024 or 1280 channels; those with a
            plus have gated perceptrons. The published one of 7 billion parameters is not offered.
        epsilon: 1e-5 in the published encoders, 1e-6 in EoMT's.
    """

    shapes = SHAPES
    key_bias = False

    variant: Annotated[str, rules.one_of(*SHAPES)] = "s"
    patch: Annotated[int, rules.whole(1, 1024)] = 16
    registers: Annotated[int, rules.whole(0, 1024)] = 4
    epsilon: kinds.Epsilon = 1e-5

    def place(
        self, patches: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "1 1 c"], Float[Array, "b h w c"], attention.Turns]:
        """Return the class token, the patches as they are, and their turns."""
        channels = patches.shape[-1] // self.num_heads
        angles = turns_of(patches.shape[1:-1], channels)
        turns = jnp.asarray(np.cos(angles), "float32"), jnp.asarray(np.sin(angles), "float32")
        return self.token.astype(self.compute_dtype), patches, turns

    def check(self) -> None:
        """Raise `ConfigError` for fields that make no such transformer."""
        super().check()
        if self.shape.width % (4 * self.num_heads):
            raise ConfigError(
                f"dinov3: {self.shape.width} channels for encoder.heads={self.num_heads}, expected "
                "a multiple of 4 for each: an angle turns two, and there are two axes."
            )


def turns_of(size: Sequence[int], channels: int) -> np.ndarray:
    """Return the angles [h*w channels/2] of patches: along the rows' axis, then the columns'."""
    frequencies = 2 * math.pi * PERIOD ** -np.arange(0, 1, 4 / channels)
    places = [(np.arange(n) + 0.5) / n * 2 - 1 for n in size]
    grid = np.stack(np.meshgrid(*places, indexing="ij"), axis=-1)
    return (grid[..., None] * frequencies).reshape(math.prod(size), channels // 2)
