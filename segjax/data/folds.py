"""One fold of a cross-validation: what it trains on, and what it is scored on.

Splits of another source are joined and dealt to folds. The split `val` is this fold's own part,
`train` all others'. Every other split is the source's own, in no fold: a hold-out `test`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Annotated, Any

import numpy as np
from jaxtyping import Int64

from segjax.config import kinds, lookup, rules
from segjax.data import core, dealing, look
from segjax.errors import ConfigError, DataError
from segjax.structs import Example, Objects

TRAIN, HELD = "train", "val"
"""The splits that a fold has: what it trains on, and what it does not."""
WHERE = "config.input.source"
Count = Annotated[int, rules.whole(2, 1000)]


class Joined(core.View):
    """Splits of one source, one after the other.

    Args:
        sources: By split.

    Raises:
        DataError: They have other classes or fields, or an example is in two of them.
    """

    def __init__(self, sources: Mapping[str, core.Source]):
        first, *others = sources.items()
        super().__init__(first[1])
        self.sources = dict(sources)
        self.ends = np.cumsum([len(each) for each in sources.values()]).tolist()
        for split, other in others:
            for what in ("class_names", "schema", "things"):
                mine, its = (getattr(each, what, ()) for each in (first[1], other))
                if mine != its:
                    raise DataError(
                        f"splits {first[0]!r} and {split!r} have other {what}, and cannot be "
                        f"joined: {rules.shown(mine)} and {rules.shown(its)}. Join splits that "
                        "are alike."
                    )
        seen: dict[str, str] = {}
        for split, name in self.qualified():
            if name in seen:
                raise DataError(
                    f"{name}: is in split {seen[name]!r} and in {split!r}, and would be in two "
                    "folds. Join splits that share no example."
                )
            seen[name] = split

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> Example:
        source, place = self._find(index)
        return source[place]

    def objects(self, index: int) -> Objects:
        """Return all objects of example `index`."""
        source, place = self._find(index)
        return core.known_objects(source).objects(place)

    def qualified(self) -> list[tuple[str, str]]:
        """Return split and name of each example."""
        return [
            (split, name)
            for split, source in self.sources.items()
            for name in core.names_of(source, split)
        ]

    def example_names(self) -> list[str]:
        """Return the name of each example."""
        return [name for _, name in self.qualified()]

    def example_groups(self) -> list[str] | None:
        """Return the group of each example; None: some source knows none."""
        found = [core.groups_of(source) for source in self.sources.values()]
        return None if None in found else [group for own in found for group in own or ()]

    def object_counts(self) -> list[int] | None:
        """Return how many objects each example has; None: not without reading."""
        found = [core.object_counts_of(source) for source in self.sources.values()]
        return None if None in found else [count for own in found for count in own or ()]

    def check(self) -> set[tuple[int, ...]]:
        """Check all that can be checked, and return the sizes of its images."""
        return {
            size
            for source in self.sources.values()
            if isinstance(source, core.Checkable)
            for size in source.check()
        }

    def made_of(self) -> list[core.Source]:
        """Return what it is made of."""
        return [*self.sources.values()]

    def order(self) -> list[str]:
        """Return what natural order sorts by: names without the folder that is their split's."""
        return ["/".join(part for part in name.split("/") if part != split) or name
                for split, name in self.qualified()]  # fmt: skip

    def _find(self, index: int) -> tuple[core.Source, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"{len(self)} examples, not {index}")
        number = int(np.searchsorted(self.ends, index, side="right"))
        sources = [*self.sources.values()]
        return sources[number], index - (self.ends[number - 1] if number else 0)


class Part(core.Subset):
    """Some examples of a source, of which it knows what the source does.

    Attributes:
        split: Of the source, for the names of its examples.
    """

    split = ""

    def example_names(self) -> list[str]:
        """Return the name of each example."""
        return self._of_mine(core.names_of(self.source, self.split)) or []

    def example_groups(self) -> list[str] | None:
        """Return the group of each example; None: the source knows none."""
        return self._of_mine(core.groups_of(self.source))

    def object_counts(self) -> list[int] | None:
        """Return how many objects each example has; None: not without reading."""
        return self._of_mine(core.object_counts_of(self.source))

    def check(self) -> set[tuple[int, ...]]:
        """Check all of the source that can be checked, and return the sizes of its images."""
        return self.source.check() if isinstance(self.source, core.Checkable) else set()

    def _of_mine(self, values: Sequence[Any] | None) -> list[Any] | None:
        return None if values is None else [values[place] for place in self.indices]


class Source(Part):
    """One split of a fold.

    Args:
        split: `train`: the other folds' examples; `val`: this fold's; else a split of `source`.
        source: The data set: a section with a `type`.
        folds: How many there are.
        fold: Which this is, from 0.
        splits: Of `source`, whose examples are joined and dealt.
        kind: How: 'plain', 'consecutive', 'stratified', 'grouped' or 'stratified_grouped', see
            `dealing.deal`. No image is read but for the stratified ones, which read every label.
        groups: For the grouped ones: a regular expression that finds in an example's name whose it
            is; empty: what the source itself knows.
        seed: Decides what is shuffled.
        assignment: The fold of each example in lines of digits, dealt before; empty: dealt here.

    Raises:
        ConfigError: A fold or group that cannot be; a split that is joined, asked for by itself.
        DataError: Too few examples or groups; splits that do not go together; a split that shares
            examples with those that are joined.
    """

    def __init__(
        self,
        *,
        split: str,
        source: Annotated[kinds.Section, kinds.Builds("data", ("split",))],
        folds: Count,
        fold: kinds.Count,
        splits: Annotated[Sequence[Annotated[str, rules.NAME]], rules.length(1, 16)] = (
            "train",
            "val",
        ),
        kind: Annotated[str, rules.one_of(*dealing.KINDS)] = "plain",
        groups: Annotated[str, rules.PATTERN] = "",
        seed: kinds.Count = 0,
        assignment: Annotated[Sequence[str], rules.length(0, rules.ITEMS)] = (),
    ):
        if fold >= folds:
            raise ConfigError(f"{WHERE}.fold={fold}: expected 0 to {folds - 1}. Change it.")
        joined = join(source, splits)
        self.joined, self.kept = joined, split not in (TRAIN, HELD)
        if self.kept:
            own = open_split(source, split)
            check_apart(own, split, joined)
            super().__init__(own, range(len(own)))
        else:
            if assignment:
                dealt = dealing.read(assignment, examples=len(joined), folds=folds)
            else:
                dealt = deal(joined, folds, kind=kind, groups=groups, seed=seed)
            own = [i for i, other in enumerate(dealt) if (other == fold) == (split == HELD)]
            super().__init__(joined, own)
        self.reading = core.reading_of(joined.made_of()[0])

    def made_of(self) -> list[core.Source]:
        """Return what it is made of."""
        return [self.source] if self.kept else self.joined.made_of()


def open_split(section: Mapping[str, Any], split: str) -> core.Source:
    """Return the data set of a section, opened on a split."""
    return lookup.build("data", section, where=f"{WHERE}.source", split=split)


def join(section: Mapping[str, Any], splits: Sequence[str]) -> Joined:
    """Return some splits of the data set of a section as one.

    Raises:
        UserError: One cannot be opened, is named twice, or does not go with the others.
    """
    if len({*splits}) < len(splits):
        raise ConfigError(f"{WHERE}.splits={[*splits]}: expected different ones. Name each once.")
    return Joined({split: open_split(section, split) for split in splits})


def check_apart(own: core.Source, split: str, joined: Joined) -> None:
    """Refuse a split of its own that shares examples with those that are dealt to folds.

    Raises:
        ConfigError: It is one of them.
        DataError: An example that is in both.
    """
    if split in joined.sources:
        raise ConfigError(
            f"{WHERE}: split {split!r} is dealt to folds. Name {TRAIN!r}, {HELD!r} or another "
            "split of the source."
        )
    both = {*core.names_of(own, split)} & {*joined.example_names()}
    if both:
        raise DataError(
            f"{min(both)}: is in split {split!r} and in {', '.join(joined.sources)}, which is "
            "dealt to folds. Score another split, or join others."
        )


def deal(joined: Joined, folds: int, *, kind: str, groups: str, seed: int) -> list[int]:
    """Return the fold of each example; see `dealing.deal`.

    Raises:
        UserError: As `groups_of` and `dealing.deal`; a label cannot be read.
    """
    pixels = None
    if kind.startswith("stratified"):
        pixels = count_pixels(joined)
    return dealing.deal(
        joined.example_names(), folds, kind=kind, seed=seed, order=joined.order(), pixels=pixels,
        groups=groups_of(joined, kind=kind, pattern=groups),
    )  # fmt: skip


def groups_of(joined: Joined, *, kind: str, pattern: str) -> list[str] | None:
    """Return the group of each example for kinds that are grouped; None for others.

    Raises:
        ConfigError: A pattern that finds nothing in some name, or is of a kind without groups; none
            and a source that knows no groups.
    """
    if not kind.endswith("grouped"):
        if pattern:
            raise ConfigError(
                f"groups={pattern!r}: are of the kinds 'grouped' and 'stratified_grouped', got "
                f"kind={kind!r}. Change one of them."
            )
        return None
    if pattern:
        return dealing.groups_of(joined.example_names(), pattern)
    found = joined.example_groups()
    if found is None:
        raise ConfigError(
            f"kind={kind!r}: the data set does not know which examples belong together. Set groups "
            f"to a regular expression that finds it in names such as {joined.example_names()[0]!r}."
        )
    return found


def count_pixels(
    source: core.Source, *, threads: int = 2, tell: Callable[[int], None] = lambda done: None
) -> Int64[np.ndarray, "n k"]:
    """Return how many pixels of each class every example has; all labels are read.

    Args:
        source: The data set.
        threads: That read.
        tell: Called with the number of examples that are done, after each.
    """
    count = functools.partial(_count, source)
    rows = []
    with futures.ThreadPoolExecutor(max(1, threads)) as pool:
        for row in pool.map(count, range(len(source))):
            rows.append(row)
            tell(len(rows))
    return np.array(rows, np.int64).reshape(len(source), -1)


def _count(source: core.Source, index: int) -> np.ndarray:
    multilabel = source.schema["label"].kind == "labels"
    label, classes = source[index]["label"], len(source.class_names)
    return look.count_pixels(label, classes, multilabel=multilabel)[0]
