"""Which data a run was made from: hashes by which an edited data set is noticed."""

import hashlib
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from segjax.data import core


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
        paths = [path for image, masks in source.files for path in (image, *masks) if path]
        status = [os.stat(path) for path in paths]
        names = [os.path.relpath(path, source.root) for path in paths]
        sizes = (each.st_size for each in status)
        found["hash"] = _hash(zip(names, sizes, strict=True))
        found["times"] = _hash(each.st_mtime_ns for each in status)
    return found


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
