"""Which files are predicted, and what their outputs are called."""

import collections
import dataclasses
import glob
import hashlib
import os
import pathlib
import re
import tempfile
from collections.abc import Mapping, Sequence

from segjax.data import core, decode, listing
from segjax.errors import DataError, UserError
from segjax.runtime import files as files_lib
from segjax.runtime import reading

ARRAY_ENDINGS = (".npy",)
"""Volumes, signals and images as arrays [*space c]; without the last axis for one channel."""

FILES_EACH = 3
_TAILS = ("", "_label", "_overlay")
_ENDINGS = ("_label.png", "_label.npy", "_overlay.png")  # and the JSON, which says whose they are
_FACTS = {"file", "size", "step", "classes"}
_LONGEST = 200
"""Bytes of an output's name: file systems take 255, endings and temporary names need some."""


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What an input stands for.

    Attributes:
        files: The images to predict, sorted.
        left_out: Images that are there and are not predicted, each with the reason.
    """

    files: tuple[pathlib.Path, ...]
    left_out: Mapping[pathlib.Path, str]

    def describe(self) -> str:
        """Return how many there are in one line."""
        reasons = collections.Counter(self.left_out.values())
        out = "".join(f", {count} left out ({reason})" for reason, count in reasons.items())
        found = len(self.files) + len(self.left_out)
        return f"{found} images found, {len(self.files)} to predict{out}"


def list_inputs(
    inputs: str, *, output: pathlib.Path | None = None, label_suffix: str = ""
) -> Inputs:
    """Return the files that a file name, a folder (searched recursively) or a glob stands for.

    What exists under that name comes before a glob: `img[1].png` is a file. In a folder hidden
    files and folders do not count (`listing.walk`). Linked folders are not searched. What an
    earlier prediction wrote is left out, and so is what lies in the output folder if that is inside
    the input folder, and masks that end with the `label_suffix` of the run's data set.

    Raises:
        UserError: There are none.
    """
    path = files_lib.expanded(inputs)
    endings = (*decode.IMAGE_ENDINGS, *ARRAY_ENDINGS)
    if reading.is_file(path):
        reading.check_file(path)
        return Inputs((path,), {})
    if path.is_dir():
        found = [p for p in listing.walk(path) if p.suffix.lower() in endings]
    else:
        literal = {*path.parts, ".", ".."}
        found = [
            p
            for p in _matching(path)
            if not p.is_dir() and not any(map(listing.is_hidden, set(p.parts) - literal))
        ]
    inside = output.resolve() if output else None
    if inside and (not path.is_dir() or path.resolve() not in inside.parents):
        inside = None
    masks = listing.tails_of(label_suffix, decode.LABEL_ENDINGS) if label_suffix else ()
    left_out: dict[pathlib.Path, str] = {}
    for file in found:
        if inside and inside in file.resolve().parents:
            left_out[file] = "in the output folder"
        elif _is_output(file):
            left_out[file] = "outputs of an earlier prediction"
        elif listing.without_ending(file.name, masks) != file.name:
            left_out[file] = f"masks: they end with label_suffix={label_suffix!r}"
    files = tuple(sorted(file for file in set(found) if file not in left_out))
    if not files:
        out = f" ({Inputs((), left_out).describe()})" if left_out else ""
        raise UserError(
            f"--input={inputs}: no images{out}. Expected a file, a folder or a glob of "
            f"{', '.join(endings)}."
        )
    return Inputs(files, left_out)


def _matching(pattern: pathlib.Path) -> list[pathlib.Path]:
    """Return what a glob stands for; its `**` follows no links, which may lead in a circle."""
    parts = pattern.parts
    if "**" not in parts:
        return [pathlib.Path(found) for found in glob.glob(str(pattern))]
    at = parts.index("**")
    # Within a longer part `**` is `*` to a shell, and an error to pathlib.
    rest = [part if part == "**" else re.sub(r"\*+", "*", part) for part in parts[at:]]
    roots = glob.glob(os.path.join(*parts[:at])) if at else ["."]
    return [found for root in roots for found in pathlib.Path(root).glob("/".join(rest))]


def _is_output(file: pathlib.Path) -> bool:
    """Say whether a file is one of ours: the JSON beside it says so."""
    for ending in _ENDINGS:
        if file.name.endswith(ending):
            return _facts(file.with_name(file.name.removesuffix(ending) + ".json")) is not None
    return False


def _facts(path: pathlib.Path) -> dict[str, object] | None:
    """Return what a JSON says if it is one that a prediction wrote."""
    try:
        content = reading.read_json(path)
    except (OSError, DataError):
        return None
    return content if isinstance(content, dict) and set(content) >= _FACTS else None


def output_names(files: Sequence[pathlib.Path]) -> dict[pathlib.Path, str]:
    """Return a name for each file's outputs, no two of which share a file on any file system.

    It is the file's stem; where stems are equal (in whatever case), its path below the folder that
    all have in common; where these are equal, that with the ending, and at last with a hash of the
    path. What is longer than 200 bytes is cut and ends with a hash.
    """
    root = os.path.commonpath([file.absolute().parent for file in files]) if files else ""
    below = [file.absolute().relative_to(root) for file in files]
    levels = [
        [_short(path.stem, path) for path in below],
        [_short("_".join(path.with_suffix("").parts), path) for path in below],
        [_short("_".join(path.parts).replace(".", "_"), path) for path in below],
    ]
    counts = [collections.Counter(map(_key, level)) for level in levels]
    taken: set[str] = set()
    names: dict[pathlib.Path, str] = {}
    for number, file in enumerate(files):
        candidates = [
            level[number]
            for level, count in zip(levels, counts, strict=True)
            if count[_key(level[number])] == 1
        ]
        last = f"{levels[2][number]}_{_hash(below[number])}"
        name = next((name for name in candidates if not _claims(name) & taken), last)
        taken |= _claims(name)
        names[file] = name
    return names


def _claims(name: str) -> set[str]:
    """Return the names, endings left out, that the outputs of a name take."""
    return {_key(name + tail) for tail in _TAILS}


def _key(name: str) -> str:
    return listing.normal(name).casefold()


def _hash(path: pathlib.Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


def _short(name: str, path: pathlib.Path) -> str:
    encoded = os.fsencode(name)
    if len(encoded) <= _LONGEST:
        return name
    return f"{encoded[: _LONGEST - 13].decode(errors='ignore')}_{_hash(path)}"


def check_free(output: pathlib.Path, names: Mapping[pathlib.Path, str], *, run: str) -> None:
    """Refuse to overwrite what is not an earlier prediction of the same image by the same run.

    Raises:
        UserError: A file or folder of such a name is there.
    """
    listed = sorted(output.iterdir()) if output.is_dir() else []
    alike = {_key(path.name): path for path in listed}  # one file, on systems that ignore case
    exactly = {path.name: path for path in listed}

    def there(name: str) -> pathlib.Path | None:
        return exactly.get(name) or alike.get(_key(name))

    foreign = []
    for file, name in names.items():
        facts_file = there(f"{name}.json")
        facts = _facts(facts_file) if facts_file else None
        ours = facts is not None and _same(facts, file, run)
        for ending in (".json", *_ENDINGS):
            path = there(name + ending)
            if path and not (ours and path.is_file()):
                foreign.append(str(path))
    if foreign:
        raise UserError(
            f"--output={output}: {len(foreign)} files there are no earlier prediction of the same "
            f"images by this run, and would be overwritten: {core.some(foreign)}. Name another "
            "folder, or move them away."
        )


def make_folder(output: pathlib.Path) -> None:
    """Make the output folder if it is not there, and try whether it may be written.

    Raises:
        UserError: It cannot be made or written, or is a file.
    """
    if reading.is_file(output):
        raise UserError(f"--output={output}: is there and no folder. Name a folder.")
    with files_lib.explain_os_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output, prefix=".segjax"):
            pass


def _same(facts: Mapping[str, object], file: pathlib.Path, run: str) -> bool:
    """Say whether what is there is of the same file and, where both are known, the same run."""
    of = facts.get("run", run) if run else ""
    return pathlib.Path(str(facts["file"])).resolve() == file.resolve() and of == run
