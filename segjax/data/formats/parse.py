"""Take what annotation files hold out of them: typed, bounded, and by name where it is wrong."""

import contextlib
import math
import pathlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from segjax.config import lookup, rules
from segjax.data.formats.base import Ring
from segjax.errors import DataError
from segjax.runtime import reading

T = TypeVar("T")
JSON_BYTES = 1 << 28
JSON_SECTIONS = 1 << 23
"""Lists and objects of a JSON file: one takes thirty times the room of its two brackets."""
XML_BYTES = 1 << 28
XML_ELEMENTS, XML_DEPTH = 1 << 22, 64
MAX_POINTS = 1 << 17
"""Of an outline; a row of pixels asks each of them."""
FARTHEST = 1 << 20
"""Of a point, in pixels: outlines end at the image's border or a little outside."""
_KINDS = {
    str: "a text", int: "a whole number", float: "a number", dict: "an object", list: "a list"
}  # fmt: skip
_REQUIRED: Any = object()


def read_json(path: pathlib.Path, *, limit: int = JSON_BYTES) -> Any:
    """Return what a JSON file holds.

    Raises:
        DataError: There is none, or see `reading.text`, `reading.parse_json` and `JSON_SECTIONS`.
    """
    with _there(path):
        content = reading.text(path, limit=limit)
    if content.count("[") + content.count("{") > JSON_SECTIONS:
        raise DataError(
            f"{path}: more than {JSON_SECTIONS:,} lists and objects. Cut it into several files."
        )
    try:
        return reading.parse_json(content)
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON: {error}. Mend the file.") from None


def names_in(path: pathlib.Path) -> tuple[str, ...]:
    """Return the lines of a text file that hold anything."""
    with _there(path):
        return tuple(line for line in reading.lines(path) if line)


@contextlib.contextmanager
def _there(path: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. Put it there, or name another.") from None


def section(value: Any, *, where: str, what: str = "an object") -> dict[str, Any]:
    """Return a JSON object; anything else is an error that says `what` was expected."""
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected {what}, got {rules.shown(value)}. Mend the file.")
    return value


def field(
    values: Mapping[str, Any], name: str, kind: type[T], *, where: str, default: Any = _REQUIRED
) -> T:
    """Return a field of a JSON object; a whole number counts as a number, None as `default`.

    Raises:
        DataError: It is missing without a `default`, or of another kind.
    """
    value: Any = values.get(name)
    if value is None and default is not _REQUIRED:
        return default
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        got = "none" if value is None else rules.shown(value)
        raise DataError(f"{where}: expected {name}, {_KINDS[kind]}, got {got}. Mend the file.")
    return value


def fields(values: Mapping[str, Any], name: str, *, where: str) -> list[dict[str, Any]]:
    """Return a field that is a list of objects."""
    found = field(values, name, list, where=where)
    return [section(one, where=f"{where}: {name}") for one in found]


def ring(values: Any, *, where: str, least: int = 3) -> Ring:
    """Return points as an array, of `[[x, y], …]` or of `[x, y, x, y, …]`.

    Raises:
        DataError: No such list; fewer than `least`; more than `MAX_POINTS`; not finite ones, or
            farther than `FARTHEST`.
    """
    count = len(values) if isinstance(values, list) else 0
    if count > 2 * MAX_POINTS:
        raise DataError(f"{where}: an outline of more than {MAX_POINTS:,} points. Simplify it.")
    try:
        points = np.array(values, np.float64)
        points = points.reshape(-1, 2) if points.ndim == 1 else points
    except (TypeError, ValueError, OverflowError):
        points = np.zeros(0)
    if points.shape[1:] != (2,) or len(points) < least:
        raise DataError(
            f"{where}: expected {least} or more points (x, y), got {rules.shown(values)}. Mend "
            "the outline."
        )
    if len(points) > MAX_POINTS:
        raise DataError(f"{where}: an outline of more than {MAX_POINTS:,} points. Simplify it.")
    if not np.abs(points).max() <= FARTHEST:  # NaN neither
        raise DataError(
            f"{where}: a point that is not finite, or farther than {FARTHEST:,} pixels. Mend it."
        )
    return points


def number(text: str | None, name: str, *, where: str, default: float | None = None) -> float:
    """Return the finite number that a text holds."""
    if text is None and default is not None:
        return default
    try:
        found = float(text or "")
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise DataError(f"{where}: expected {name}, a number, got {text!r:.60}. Mend the file.")
    return found


def whole(text: str | None, name: str, *, where: str, default: int | None = None) -> int:
    """Return the whole number that a text holds."""
    found = number(text, name, where=where, default=default)
    if found != int(found) or abs(found) > 2**53:
        raise DataError(f"{where}: expected {name}, a whole number, got {text!r:.60}. Mend it.")
    return int(found)


def one_of(name: str, known: Collection[str], *, where: str, what: str = "class") -> str:
    """Return a name that is one of `known`; else raise `DataError` with what was meant."""
    if name not in known:
        raise DataError(
            f"{where}: no such {what}: {rules.shown(name)}.{lookup.suggest(name, list(known))}"
        )
    return name


def elements(
    path: pathlib.Path, names: Collection[str], *, limit: int = XML_BYTES
) -> Iterator[ElementTree.Element]:
    """Yield the outermost elements of these names of an XML file, each alone, as they end.

    Nothing else of the file is kept in memory.

    Raises:
        DataError: No XML; a document type, in which entities are declared; more than `limit` bytes,
            `XML_ELEMENTS` or `XML_DEPTH`.
    """
    found = _Elements(path, names)
    with _there(path), reading.open_file(path, limit=limit) as file:
        while part := file.read(1 << 16):
            yield from found.feed(part)
        yield from found.feed(b"", last=True)


class _Elements:
    """Builds the elements that are wanted while a file is read."""

    def __init__(self, path: pathlib.Path, names: Collection[str]):
        self.path, self.names = path, names
        self.builder: ElementTree.TreeBuilder | None = None
        self.done: list[ElementTree.Element] = []
        self.depth = self.level = self.count = 0
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._data

    def feed(self, part: bytes, *, last: bool = False) -> list[ElementTree.Element]:
        try:
            self.parser.Parse(part, last)
        except (expat.ExpatError, ValueError, LookupError) as error:
            raise DataError(f"{self.path}: not valid XML: {error}. Mend the file.") from None
        found, self.done = self.done, []
        return found

    def _doctype(self, name: str, *rest: Any) -> None:
        raise DataError(
            f"{self.path}: declares a document type (DOCTYPE), which annotations have no use for. "
            "Remove it."
        )

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth, self.count = self.depth + 1, self.count + 1
        if self.depth > XML_DEPTH or self.count > XML_ELEMENTS:
            raise DataError(
                f"{self.path}: more than {XML_ELEMENTS:,} elements, or nested deeper than "
                f"{XML_DEPTH}. Cut it into several files."
            )
        if self.builder is None and name in self.names:
            self.builder, self.level = ElementTree.TreeBuilder(), self.depth
        if self.builder is not None:
            self.builder.start(name, attributes)

    def _end(self, name: str) -> None:
        if self.builder is not None:
            self.builder.end(name)
            if self.depth == self.level:
                self.done.append(self.builder.close())
                self.builder = None
        self.depth -= 1

    def _data(self, text: str) -> None:
        if self.builder is not None:
            self.builder.data(text)
