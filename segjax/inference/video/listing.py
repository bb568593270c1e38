"""Which files are videos, and which pictures are the frames of one."""

import pathlib
from collections.abc import Iterable

from segjax.data import dealing, gif
from segjax.errors import DataError
from segjax.runtime import reading

ENDINGS = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".ts", ".mts",
    ".m2ts", ".vob", ".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".mxf", ".y4m",
    ".ivf", ".h264", ".h265", ".hevc",
)  # fmt: skip


def is_video(file: pathlib.Path) -> bool:
    """Say whether a file is a video by its name, or a GIF of several frames."""
    name = file.name.lower()
    if not name.endswith(".gif"):
        return name.endswith(ENDINGS)
    try:
        with reading.open_file(file) as stream:
            return gif.frames(stream)[2] > 1
    except (OSError, ValueError, DataError):
        return False


def frames_of(files: Iterable[pathlib.Path]) -> dict[pathlib.Path, tuple[pathlib.Path, ...]]:
    """Return the pictures of each folder in natural order, as frames of the video it stands for."""
    found: dict[pathlib.Path, list[pathlib.Path]] = {}
    for file in files:
        found.setdefault(file.parent, []).append(file)
    return {
        folder: tuple(sorted(found[folder], key=lambda file: dealing.natural(file.name)))
        for folder in sorted(found)
    }
