"""Which files of a folder count: for data sets and for prediction alike."""

import collections
import os
import pathlib
import unicodedata
from collections.abc import Collection, Iterator, Mapping

from segjax.errors import DataError

NO_DATA = ("__macosx", "thumbs.db", "desktop.ini")
"""Names, in small letters, of what operating systems put beside a person's files."""
WHOLE = (".zarr",)
"""How the names of folders end that stand for one file."""


def is_hidden(name: str) -> bool:
    """Say whether a file or folder is none of a person's data.

    Hidden ones (`.git`, `.ipynb_checkpoints`, the `._x.png` of macOS) and `NO_DATA` are not.
    """
    return name.startswith(".") or name.lower() in NO_DATA


def walk(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield every file below `folder`, in order of name; hidden files and folders are left out.

    A folder that stands for one array (`WHOLE`) counts as a file.
    """
    for parent, folders, names in os.walk(folder):
        shown = sorted(name for name in folders if not is_hidden(name))
        folders[:] = [name for name in shown if not name.lower().endswith(WHOLE)]
        for name in sorted([*names, *(name for name in shown if name not in folders)]):
            if not is_hidden(name):
                yield pathlib.Path(parent, name)


def list_files(
    folder: pathlib.Path,
    *,
    endings: tuple[str, ...],
    suffix: str = "",
    without: Collection[pathlib.Path] = (),
) -> dict[str, pathlib.Path]:
    """Map stems (paths below `folder` without suffix and ending) to files, as `walk` finds them.

    Args:
        folder: Searched with all folders in it.
        endings: Of the files, in small letters.
        suffix: What stands before the ending. One that is, or ends with, an ending itself
            (`_mask.png`, `.tif`) admits that ending alone.
        without: Files that are left out.

    Raises:
        DataError: Two files of one stem, such as `a.jpg` and `a.png`.
    """
    found: dict[str, pathlib.Path] = {}
    tails = tails_of(suffix, endings)
    for path in walk(folder):
        stem = without_ending(path.name, tails)
        if stem == path.name or path in without:
            continue
        key = normal((path.parent.relative_to(folder) / stem).as_posix())
        if key in found:
            raise DataError(
                f"{path} and {found[key]} are two files of one name. Keep one, or set image_suffix "
                "and label_suffix to what their names end with (such as '.tif')."
            )
        found[key] = path
    return found


def as_series(
    found: Mapping[str, pathlib.Path], folder: pathlib.Path, endings: tuple[str, ...]
) -> dict[str, pathlib.Path]:
    """Let each folder that holds several files of such endings stand for them, by its own name."""
    stems = {path: stem for stem, path in found.items()}
    several: dict[str, pathlib.Path] = {}
    for path in in_series(list(found.values()), endings):
        below = path.relative_to(folder).as_posix()
        several[stems.get(path) or normal(below if below != "." else path.name)] = path
    return several


def in_series(files: Collection[pathlib.Path], endings: tuple[str, ...]) -> list[pathlib.Path]:
    """Return files, each folder that holds several of such endings instead of them."""
    parents = collections.Counter(
        path.parent for path in files if path.name.lower().endswith(endings)
    )
    found = (
        path.parent if path.name.lower().endswith(endings) and parents[path.parent] > 1 else path
        for path in files
    )
    return [*dict.fromkeys(found)]


def tails_of(suffix: str, endings: tuple[str, ...]) -> tuple[str, ...]:
    """Return what the names of files with a suffix end with, see `list_files`."""
    if suffix.lower().endswith(endings):
        return (suffix,)
    return tuple(suffix + ending for ending in endings)


def without_ending(name: str, endings: tuple[str, ...]) -> str:
    """Return `name` without the first of `endings` that it has, in whatever case; or as it is."""
    lower = normal(name).lower()
    for ending in endings:
        if lower.endswith(normal(ending).lower()):
            return normal(name)[: -len(normal(ending))]
    return name


def normal(name: str) -> str:
    """Return a name in Unicode's composed form (NFC): macOS writes the other one."""
    return unicodedata.normalize("NFC", name)
