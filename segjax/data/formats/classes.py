"""Which classes the target has: merged, dropped, renamed, and numbered."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from segjax.config import lookup, rules
from segjax.data.formats import parse
from segjax.data.formats.base import VOID, VOID_LABEL, Annotations, Colour, Object, Picture
from segjax.errors import ConfigError, DataError
from segjax.views import colour

DROP, TO_VOID, OTHERS = "-", "void", "*"
BACKGROUNDS = ("background", "_background_", "__background__")
"""What class 0 is called where it is no object."""


class Numbering(NamedTuple):
    """The classes of a map.

    Attributes:
        names: In order.
        numbers: The number of each name.
        background: The number of pixels that no object covers.
        palette: A colour for each class.
    """

    names: tuple[str, ...]
    numbers: Mapping[str, int]
    background: int
    palette: tuple[Colour, ...]


def number(annotations: Annotations) -> Numbering:
    """Return the classes of a class map: the background first if it is none of the others.

    Raises:
        ConfigError: More than a map of 8 bits holds beside void.
    """
    names = annotations.class_names
    if annotations.background is not None and annotations.background not in names:
        names = (annotations.background, *names)
    if not 0 < len(names) <= VOID_LABEL:
        raise ConfigError(
            f"{len(names)} classes, but a class map has 8 bits and 255 is void: expected 1 to "
            f"{VOID_LABEL}. Merge or drop some: --class_map='car=vehicle,bus=vehicle,tree=-'."
        )
    background = VOID_LABEL
    if annotations.background is not None:
        background = names.index(annotations.background)
    own = colour.voc_palette(len(names))
    palette = tuple(annotations.palette.get(name, own[k]) for k, name in enumerate(names))
    return Numbering(names, {name: k for k, name in enumerate(names)}, background, palette)


def background_of(class_names: tuple[str, ...]) -> str | None:
    """Return the class of a map that stands for no object: the first, if it is called so."""
    return class_names[0] if class_names and class_names[0] in BACKGROUNDS else None


def with_background(annotations: Annotations, name: str) -> Annotations:
    """Return the data set with another class of pixels without an object; 'void': they are void.

    It takes the place of the one before.
    """
    before, names = annotations.background, annotations.class_names
    new = None if name == TO_VOID else name
    if before in names:
        kept = [] if new is None or new in names else [new]
        place = names.index(before)
        names = (*names[:place], *kept, *names[place + 1 :])
    return dataclasses.replace(annotations, background=new, class_names=names)


def labels_of(class_names: tuple[str, ...]) -> dict[int, str | None]:
    """Return the class of each number, and void at 255."""
    return {**dict(enumerate(class_names)), VOID_LABEL: VOID}


@dataclasses.dataclass(frozen=True)
class ClassMap:
    """What becomes of each class: another name, `VOID`, or nothing (`DROP`).

    Attributes:
        entries: By name; `OTHERS` stands for all that are not named.
        where: What says so, for messages.
    """

    entries: Mapping[str, str | None]
    where: str = "--class_map"

    def __call__(self, name: str | None) -> str | None:
        """Return a class's new name, `VOID` or `DROP`."""
        if name is None:
            return VOID
        return self.entries.get(name, self.entries.get(OTHERS, name))

    def apply(self, annotations: Annotations) -> Annotations:
        """Return the same data set with its classes mapped.

        Raises:
            ConfigError: It names a class that there is not; a later picture may have it, so that
                this is known when all have been seen.
        """
        new = {name: self(name) for name in annotations.class_names}
        names = dict.fromkeys(n for n in new.values() if n is not None and n != DROP)
        behind = annotations.background
        behind = None if behind is None or self(behind) in (VOID, DROP) else self(behind)
        palette: dict[str, Colour] = {}
        for name, target in new.items():
            if target is not None and name in annotations.palette:
                palette.setdefault(target, annotations.palette[name])
        known = {*annotations.class_names, annotations.background}
        things = annotations.things
        if things is not None:
            things = tuple(n for n in names if n in {new.get(each) for each in things})
        return dataclasses.replace(
            annotations,
            class_names=tuple(names),
            pictures=functools.partial(self._pictures, annotations, known),
            background=behind,
            palette=palette,
            things=things,
        )

    def _pictures(self, annotations: Annotations, known: set[str | None]) -> Iterator[Picture]:
        seen = set(known)
        for picture in annotations.pictures():
            seen |= {thing.label for thing in picture.objects}
            yield self._picture(picture)
        for name in self.entries:
            if name != OTHERS and name not in seen:
                names = [each for each in seen if each]
                raise ConfigError(
                    f"{self.where}: no class {rules.shown(name)}.{lookup.suggest(name, names)}"
                )

    def _picture(self, picture: Picture) -> Picture:
        things: list[Object] = []
        dropped = list(picture.dropped)
        for thing in picture.objects:
            label = self(thing.label)
            if label == DROP:
                dropped.append(f"of class {thing.label}, as {self.where} says")
            else:
                things.append(dataclasses.replace(thing, label=label))
        return dataclasses.replace(picture, objects=tuple(things), dropped=tuple(dropped))


def parse_map(text: str) -> ClassMap | None:
    """Return the class map of a flag: `old=new,…`, or the name of a JSON file; None if empty.

    Raises:
        ConfigError: An entry that is none, or a name twice.
        DataError: The file cannot be used.
    """
    if not text:
        return None
    entries: dict[str, str | None] = {}
    if text.endswith(".json"):
        path = pathlib.Path(text).expanduser()
        for name, new in parse.section(parse.read_json(path), where=str(path)).items():
            if new is not None and not isinstance(new, str):
                raise DataError(
                    f"{path}: {rules.shown(name)} is mapped to {rules.shown(new)}; expected a "
                    f"class's name, {TO_VOID!r}, or null to drop it."
                )
            entries[name] = DROP if new is None else new
    else:
        for entry in text.split(","):
            name, equals, new = (part.strip() for part in entry.partition("="))
            if not (name and equals and new) or name in entries:
                raise ConfigError(
                    f"--class_map: {rules.shown(entry)} is no entry, or names a class again. "
                    "Write 'car=vehicle,bus=vehicle,tree=-,sky=void', '*' for all others."
                )
            entries[name] = new
    return map_of(entries, where="--class_map")


def map_of(entries: Mapping[str, str | None], *, where: str) -> ClassMap:
    """Return the class map of a config or a flag, in which `void` stands for `VOID`."""
    named = {name: VOID if new == TO_VOID else new for name, new in entries.items()}
    return ClassMap(named, where)


def parse_names(text: str) -> tuple[str, ...] | None:
    """Return the class names of a flag: with commas between, or one a line of a .txt file.

    Raises:
        ConfigError: None, or one twice.
        DataError: The file cannot be read.
    """
    if not text:
        return None
    names = tuple(name.strip() for name in text.split(","))
    if text.endswith(".txt"):
        names = parse.names_in(pathlib.Path(text).expanduser())
    if not names or not all(names) or len(set(names)) < len(names):
        raise ConfigError(
            f"--class_names={rules.cut(text)}: expected different names, with commas between or "
            "one a line of a .txt file."
        )
    return names
