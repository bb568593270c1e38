"""Procedural data that needs no files: pictures, volumes and signals with known instances."""

import operator
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from segjax.config import lookup
from segjax.data import core, scenes, signals, volumes
from segjax.errors import ConfigError
from segjax.structs import Example, Field

NUM_EXAMPLES = {"train": 4096, "val": 256, "test": 256}
"""The splits, in the order that numbers their random streams, and their default sizes."""

Drawn = tuple[np.ndarray, np.ndarray, np.ndarray]


class Family(NamedTuple):
    """One kind of data.

    Attributes:
        render: `(rng, size) -> image [*space c], label uint8 [*space], instance uint8 [*space]`.
        class_names: In the order of the label values.
        palette: One colour per class.
        channels: Of every image.
        dtype: Of every image.
        size: The sides, if none are given.
        smallest: The shortest that a side may be, in pixels.
    """

    render: Callable[[np.random.Generator, tuple[int, ...]], Drawn]
    class_names: tuple[str, ...]
    palette: core.Palette
    channels: int
    dtype: str
    size: tuple[int, ...]
    smallest: int


FAMILIES = {
    1: Family(signals.render, signals.CLASS_NAMES, signals.PALETTE, 1, "uint16", (512,), 64),
    2: Family(scenes.render, scenes.CLASS_NAMES, scenes.PALETTE, 3, "uint8", (128, 128), 32),
    3: Family(volumes.render, volumes.CLASS_NAMES, volumes.PALETTE, 1, "uint8", (32, 48, 48), 16),
}
"""By their number of axes in space."""


class SyntheticExample(Example):
    """An `Example` with its instances: 1, 2, … where the label is a thing, 0 on the rest."""

    instance: np.ndarray  # uint8 [*space]


class Source:
    """One split of an endless family; example `i` is a function of (seed, split, i) alone.

    Args:
        split: `train`, `val` or `test`: random streams that share no example.
        num_examples: How many; 0: 4096 for `train`, 256 for `val` and `test`.
        size: The sides of every image. Things scale with the shortest but the pixels of their
            textures do not, so small images are harder. Empty: 128 x 128, as `dims` says.
        seed: Names the family, 0 or more.
        dims: 1: signals (`signals`), 2: pictures (`scenes`), 3: volumes (`volumes`).

    Raises:
        ConfigError: An unknown split, or a number out of range.
    """

    def __init__(
        self,
        *,
        split: str,
        num_examples: int = 0,
        size: Sequence[int] = (),
        seed: int = 0,
        dims: int = 2,
    ):
        if split not in NUM_EXAMPLES:
            known = ", ".join(NUM_EXAMPLES)
            raise ConfigError(f"split={split!r}: synthetic has no such split. Known: {known}.")
        if num_examples < 0:
            raise ConfigError(
                f"num_examples={num_examples}: expected 1 or more, or 0 for {NUM_EXAMPLES[split]}."
            )
        if seed < 0:
            raise ConfigError(f"seed={seed}: expected 0 or more.")
        family = FAMILIES[lookup.choose(dims, list(FAMILIES), what="dims")]
        size = tuple(map(int, size)) or family.size
        if len(size) != dims or min(size) < family.smallest:
            sides = ("the length", "height and width", "depth, height and width")[dims - 1]
            raise ConfigError(
                f"size={size}: expected {sides} of dims={dims}, each at least {family.smallest}."
            )
        self.family, self.split, self.seed, self.size = family, split, seed, size
        self.num_examples = num_examples or NUM_EXAMPLES[split]
        self.class_names, self.palette = family.class_names, family.palette
        schema = core.semantic_schema(family.channels, dtype=family.dtype)
        self.schema = {**schema, "instance": Field("ids")}

    def __len__(self) -> int:
        return self.num_examples

    def __getitem__(self, index: int) -> SyntheticExample:
        index = operator.index(index)
        if not 0 <= index < self.num_examples:
            raise IndexError(
                f"synthetic {self.split} has {self.num_examples} examples, not {index}"
            )
        stream = list(NUM_EXAMPLES).index(self.split)
        rng = np.random.default_rng([self.seed, stream, index])
        image, label, instance = self.family.render(rng, self.size)
        name = f"synthetic/{self.split}/{index:05d}"
        return SyntheticExample(image=image, label=label, name=name, instance=instance)
