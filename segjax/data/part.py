"""A part of another data set's training split, the others as they are: how much data is enough?"""

from collections.abc import Sequence
from typing import Annotated

from segjax.config import kinds, rules
from segjax.data import core, folds
from segjax.data.core import Source as AnySource


class Source(core.Subset):
    """One split of a data set, of which some have a share of their examples only.

    They are spread evenly over the split, whose order they keep; of a smaller share not all are in
    a larger one.

    Args:
        split: Of `source`.
        source: The data set: a section with a `type`.
        share: Of the examples, rounded, one at least.
        splits: Those that are shortened.
    """

    def __init__(
        self,
        *,
        split: str,
        source: Annotated[kinds.Section, kinds.Builds("data", ("split",))],
        share: Annotated[float, rules.number(0, 1, open_ends="low")] = 1.0,
        splits: Annotated[Sequence[Annotated[str, rules.NAME]], rules.length(1, 16)] = ("train",),
    ):
        opened = folds.open_split(source, split)
        whole = len(opened)
        count = max(1, round(share * whole)) if split in splits else whole
        super().__init__(opened, [place * whole // count for place in range(count)])
        self.split = split
        self.reading = core.reading_of(opened)

    def example_names(self) -> list[str]:
        """Return the name of each example."""
        names = core.names_of(self.source, self.split)
        return [names[place] for place in self.indices]

    def check(self) -> set[tuple[int, ...]]:
        """Check all of the split, and return the sizes of its images."""
        return self.source.check() if isinstance(self.source, core.Checkable) else set()

    def made_of(self) -> list[AnySource]:
        """Return what it is made of."""
        return [self.source]
