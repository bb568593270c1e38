"""The array types that cross module boundaries: a batch going in, a model's outputs coming out."""

from typing import TypedDict

import flax.struct
from jaxtyping import Array, Bool, Float, Int, Int32, UInt8
from numpy import ndarray

IGNORE_LABEL = 255
"""The value of every void pixel after `data/`, whatever the data set used on disk."""

Key = Array
"""A typed JAX PRNG key (`jax.random.key`)."""
Features = Float[Array, "b ... _"]
"""Channels last; as many spatial axes as the data has."""
Label = Int[Array, "b h w"]
Logits = Float[Array, "b h w k"]
Confusion = Int32[Array, "k k"]
"""Rows are true classes, columns are predicted classes."""


class Example(TypedDict):
    """One example as a `Source` yields it (NumPy, any size)."""

    image: ndarray  # uint8 [h w c]
    label: ndarray  # uint8 [h w]: classes 0..K-1, 255 = ignore
    name: str  # where it came from, for messages and figures


class Batch(TypedDict):
    """One global batch (or this process's rows of it) after `data/`."""

    image: UInt8[Array, "b h w c"] | Float[Array, "b h w c"]
    label: Int32[Array, "b h w"]  # 0..K-1, 255 = ignore
    mask: Bool[Array, " b"]  # False on rows that only pad the last batch
    index: Int32[Array, " b"]  # global example position


@flax.struct.dataclass
class Outputs:
    """What every semantic model returns.

    Attributes:
        logits: [b *space k] at exactly the input's height and width (a signal's length, a volume's
            depth), in the model's compute dtype.
        aux: Logits of auxiliary heads, each of the same size; empty without heads.
    """

    logits: Features
    aux: tuple[Features, ...] = ()
