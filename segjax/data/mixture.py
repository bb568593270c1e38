"""Two data sets as one: training draws from both in given shares, whatever their sizes.

An epoch holds every example of both at least once. Which example is at which place is a function of
the section alone, and the order that of every source, so batch `t` is the same on any number of
processes, and a run resumes within an epoch.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any

from segjax.config import kinds, rules
from segjax.data import core, folds
from segjax.errors import ConfigError, DataError
from segjax.structs import Example, Schema

MORE = "more_"
"""What a split of `more` alone is called by: `more_val`."""


class Source(core.View):
    """One split of a mixture.

    Examples have the fields that both have alike, and classes are the same.

    Args:
        split: One of `mixed`: of both; `more_` and a split of `more`: each example of that once;
            else a split of `source`, each example once.
        source: The first data set: a section with a `type`.
        more: The second.
        share: Of the examples of mixed splits, those that are of `more`.
        mixed: Splits in which both are mixed, and which both have.

    Raises:
        ConfigError: A share that leaves one of them out.
        DataError: They have other classes, or images of another kind.
    """

    def __init__(
        self,
        *,
        split: str,
        source: Annotated[kinds.Section, kinds.Builds("data", ("split",))],
        more: Annotated[kinds.Section, kinds.Builds("data", ("split",))],
        share: Annotated[float, rules.number(0.001, 0.999)] = 0.5,
        mixed: Annotated[Sequence[Annotated[str, rules.NAME]], rules.length(1, 16)] = ("train",),
    ):
        if split in mixed:
            opened = [folds.open_split(each, split) for each in (source, more)]
        elif split.startswith(MORE):
            opened = [folds.open_split(more, split.removeprefix(MORE))]
        else:
            opened = [folds.open_split(source, split)]
        first, *others = opened
        super().__init__(first)
        self.sources, self.split = opened, split
        self.reading = core.reading_of(first)
        for other in others:
            self.schema = common(first, other)
        counts = [len(each) for each in opened]
        if others:
            shares = (1 - share, share)
            whole = max(math.ceil(n / part) for n, part in zip(counts, shares, strict=True))
            if whole > rules.MANY:
                raise ConfigError(
                    f"config.input.source.share={share:g}: an epoch would have {whole:,} examples. "
                    "Bring it nearer to 0.5."
                )
            own = min(whole - counts[1], max(counts[0], round(whole * shares[0])))
            counts = [own, whole - own]
        self.counts = counts

    def __len__(self) -> int:
        return sum(self.counts)

    def __getitem__(self, index: int) -> Example:
        source, place = self._find(index)
        example: Any = source[place]
        return example if len(self.sources) == 1 else self._alike(example)

    def objects(self, index: int) -> Any:
        """Return all objects of example `index`."""
        source, place = self._find(index)
        return core.known_objects(source).objects(place)

    def example_names(self) -> list[str]:
        """Return the name of each example; one that comes again has it again."""
        own = [core.names_of(source, self.split) for source in self.sources]
        return [
            names[place % len(names)]
            for names, count in zip(own, self.counts, strict=True)
            for place in range(count)
        ]

    def check(self) -> set[tuple[int, ...]]:
        """Check all that can be checked, and return the sizes of its images."""
        checkable = [each for each in self.sources if isinstance(each, core.Checkable)]
        return {size for source in checkable for size in source.check()}

    def made_of(self) -> list[core.Source]:
        """Return what it is made of."""
        return self.sources

    def _find(self, index: int) -> tuple[core.Source, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"{len(self)} examples, not {index}")
        number = int(index >= self.counts[0])
        source = self.sources[number]
        return source, (index - number * self.counts[0]) % len(source)

    def _alike(self, example: Any) -> Any:
        kept = {*self.schema, "name"}
        return {name: value for name, value in example.items() if name in kept}


def common(first: core.Source, other: core.Source) -> Schema:
    """Return the fields that two sources have alike.

    Raises:
        DataError: Not even image and label, or their classes differ.
    """
    if first.class_names != other.class_names:
        raise DataError(
            f"mixture: source has the classes {rules.shown(first.class_names)}, more "
            f"{rules.shown(other.class_names)}. Expected the same in the same order: set "
            "class_names and label_map of one of them."
        )
    found = {name: field for name, field in first.schema.items() if other.schema.get(name) == field}
    for name in ("image", "label"):
        if name in first.schema and name not in found:
            raise DataError(
                f"mixture: {name} is {first.schema[name]} in source, {other.schema.get(name)} in "
                "more. Expected the same: set channels and dtype of one of them."
            )
    return found
