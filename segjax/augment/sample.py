"""One example on its way through the ops: its fields, what they are, and where they are to move."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from segjax.config import kinds
from segjax.structs import Schema

if TYPE_CHECKING:
    from segjax.augment.warp import Move

Fill: TypeAlias = kinds.AnyNumber | Sequence[kinds.AnyNumber]
"""An image value in [0, 1]: one, or one per channel."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """The fields of one example, as an op gets and returns them.

    Attributes:
        arrays: By name; images are float, maps int32, multi-label maps and masks of objects uint8.
        schema: What they are; the dtypes are those that the source had.
        moves: Between geometric ops, what those before decided and `arrays` do not show yet, so
            that all of them take one interpolation; None: every op moves the arrays itself.
    """

    arrays: Mapping[str, Array]
    schema: Schema
    moves: "tuple[Move, ...] | None" = None

    @property
    def image(self) -> Float[Array, "*space c"]:
        """The image; photometric ops change it alone, other fields of its kind only move."""
        return self.arrays["image"]

    @property
    def size(self) -> tuple[int, ...]:
        """The sides in pixels, one to three."""
        return self.moves[-1].size if self.moves else self.image.shape[:-1]

    def replace(self, **arrays: Array) -> "Sample":
        """Return the example with other arrays in some of its fields."""
        return dataclasses.replace(self, arrays={**self.arrays, **arrays})

    def keep(self, shown: Bool[Array, "*space"], *, fill: Fill, maps: bool = True) -> "Sample":
        """Return the example with `fill` in its images where `shown` is False.

        With `maps`, class maps are void there, multi-label maps in every class, instance maps are
        0, and no object has a pixel there.
        """
        kept = {}
        for name, field in self.schema.items():
            array = self.arrays[name]
            if field.kind == "image":
                kept[name] = jnp.where(shown[..., None], array, jnp.asarray(fill, array.dtype))
            elif field.is_map and maps:
                there = shown.reshape(*shown.shape, *[1] * len(field.shape))
                kept[name] = jnp.where(there, array, jnp.asarray(field.fill, array.dtype))
        return self.replace(**kept)
