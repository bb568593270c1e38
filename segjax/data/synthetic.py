"""Procedural data that needs no files: pictures, volumes and signals with known instances."""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np

from segjax.config import kinds, rules
from segjax.data import core, masks, scenes, signals, sounds, texts, volumes
from segjax.data.readers import text
from segjax.errors import ConfigError
from segjax.structs import IGNORE_LABEL, Example, Field, Objects, Schema

SPLITS = ("train", "val", "test")
"""In the order that numbers their random streams."""

PIXELS = 2**28
"""The most that an example may have."""

Drawn = tuple[np.ndarray, np.ndarray, np.ndarray]


class Family(NamedTuple):
    """One kind of data.

    Attributes:
        render: `(rng, size, overlap=, drawn=) -> image [*space c], label uint8 [*space], instance
            uint8 [*space]`; with `overlap` the label is multi-label [*space k], without the
            background. Each thing is added to the list `drawn`, that of instance 1 first.
        class_names: In the order of the label values.
        palette: One colour per class.
        channels: Of every image.
        dtype: Of every image.
        size: The sides, if none are given.
        smallest: The shortest that a side may be, in pixels.
        examples: How many there are in each of `SPLITS`, if no number is given.
    """

    render: Callable[..., Drawn]
    class_names: tuple[str, ...]
    palette: core.Palette
    channels: int
    dtype: str
    size: tuple[int, ...]
    smallest: int
    examples: tuple[int, int, int]


FAMILIES = {
    1: Family(
        signals.render, signals.CLASS_NAMES, signals.PALETTE,
        channels=1, dtype="uint16", size=(512,), smallest=64, examples=(4096, 256, 256),
    ),
    2: Family(
        scenes.render, scenes.CLASS_NAMES, scenes.PALETTE,
        channels=3, dtype="uint8", size=(128, 128), smallest=32, examples=(4096, 256, 256),
    ),
    3: Family(
        volumes.render, volumes.CLASS_NAMES, volumes.PALETTE,
        channels=1, dtype="uint8", size=(32, 48, 48), smallest=16, examples=(1024, 64, 64),
    ),
}  # fmt: skip
"""By their number of axes in space."""
SCENES = {
    "sounds": Family(
        sounds.render, sounds.CLASS_NAMES, sounds.PALETTE,
        channels=1, dtype="int16", size=(4096,), smallest=1024, examples=(2048, 128, 128),
    ),
    "texts": Family(
        texts.render, texts.CLASS_NAMES, texts.PALETTE,
        channels=text.BITS, dtype="uint8", size=(512,), smallest=64, examples=(4096, 256, 256),
    ),
}  # fmt: skip
"""Others of one axis, by name."""


class Source:
    """One split of an endless family; example `i` is a function of (seed, split, i) alone.

    Args:
        split: `train`, `val` or `test`: random streams that share no example.
        num_examples: How many; 0: 4096 for `train`, 256 for `val` and `test`; of volumes 1024 and
            64.
        size: The sides of every image. Things scale with the shortest but the pixels of their
            textures do not, so small images are harder. Empty: 128 x 128, as `dims` says.
        seed: Names the family, 0 or more.
        dims: 1: signals (`signals`), 2: pictures (`scenes`), 3: volumes (`volumes`).
        scene: With `dims=1` 'sounds' or 'texts' instead of signals; empty: as `dims` says.
        multilabel: Things shine through each other, and the label has a map for each kind of them
            (no background, no `instance`): for `task.type='multilabel'`.
        objects: Room for objects in each example; 0: it has none. Later things hide earlier ones,
            whose masks are what is left to see.
        overlap: Things shine through each other, and masks of objects are whole; in the class map
            the later thing counts.
        ground: With `dims=2`: a ground that no scene has otherwise, 'weave', to see how a model
            fares on what it was not trained on.

    Raises:
        ConfigError: An unknown split, or a number out of range.
    """

    def __init__(
        self,
        *,
        split: str,
        num_examples: Annotated[int, rules.whole(0, 10**8)] = 0,
        size: Annotated[Sequence[kinds.Side], rules.length(0, 3)] = (),
        seed: kinds.Count = 0,
        dims: Annotated[int, rules.one_of(1, 2, 3)] = 2,
        scene: Annotated[str, rules.one_of("", *SCENES)] = "",
        multilabel: bool = False,
        objects: core.MostObjects = 0,
        overlap: bool = False,
        ground: Annotated[str, rules.one_of("", *scenes.OTHER_GROUNDS)] = "",
    ):
        if split not in SPLITS:
            known = ", ".join(SPLITS)
            raise ConfigError(f"split={split!r}: synthetic has no such split. Known: {known}.")
        if scene and dims != 1:
            raise ConfigError(f"scene={scene!r}: has one axis. Set dims=1.")
        if ground and dims != 2:
            raise ConfigError(f"ground={ground!r}: is of pictures. Set dims=2.")
        family = SCENES[scene] if scene else FAMILIES[dims]
        self.stream = SPLITS.index(split)
        usual = family.examples[self.stream]
        size = tuple(size) or family.size
        if len(size) != dims or min(size) < family.smallest:
            sides = ("the length", "height and width", "depth, height and width")[dims - 1]
            raise ConfigError(
                f"size={size}: expected {sides} of dims={dims}, each at least {family.smallest}."
            )
        if math.prod(size) > PIXELS:
            raise ConfigError(
                f"size={size}: {math.prod(size)} pixels, expected at most {PIXELS}: an example is "
                "drawn in memory. Lower it."
            )
        self.family, self.split, self.seed, self.size = family, split, seed, size
        self.num_examples = num_examples or usual
        self.class_names, self.palette = family.class_names, family.palette
        self.schema: Schema = core.semantic_schema(family.channels, dtype=family.dtype)
        self.schema = {**self.schema, "instance": Field("ids")}
        self.multilabel = multilabel
        if multilabel:
            self.class_names, self.palette = family.class_names[1:], family.palette[1:]
            self.schema = core.multilabel_schema(
                family.channels, len(self.class_names), dtype=family.dtype
            )
        self.overlap, self.most = overlap, objects
        self.more = {"ground": ground} if ground else {}
        self.things = tuple(range(not multilabel, len(self.class_names)))
        if objects:
            self.schema = {**self.schema, **core.object_schema(objects)}

    def __len__(self) -> int:
        return self.num_examples

    def example_names(self) -> list[str]:
        """Return the name of each example."""
        return [f"synthetic/{self.split}/{index:05d}" for index in range(self.num_examples)]

    def __getitem__(self, index: int) -> Example:
        image, label, instance, found = self._draw(index)
        name = f"synthetic/{self.split}/{index:05d}"
        example: Any = {"image": image, "label": label, "name": name}
        if not self.multilabel:
            example["instance"] = instance
        if self.most:
            example |= {masks.WHOLE: found} | masks.fields(found, self.size, most=self.most)
        return example

    def objects(self, index: int) -> Objects:
        """Return all objects of example `index`."""
        return self._draw(index)[-1]

    def _draw(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, Objects]:
        index = operator.index(index)
        if not 0 <= index < self.num_examples:
            raise IndexError(
                f"synthetic {self.split} has {self.num_examples} examples, not {index}"
            )
        rng = np.random.default_rng([self.seed, self.stream, index])
        drawn: list[scenes.Drawn] = []
        whole = self.multilabel or self.overlap
        image, label, instance = self.family.render(
            rng, self.size, overlap=whole, drawn=drawn, **self.more
        )
        about = [masks.About(each.kind + self.things[0]) for each in drawn]
        if whole:
            cut = [masks.trim(each.inside, [part.start for part in each.box]) for each in drawn]
            found = masks.make(zip(cut, about, strict=True), dims=len(self.size))
        else:
            found = masks.of_map(instance, dict(enumerate(about, start=1)))
        if self.overlap and not self.multilabel:
            label = _uppermost(label, instance, [each.number for each in about])
        return image, label, instance, found


def _uppermost(label: np.ndarray, instance: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
    """Return the class map of a scene whose things overlap; a rim is void whatever lies below."""
    classes = np.array([0, *numbers], np.uint8)[instance]
    classes[(instance == 0) & (label != 0).any(axis=-1)] = IGNORE_LABEL
    return classes
