"""The images that annotations are of: where they lie, how large they are, how they are copied."""

import collections
import os
import pathlib
import posixpath
import shutil
from collections.abc import Iterable, Sequence

from segjax.data import decode, listing
from segjax.data.formats.base import Picture, Size
from segjax.errors import DataError
from segjax.runtime import files, reading


def locate(name: str, folders: Sequence[pathlib.Path], *, where: str) -> pathlib.Path | None:
    """Return the image of that name in the first of the folders that has it; None: none has.

    A path of another computer is looked for by its last part alone.

    Raises:
        DataError: The name leads out of the folders, or is that of no image.
    """
    plain = name.replace("\\", "/")
    absolute = plain.startswith("/") or plain[1:3] == ":/"
    plain = posixpath.normpath(posixpath.basename(plain) if absolute else plain)
    if not plain.lower().endswith(decode.IMAGE_ENDINGS) or "\0" in plain:
        raise DataError(
            f"{where}: {name!r:.200} is the name of no image. Expected one that ends in "
            f"{', '.join(decode.IMAGE_ENDINGS)}."
        )
    for folder in folders:
        path = pathlib.Path(os.path.normpath(folder / plain))
        if reading.is_file(path):
            return path
    return None


def find(name: str, folders: Sequence[pathlib.Path], *, where: str) -> pathlib.Path:
    """Return the image of that name, see `locate`; else raise `DataError`."""
    found = locate(name, folders, where=where)
    if found is None:
        shown = ", ".join(dict.fromkeys(str(folder) for folder in folders))
        raise DataError(
            f"{where}: no image {name!r:.200} in {shown}. Put it there, or name the folder that it "
            "is below with --images."
        )
    return found


def below(path: pathlib.Path, folders: Sequence[pathlib.Path], *, where: str) -> str:
    """Return an image's path below the first of the folders that it is in, with slashes.

    Raises:
        DataError: It is in none of them.
    """
    for folder in folders:
        name = os.path.relpath(path, folder).replace(os.sep, "/")
        if not name.startswith("../"):
            return name
    raise DataError(
        f"{where}: the image {path} lies outside of {', '.join(map(str, folders))}. Name the "
        "folder that all images are below with --images."
    )


def size_of(
    file: pathlib.Path | bytes,
    *,
    name: str,
    claimed: tuple[int, int] | None = None,
    where: str = "",
) -> Size:
    """Return an image's height and width as shown, by its header.

    Args:
        file: Its path or bytes.
        name: For messages.
        claimed: Height and width by its annotations.
        where: Whose claim that is.

    Raises:
        DataError: It cannot be read, or the claim is wrong.
    """
    header = decode.read_header(file, name=name)
    size = decode.shown_size(header, exif=True)
    if claimed is not None and claimed != size:
        turned = claimed == (header.height, header.width)
        hint = "They are of the image as stored: save it without its orientation tag. " * turned
        raise DataError(
            f"{where}: annotations of {claimed[0]}x{claimed[1]} (height x width), the image "
            f"{name} has {size[0]}x{size[1]}. {hint}Mend one of them."
        )
    return size


def place(picture: Picture, target: pathlib.Path, *, link: bool) -> None:
    """Put the image there: a copy, or with `link` a link to it."""
    with files.replacing(target) as temporary:
        if isinstance(picture.content, bytes):
            temporary.write_bytes(picture.content)
        elif link:
            temporary.symlink_to(picture.content.resolve())
        else:
            reading.check_file(picture.content)
            shutil.copyfile(picture.content, temporary)


def stem(name: str) -> str:
    """Return an image's name without its ending."""
    return listing.without_ending(name, decode.IMAGE_ENDINGS)


def check_names(names: Iterable[tuple[str, str]]) -> None:
    """Refuse two images whose masks would have one name.

    Args:
        names: The split and the name of each.

    Raises:
        DataError: Two of one split differ in their endings alone, or in nothing.
    """
    seen: collections.Counter[tuple[str, str]] = collections.Counter(
        (split, stem(name)) for split, name in names
    )
    for (split, name), count in seen.items():
        if count > 1:
            of = f" of split {split!r}" if split else ""
            raise DataError(
                f"{count} images{of} are called {name!r:.200}, endings left out. Each needs a name "
                "of its own: rename them, or convert them into different folders."
            )
