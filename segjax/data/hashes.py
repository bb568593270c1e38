"""Which data a run was made from: hashes by which an edited data set is noticed."""

import hashlib
import os
import pathlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from segjax.data import core
from segjax.runtime import reading

CONTENT_BYTES = 256 << 20
"""Of a split whose files are read for the sums of what they hold: some tenths of a second."""
MOST_FILES = 50_000
"""Of a split whose files are listed one by one."""
NAMED = 3
"""How many files a message names."""


@runtime_checkable
class Files(Protocol):
    """A source of files: each example's image and its masks, None where it has none."""

    root: pathlib.Path
    files: Sequence[tuple[pathlib.Path, Sequence[pathlib.Path | None]]]


@runtime_checkable
class Hashed(Protocol):
    """A source that has a hash of all that it holds."""

    manifest_hash: str


@runtime_checkable
class Composed(Protocol):
    """A source that is made of others."""

    def made_of(self) -> Sequence[core.Source]:
        """Return them."""
        ...


def of_source(source: core.Source) -> dict[str, Any]:
    """Return what tells a split from an edited one.

    `examples` is their number. `hash` is of the manifest that a prepared split has, else of the
    names and sizes of the files, `times` of when these were last written; no file is read. Both are
    empty where the source has neither. Of a source that is made of others they are those of all.
    """
    source = whole(source)
    found: dict[str, Any] = {"examples": len(source), "hash": "", "times": ""}
    if isinstance(source, Composed):
        parts = [of_source(each) for each in source.made_of()]
        for key in ("hash", "times"):
            own = [part[key] for part in parts]
            found[key] = _hash(own) if all(own) else ""
        return found
    if isinstance(source, Hashed):
        return found | {"hash": source.manifest_hash}
    if isinstance(source, Files):
        paths = paths_of(source)
        status = [os.stat(path) for path in paths]
        names = [os.path.relpath(path, source.root) for path in paths]
        sizes = (each.st_size for each in status)
        found["hash"] = _hash(zip(names, sizes, strict=True))
        found["times"] = _hash(each.st_mtime_ns for each in status)
    return found


def whole(source: core.Source) -> core.Source:
    """Return the source that a view is made from; one that is made of others as it is."""
    while isinstance(source, core.View) and not isinstance(source, Composed):
        source = source.source
    return source


def paths_of(source: Files) -> list[pathlib.Path]:
    """Return all files of a source, images and masks."""
    return [path for image, masks in source.files for path in (image, *masks) if path]


def files_of(source: core.Source) -> dict[str, list[Any]]:
    """Return of each file of a split its size, when it was written (ns), and a sum of its content.

    The sum is None where the split has more than `CONTENT_BYTES`. Empty of a source without files,
    or of more than `MOST_FILES`. Of a source that is made of others they are those of all.

    Raises:
        DataError: One cannot be read.
    """
    source = whole(source)
    if isinstance(source, Composed):
        parts = [files_of(each) for each in source.made_of()]
        return {name: each for part in parts for name, each in part.items()}
    if isinstance(source, Hashed) or not isinstance(source, Files):
        return {}
    several = [sorted(p.iterdir()) if p.is_dir() else [p] for p in paths_of(source)]
    paths = {os.path.relpath(path, source.root): path for each in several for path in each}
    if len(paths) > MOST_FILES:
        return {}
    found = {name: os.stat(path) for name, path in paths.items()}
    read = sum(each.st_size for each in found.values()) <= CONTENT_BYTES
    return {
        name: [each.st_size, each.st_mtime_ns, _sum_of(paths[name]) if read else None]
        for name, each in found.items()
    }


def _sum_of(path: pathlib.Path) -> int:
    total = 0
    with reading.open_file(path) as file:
        while part := file.read(1 << 20):
            total = zlib.crc32(part, total)
    return total


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[str], bool]:
    """Return which files differ from those that `files_of` had found, and whether it is certain.

    It is not where files were only written again, and what they held is not known.
    """
    there = [f"{name} is new" for name in now if name not in before]
    there += [f"{name} is gone" for name in before if name not in now]
    again = []
    for name in sorted(before.keys() & now.keys()):
        (size, time, content), (size_now, time_now, content_now) = before[name], now[name]
        if size != size_now:
            there.append(f"{name} has {size_now} bytes, {size} then")
        elif None not in (content, content_now):
            there += [f"{name} holds something else"] * (content != content_now)
        elif time != time_now:
            again.append(f"{name} was written again")
    return there or again, bool(there)


def listed(lines: Sequence[str]) -> str:
    """Return the first of some lines as one."""
    more = len(lines) - NAMED
    return "; ".join(lines[:NAMED]) + (f"; and {more} more" if more > 0 else "")


def compare(before: Any, now: Mapping[str, Any], *, split: str) -> list[str]:
    """Return what to say of a split that is another than the one recorded; nothing if it is not.

    Args:
        before: What `of_source` had returned; anything else is not compared.
        now: What it returns.
        split: Its name.
    """
    if not isinstance(before, dict) or not before.keys() >= {"examples", "hash", "times"}:
        return []
    if before["examples"] != now["examples"]:
        change = f"{before['examples']} examples then, {now['examples']} now"
    elif before["hash"] != now["hash"]:
        change = "the same number of examples, of other names or content"
    elif before["times"] != now["times"]:
        change = "files of the same names and sizes were written again"
    else:
        return []
    return [f"{split}: the data has changed since the run was made: {change}"]


def _hash(parts: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]
