"""What every data set looks like to the rest of segjax, and the checks that all of them share."""

import dataclasses
import functools
import os
import pathlib
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from segjax.config import kinds, rules
from segjax.data.label_map import LabelMap
from segjax.errors import ConfigError, DataError
from segjax.structs import IGNORE_LABEL, Example, Field, Objects, Schema

Palette = tuple[tuple[int, int, int], ...]
CACHE_BYTES = 4 << 30
LONGEST_NAME = 200
"""Characters of a class name."""
ClassNames: TypeAlias = Annotated[Sequence[Annotated[str, rules.NAME]], rules.length(0, 255)]
ClassNumber: TypeAlias = Annotated[int, rules.whole(0, IGNORE_LABEL - 1)]
IgnoreIndex: TypeAlias = kinds.AnyWhole | Sequence[kinds.AnyWhole]
"""A stored value, or several; -1: none."""
Channels: TypeAlias = Annotated[int, rules.whole(0, 1024)]
MostObjects: TypeAlias = Annotated[int, rules.whole(0, 4096)]
"""Objects of an image, for which examples have room; 0: they have no objects."""
LabelClasses: TypeAlias = Mapping[str, ClassNumber]
"""The class of each stored value, see `LabelMap`."""


class Source(Protocol):
    """A split of a data set: random access to examples of any size.

    Picklable (worker processes read it) and safe to index from several threads at once. A file that
    cannot be used raises `DataError` naming it.

    Attributes:
        class_names: One name per class, in the order of the label values.
        palette: One RGB colour per class.
        schema: What every example holds beside its name: `image`, `label`, and more if it has more.
    """

    class_names: tuple[str, ...]
    palette: Palette
    schema: Schema

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    def __getitem__(self, index: int, /) -> Example:
        """Return example `index`, labels as 0..K-1 and 255; multi-label ones as 0, 1 and 255."""
        ...


@runtime_checkable
class Checkable(Protocol):
    """A source that can say what is wrong with it without reading it whole."""

    def check(self) -> set[tuple[int, ...]]:
        """Check all files by their names and headers, and return the sizes that images have.

        Raises:
            DataError: The first that cannot be used.
        """
        ...


@runtime_checkable
class ObjectSource(Source, Protocol):
    """A source that knows objects; asked for them, its schema has the fields of `object_schema`.

    Attributes:
        things: The numbers of the classes that are counted object by object, ascending.
    """

    things: tuple[int, ...]

    def objects(self, index: int, /) -> Objects:
        """Return all objects of example `index`, on its own grid."""
        ...


def known_objects(source: Source) -> ObjectSource:
    """Return a source that knows objects.

    Raises:
        DataError: It does not.
    """
    if isinstance(source, ObjectSource):
        return source
    raise DataError(
        "config.input.source: knows classes of pixels and no objects, expected a source with an "
        "argument objects. Use another one, such as 'annotated' or 'instances'."
    )


@runtime_checkable
class CountsObjects(Protocol):
    """A source that knows how many objects its examples have without reading any mask."""

    def object_counts(self) -> Sequence[int] | None:
        """Return the number of objects of each example; None: not without reading."""
        ...


@runtime_checkable
class Named(Protocol):
    """A source that knows the names of its examples without reading any."""

    def example_names(self) -> Sequence[str]:
        """Return the `name` of each example."""
        ...


def names_of(source: Source, split: str) -> list[str]:
    """Return the name of each example of a split, made of its place where the source has none."""
    if isinstance(source, Named):
        return list(source.example_names())
    return [f"{split}/{place}" for place in range(len(source))]


@runtime_checkable
class Grouped(Protocol):
    """A source that knows which of its examples belong together: to a patient, to a clip."""

    def example_groups(self) -> Sequence[str] | None:
        """Return the group of each example; None: it does not know after all."""
        ...


def groups_of(source: Source) -> Sequence[str] | None:
    """Return the group of each example; None: the source does not know."""
    return source.example_groups() if isinstance(source, Grouped) else None


def object_counts_of(source: Source) -> Sequence[int] | None:
    """Return how many objects each example has; None: not without reading."""
    return source.object_counts() if isinstance(source, CountsObjects) else None


@runtime_checkable
class Reads(Protocol):
    """A source that reads files, and whose way of reading them a prediction takes over.

    Attributes:
        reading: See `decode.Reading`.
    """

    reading: Any


def reading_of(source: Source) -> dict[str, Any]:
    """Return how a source reads images, as plain data; empty: it does not say."""
    if not isinstance(source, Reads):
        return {}
    found = source.reading
    return dict(found) if isinstance(found, Mapping) else dataclasses.asdict(found)


class View:
    """A source made from another one: the same classes, seen differently."""

    def __init__(self, source: Source):
        self.source = source
        self.class_names = source.class_names
        self.palette = source.palette
        self.schema: Schema = source.schema
        self.things = source.things if isinstance(source, ObjectSource) else ()

    def __len__(self) -> int:
        return len(self.source)

    def objects(self, index: int) -> Objects:
        """Return all objects of example `index`, on the grid of the source."""
        return known_objects(self.source).objects(index)


class Subset(View):
    """The examples of `source` that `indices` names, in that order."""

    def __init__(self, source: Source, indices: Sequence[int]):
        super().__init__(source)
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        return self.source[self.indices[index]]

    def objects(self, index: int) -> Objects:
        """Return all objects of example `index`."""
        return known_objects(self.source).objects(self.indices[index])


def spread(source: Source, most: int) -> Source:
    """Return at most so many examples of a source, spread evenly over it; 0: all, as it is."""
    number = len(source)
    if not 0 < most < number:
        return source
    return Subset(source, [place * number // most for place in range(most)])


class Cached(View):
    """The examples of `source`, kept in memory once read, until `max_bytes` are used.

    Nothing is evicted: under a random order every example is equally likely to be asked for next,
    so those beyond the limit are simply read each time. A pickled copy starts empty.
    """

    def __init__(self, source: Source, *, max_bytes: int = CACHE_BYTES):
        super().__init__(source)
        self.max_bytes = max_bytes
        self._examples: dict[int, Example] = {}
        self._used = 0
        self._lock = threading.Lock()

    def __reduce__(self):
        return functools.partial(Cached, max_bytes=self.max_bytes), (self.source,)

    def __getitem__(self, index: int) -> Example:
        if index in self._examples:
            return self._examples[index]
        example = self.source[index]
        arrays = [example[name] for name in self.schema]
        num_bytes = sum(array.nbytes for array in arrays)
        with self._lock:
            if self._used + num_bytes <= self.max_bytes and index not in self._examples:
                for array in arrays:
                    array.flags.writeable = False  # everyone gets this same array
                self._examples[index] = example
                self._used += num_bytes
        return example


def semantic_schema(channels: int, *, dtype: str = "uint8") -> Schema:
    """Return the schema of an image of `channels` and the map of its classes."""
    return {"image": Field("image", (channels,), dtype), "label": Field("classes")}


def multilabel_schema(channels: int, num_classes: int, *, dtype: str = "uint8") -> Schema:
    """Return the schema of an image of `channels` and a map for each of its classes."""
    return {
        "image": Field("image", (channels,), dtype),
        "label": Field("labels", (num_classes,)),
    }


def object_schema(most: int) -> Schema:
    """Return the fields of at most `most` objects, beside those of `semantic_schema`.

    `object_classes` are numbers of class names, -1 where there is no object; `object_count` says
    how many the image has, which may be more than `most`: the smallest are left out then.
    """
    return {
        "object_masks": Field("masks", (-(-most // 8),)),
        "object_classes": Field("value", (most,), "int32"),
        "object_crowd": Field("value", (most,), "bool"),
        "object_count": Field("value", (), "int32"),
    }


def channels_of(schema: Schema) -> int:
    """Return how many channels every `image` has."""
    return schema["image"].shape[0]


def choose_fields(schema: Schema, names: Sequence[str] = ()) -> Schema:
    """Return the fields that travel in a batch: `image`, `label`, and those that `names` asks for.

    Raises:
        ConfigError: The source has no such field.
    """
    for name in names:
        if name not in schema:
            raise ConfigError(
                f"field {name!r}: the data set has {', '.join(schema)}. Use a task that needs no "
                f"{name}, or another data set."
            )
    return {name: schema[name] for name in schema if name in ("image", "label", *names)}


def check_classes(class_names: Sequence[str], *, where: str) -> tuple[str, ...]:
    """Return the class names as a tuple.

    Raises:
        ConfigError: None at all, the same one twice, or more than 255, which uint8 labels cannot
            hold beside the ignore value.
    """
    names = tuple(class_names)
    if not names:
        raise ConfigError(f"{where}: no class names. Name at least one class.")
    if len(names) > IGNORE_LABEL:
        raise ConfigError(
            f"{where}: {len(names)} classes, but labels are uint8 and 255 means ignore: "
            f"at most {IGNORE_LABEL}. Merge classes."
        )
    if any(len(name) > LONGEST_NAME for name in names):
        longest = max(map(len, names))
        raise ConfigError(
            f"{where}: a class name has {longest:,} characters, at most {LONGEST_NAME} are useful. "
            "Shorten it."
        )
    if any("\ud800" <= sign <= "\udfff" for name in names for sign in name):
        raise ConfigError(
            f"{where}: a class name holds half a character (\\ud800 to \\udfff). Mend it."
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"{where}: class names must differ, got {', '.join(twice)} twice.")
    return names


def check_label(
    label: np.ndarray,
    *,
    num_classes: int,
    ignore: Sequence[int] = (),
    offset: int = 0,
    mapping: LabelMap | None = None,
    name: str,
) -> np.ndarray:
    """Return an integer `label` as uint8 with classes 0..num_classes-1 and 255 = ignore.

    Args:
        label: Class numbers as the file holds them.
        num_classes: How many classes there are, at most 255.
        ignore: The file's own values for unlabelled pixels. 255 is one only if it is listed: a
            black-and-white mask (0 and 255) must not turn into an empty one.
        offset: Added to every value that is not ignored (-1 when the classes start at 1).
        mapping: Given, it says the class of every value that is not ignored, and `offset` is 0.
        name: The file, for messages.

    Raises:
        DataError: A value that is neither a class nor ignored.
    """
    if label.dtype == np.uint8 and mapping is None and not offset:
        others = label >= num_classes  # nearly all masks: one pass, and few pixels looked at again
        if min(ignore, default=num_classes) >= num_classes and np.isin(label[others], ignore).all():
            return np.where(others, np.uint8(IGNORE_LABEL), label) if others.any() else label
    void = np.zeros(label.shape, bool)
    for value in ignore:
        void |= label == value
    if mapping is not None:
        classes = mapping(label)
        unknown = (classes < 0) & ~void
        if unknown.any():
            found, pixels = _describe_values(label[unknown])
            raise DataError(
                f"{name}: label value {found} in {pixels} pixels; label_map names "
                f"{mapping.describe()}{_describe_void(ignore)}. Add it to label_map ('*' stands "
                "for all others) or to ignore_index."
            )
        return np.where(void, IGNORE_LABEL, classes).astype(np.uint8)
    first, last = -offset, num_classes - 1 - offset
    bad = ((label < first) | (label > last)) & ~void
    if bad.any():
        raise DataError(_describe_bad(label[bad], first=first, last=last, ignore=ignore, name=name))
    shifted = label + offset if offset >= 0 else label - -offset  # uint8 takes no negative number
    return np.where(void, IGNORE_LABEL, shifted).astype(np.uint8)


def _describe_bad(
    values: np.ndarray, *, first: int, last: int, ignore: Sequence[int], name: str
) -> str:
    found, pixels = _describe_values(values)
    binary = last - first == 1
    if found == "255":
        example = "label_map={0: 0, 255: 1}" if binary else "label_map={..., 255: <class>}"
        hint = (
            f"If 255 is a class, as in a black-and-white mask, set {example}; only if it means "
            "unlabelled, ignore_index=255."
        )
    elif binary:
        hint = (
            "If the values number objects that are all of class 1, set label_map="
            '{"0": 0, "1-65535": 1}; else mend the mask, or set ignore_index (unlabelled value).'
        )
    else:
        hint = (
            "Set label_map (which stored value is which class), ignore_index (unlabelled value) "
            "or the class names, or mend the mask."
        )
    return (
        f"{name}: label value {found} in {pixels} pixels; "
        f"expected {first}..{last}{_describe_void(ignore)}. {hint}"
    )


def _describe_values(values: np.ndarray) -> tuple[str, int]:
    found = np.unique(values).tolist()
    return ", ".join(map(str, found[:8])) + (", …" if len(found) > 8 else ""), values.size


def _describe_void(ignore: Sequence[int]) -> str:
    return f" or the ignored {', '.join(map(str, ignore))}" if ignore else ""


def expand_path(path: str, *, where: str) -> pathlib.Path:
    """Return `path` with `~` and environment variables replaced.

    Raises:
        ConfigError: The path is empty.
        DataError: A variable in it is not set.
    """
    if not path:
        raise ConfigError(f"{where} is empty. Set it to a folder.")
    expanded = os.path.expanduser(os.path.expandvars(path))
    unset = re.search(r"\$(\w+|\{\w+\})", expanded)
    if unset:
        variable = unset.group(1).strip("{}")
        raise DataError(
            f"{where}={path!r}: the environment variable {variable} is not set. "
            f"Run `export {variable}=<folder>`, or set {where} itself."
        )
    return pathlib.Path(expanded)


def make_label_map(
    entries: Mapping[Any, Any] | None, *, num_classes: int, label_offset: int, where: str
) -> LabelMap | None:
    """Return the `label_map` of a config or of `meta.json`; None if it is empty.

    Raises:
        ConfigError: A bad entry, see `LabelMap`, or a `label_offset` beside it.
    """
    if not entries:
        return None
    if label_offset:
        raise ConfigError(
            f"{where}: label_map and label_offset={label_offset} both say which class a value is. "
            "Put the classes themselves into label_map, and leave label_offset out."
        )
    return LabelMap(entries, num_classes=num_classes, where=where)


def ignore_values(ignore_index: int | Sequence[int]) -> tuple[int, ...]:
    """Return the ignored values of a config or `meta.json` as a tuple; -1 stands for none."""
    values = [ignore_index] if isinstance(ignore_index, int) else list(ignore_index)
    return tuple(value for value in values if value >= 0)


def some(names: Sequence[str], *, limit: int = 3) -> str:
    """Return the first few of `names` for a message."""
    return ", ".join(names[:limit]) + (", …" if len(names) > limit else "")
