"""Which files are predicted, and what their outputs are called."""

import collections
import dataclasses
import glob
import hashlib
import os
import pathlib
import re
import tempfile
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from segjax.data import core, listing, opening
from segjax.data.folder import CLASS
from segjax.errors import DataError, UserError
from segjax.inference.outputs import kinds
from segjax.inference.video import kinds as video_kinds
from segjax.inference.video import listing as videos
from segjax.runtime import files as files_lib
from segjax.runtime import reading

_FACTS = {"file", "size", "step", "classes"}
_LONGEST = 200
"""Bytes of an output's name: file systems take 255, endings and temporary names need some."""
_RECORD_BYTES = 1 << 28
"""Of the file that lists all images: about a million paths."""


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What an input stands for.

    Attributes:
        files: The images to predict, sorted, or the videos.
        left_out: Images that are there and are not predicted, each with the reason.
        unit: What they are: 'images' or 'videos'.
        frames: The pictures of each folder among `files` that stands for a video, in order.
    """

    files: tuple[pathlib.Path, ...]
    left_out: Mapping[pathlib.Path, str]
    unit: Literal["images", "videos"] = "images"
    frames: Mapping[pathlib.Path, tuple[pathlib.Path, ...]] = dataclasses.field(
        default_factory=dict
    )

    @property
    def found(self) -> int:
        """How many there are."""
        return len(self.files) + len(self.left_out)

    def describe(self) -> str:
        """Return how many there are in one line."""
        reasons = collections.Counter(self.left_out.values())
        out = "".join(f", {count} left out ({reason})" for reason, count in reasons.items())
        return f"{self.found} {self.unit} found, {len(self.files)} to predict{out}"


def list_inputs(
    inputs: str,
    *,
    output: pathlib.Path | None = None,
    label_suffix: str = "",
    class_names: Sequence[str] = (),
    dims: int = 2,
    as_frames: bool = False,
) -> Inputs:
    """Return the files that a file name, a folder (searched recursively) or a glob stands for.

    What exists under that name comes before a glob: `img[1].png` is a file. In a folder hidden
    files and folders do not count (`listing.walk`). Linked folders are not searched. What an
    earlier prediction wrote is left out, and so is what lies in the output folder if that is inside
    the input folder, and masks that end with the `label_suffix` of the run's data set, in which
    `{class}` stands for each of its `class_names`. Where images have three axes (`dims`) a folder
    of several DICOM files is one; where they have one, texts are images.

    Where images have two axes they may also be videos, see `video.listing`; of images and videos
    the images are predicted. With `as_frames` the pictures of a folder are the frames of a video.

    Raises:
        UserError: There are none.
    """
    path = files_lib.expanded(inputs)
    endings = opening.endings("images", dims) + (videos.ENDINGS if dims == 2 else ())
    if reading.is_file(path) or path.name.lower().endswith(listing.WHOLE):
        if not path.is_dir():
            reading.check_file(path)
        return _of_kinds([path], {}, dims=dims, as_frames=as_frames)
    if path.is_dir():
        found = [p for p in listing.walk(path) if p.name.lower().endswith(endings)]
    else:
        literal = {*path.parts, ".", ".."}
        found = [
            p
            for p in _matching(path)
            if not p.is_dir() and not any(map(listing.is_hidden, set(p.parts) - literal))
        ]
    if dims == 3:
        found = listing.in_series(found, opening.SERIES)
    inside = output.resolve() if output else None
    if inside and (not path.is_dir() or path.resolve() not in inside.parents):
        inside = None
    suffixes = {label_suffix.replace(CLASS, name) for name in class_names} or {label_suffix}
    masks = tuple(
        t for s in suffixes - {""} for t in listing.tails_of(s, opening.endings("labels", dims))
    )
    left_out: dict[pathlib.Path, str] = {}
    for file in found:
        if inside and inside in real(file).parents:
            left_out[file] = "in the output folder"
        elif _is_output(file):
            left_out[file] = "outputs of an earlier prediction"
        elif listing.without_ending(file.name, masks) != file.name:
            left_out[file] = f"masks: they end with label_suffix={label_suffix!r}"
    files = sorted(file for file in set(found) if file not in left_out)
    if not files:
        out = f" ({Inputs((), left_out).describe()})" if left_out else ""
        raise UserError(
            f"--input={inputs}: no images{out}. Expected a file, a folder or a glob of "
            f"{', '.join(endings)}."
        )
    return _of_kinds(files, left_out, dims=dims, as_frames=as_frames)


def _of_kinds(
    files: Sequence[pathlib.Path],
    left_out: Mapping[pathlib.Path, str],
    *,
    dims: int,
    as_frames: bool,
) -> Inputs:
    """Return files as images or as videos."""
    moving = [file for file in files if dims == 2 and videos.is_video(file)]
    images = [file for file in files if file not in set(moving)]
    if as_frames:
        frames = videos.frames_of(images)
        return Inputs((*moving, *frames), left_out, "videos", frames)
    if not images:
        return Inputs(tuple(moving), left_out, "videos")
    reason = "videos: name them alone, as --input='folder/*.mp4' does"
    return Inputs(tuple(images), {**left_out, **dict.fromkeys(moving, reason)})


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


def real(path: str | os.PathLike[str]) -> pathlib.Path:
    """Return a path without links; where they lead in a circle, or it is none, as it is."""
    try:
        return pathlib.Path(os.path.realpath(path))
    except ValueError:  # a zero byte in what a JSON calls a file
        return pathlib.Path(path)


def _is_output(file: pathlib.Path) -> bool:
    """Say whether a file, or the folder it lies in, is one of ours: the JSON beside it says so."""
    for path in (file, *file.parents[:2]):  # of a video there may be a folder for each frame
        for ending in {**kinds.ENDINGS, **video_kinds.INSIDE}:
            name = path.name.removesuffix(ending) + kinds.FACTS
            if path.name.endswith(ending) and _facts(path.with_name(name)) is not None:
                return True
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
    path. What is longer than 200 bytes is cut and ends with a hash. All kinds of outputs count,
    whichever are asked for, so that an image always has the same name.
    """
    below = below_common(files)
    endings = (*opening.endings("images", 1), *videos.ENDINGS)
    stems = [path.with_name(listing.without_ending(path.name, endings)) for path in below]
    levels = [
        [_short(stems.name, path) for stems, path in zip(stems, below, strict=True)],
        [_short("_".join(stems.parts), path) for stems, path in zip(stems, below, strict=True)],
        [_short("_".join(path.parts).replace(".", "_"), path) for path in below],
    ]
    counts = [collections.Counter(map(_key, level)) for level in levels]
    taken = set(map(_key, kinds.RESERVED))
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


def below_common(files: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """Return each file's path below the folder that all have in common."""
    root = os.path.commonpath([file.absolute().parent for file in files]) if files else ""
    return [file.absolute().relative_to(root) for file in files]


def _claims(name: str) -> set[str]:
    """Return the names, endings left out, that the outputs of a name take."""
    return {_key(name + tail) for tail in kinds.TAILS}


def _key(name: str) -> str:
    return listing.normal(name).casefold()


def _hash(path: pathlib.Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


def _short(name: str, path: pathlib.Path) -> str:
    encoded = os.fsencode(name)
    if len(encoded) <= _LONGEST:
        return name
    return f"{encoded[: _LONGEST - 13].decode(errors='ignore')}_{_hash(path)}"


def check_free(
    output: pathlib.Path,
    names: Mapping[pathlib.Path, str],
    *,
    run: str,
    shared: Sequence[str] = (),
) -> None:
    """Refuse to overwrite what is not an earlier prediction of the same image by the same run.

    Args:
        output: The folder.
        names: Of each image's outputs; those of all kinds must be free.
        run: Its folder.
        shared: Files over all images, `kinds.RECORD` first. There is none yet, or one of no other
            images than these.

    Raises:
        UserError: A file or folder of such a name is there.
    """
    listed = sorted(output.iterdir()) if output.is_dir() else []
    alike = {_key(path.name): path for path in listed}  # one file, on systems that ignore case
    exactly = {path.name: path for path in listed}

    def there(name: str) -> pathlib.Path | None:
        return exactly.get(name) or alike.get(_key(name))

    foreign = []
    inside = {ending: kind.inside for ending, kind in kinds.ENDINGS.items()} | video_kinds.INSIDE
    for file, name in names.items():
        facts_file = there(name + kinds.FACTS)
        facts = _facts(facts_file) if facts_file else None
        ours = facts is not None and _same(facts, file, run)
        for ending in (kinds.FACTS, *inside):
            path = there(name + ending)
            if path and not (ours and _is_kind(path, inside.get(ending, ()))):
                foreign.append(str(path))
    record = read_record(output)
    images = {str(real(file)) for file in names}
    for name in shared:
        path = there(name)
        own = record is not None and (
            name == kinds.RECORD or _same_images(record, name, images, run)
        )
        if path and not (own and path.is_file()):
            foreign.append(str(path))
    if foreign:
        raise UserError(
            f"--output={output}: {len(foreign)} files there are no earlier prediction of the same "
            f"images by this run, and would be overwritten: {core.some(foreign)}. Name another "
            "folder, or move them away."
        )


def _is_kind(path: pathlib.Path, inside: tuple[str, ...]) -> bool:
    """Say whether what is there is what a kind writes: a file, or a folder of its files alone.

    Args:
        path: The file or folder.
        inside: How the names begin in it, if it is a folder.
    """
    if path.name.lower().endswith(kinds.ZARR):
        inside = kinds.IN_ZARR
    if not inside:
        return path.is_file()
    if path.is_symlink() or not path.is_dir():
        return False
    return all(each.name.startswith(inside) for each in path.iterdir())


def read_record(output: pathlib.Path) -> dict[str, dict[str, Any]] | None:
    """Return of which images and run the files over all images in a folder are, by their names.

    None: nothing there says so.
    """
    try:
        found = reading.read_json(output / kinds.RECORD, limit=_RECORD_BYTES)
    except (OSError, DataError):
        return None
    known = {shared.name for shared in kinds.SHARED.values()}
    if not isinstance(found, dict) or not set(found) <= known:
        return None
    sound = all(
        isinstance(each, dict) and isinstance(each.get("files"), list) for each in found.values()
    )
    return found if sound else None


def write_record(
    output: pathlib.Path,
    shared: Sequence[str],
    facts: Mapping[str, Any],
    files: Sequence[pathlib.Path],
) -> None:
    """Write of which images and run the files over all images are, beside what is said of others.

    Args:
        output: The folder.
        shared: As `check_free` takes it.
        facts: Of the run.
        files: The images.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    images = [str(real(file)) for file in files]
    own = {name: {**facts, "files": images} for name in shared[1:]}
    files_lib.write_json(output / kinds.RECORD, (read_record(output) or {}) | own)


def _same_images(
    record: Mapping[str, Mapping[str, Any]], name: str, images: Collection[str], run: str
) -> bool:
    """Say whether a file over all images is of none but these, by the same run."""
    if name not in record:
        return False
    facts = record[name]
    return set(map(str, facts["files"])) <= set(images) and _same_run(facts, run)


def make_folder(output: pathlib.Path) -> None:
    """Make the output folder if it is not there, and try whether it may be written.

    Raises:
        UserError: It cannot be made or written, or is a file.
    """
    check_folder(output)
    with files_lib.explain_os_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output, prefix=".segjax"):
            pass


def check_folder(output: pathlib.Path) -> None:
    """Raise UserError if the output folder is a file."""
    if reading.is_file(output):
        raise UserError(f"--output={output}: is there and no folder. Name a folder.")


def _same(facts: Mapping[str, object], file: pathlib.Path, run: str) -> bool:
    """Say whether what is there is of the same file and, where both are known, the same run."""
    return real(str(facts["file"])) == real(file) and _same_run(facts, run)


def _same_run(facts: Mapping[str, object], run: str) -> bool:
    return (facts.get("run", run) if run else "") == run
