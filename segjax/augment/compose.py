"""Chain augmentation ops over a batch, each example with a key of its own."""

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, UInt8

from segjax.errors import ConfigError
from segjax.kernels import fusion
from segjax.structs import Batch, Key

Op: TypeAlias = Callable[
    [Key, Float[Array, "h w c"], Int32[Array, "h w"]],
    tuple[Float[Array, "h w c"], Int32[Array, "h w"]],
]
Number = (int, float)
Real: TypeAlias = float | int
Interval: TypeAlias = Sequence[float | int]
"""`(lo, hi)`, lo <= hi: the argument is drawn from it, uniformly unless the op says otherwise."""
Fill: TypeAlias = Real | Sequence[Real]
"""An image value in [0, 1]: one, or one per channel."""


def make_augment(ops: Sequence[Op]) -> Callable[[Key, Batch], Batch]:
    """Return `augment(key, batch)`, which applies `ops` in order to every example.

    An example's key is `key` folded with its `index`, an op's key is that folded with the op's
    number: an example's fate depends neither on its row, nor on the rest of the batch, nor on how
    many devices hold it. uint8 images become float32 in [0, 1]; float images must be there already.
    """

    def augment(key: Key, batch: Batch) -> Batch:
        image, label = unit_range(batch["image"]), batch["label"]
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch["index"])
        for number, op in enumerate(ops):
            op_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
            image, label = fusion.isolate(key, op_keys, image, label, function=jax.vmap(op))
        return {**batch, "image": image, "label": label}

    return augment


def unit_range(
    image: UInt8[Array, "b h w c"] | Float[Array, "b h w c"],
) -> Float[Array, "b h w c"]:
    """Return uint8 pixels as float32 in [0, 1]; pass float pixels through."""
    return image.astype(jnp.float32) / 255 if image.dtype == jnp.uint8 else image


def check_probability(name: str, value: Real) -> None:
    """Raise ConfigError unless `value` is a probability."""
    if not (isinstance(value, Number) and 0 <= value <= 1):
        raise ConfigError(f"{name}={value!r}: expected a probability. Set it between 0 and 1.")


def check_number(name: str, value: Real, *, lowest: Real = 0, highest: Real = math.inf) -> None:
    """Raise ConfigError unless `value` is a number in [lowest, highest]."""
    if not (isinstance(value, Number) and lowest <= value <= highest):
        raise ConfigError(
            f"{name}={value!r}: expected a number between {lowest:g} and {highest:g}. Change it."
        )


def check_interval(
    name: str, value: Interval, *, positive: bool = False, highest: Real = math.inf
) -> None:
    """Raise ConfigError unless `value` is `(lo, hi)` within [0, highest], `positive`: without 0."""
    pair = value if isinstance(value, (tuple, list)) and len(value) == 2 else (1, 0)
    if not 0 <= pair[0] <= pair[1] <= highest or (positive and pair[0] == 0):
        raise ConfigError(
            f"{name}={value!r}: expected (lo, hi), 0 {'<' if positive else '<='} lo <= hi <= "
            f"{highest:g}. Write a number twice to fix it at that value."
        )


def check_channels(name: str, value: Fill, channels: int) -> None:
    """Raise ConfigError unless `value` is one number, or one for each channel."""
    if not isinstance(value, Number) and len(value) not in (1, channels):
        raise ConfigError(
            f"{name}={value!r}: expected one number, or one for each of the image's {channels} "
            f"channel(s), got {len(value)}. Write one number to use it for all."
        )


def check_fill(name: str, value: Fill, channels: int) -> None:
    """Raise ConfigError unless `value` can be a pixel of an image in [0, 1]."""
    check_channels(name, value, channels)
    if not all(0 <= x <= 1 for x in ((value,) if isinstance(value, Number) else value)):
        raise ConfigError(f"{name}={value!r}: expected values in [0, 1]. Divide bytes by 255.")
