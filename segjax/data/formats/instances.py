"""Maps of 16 bits in which a number says the class and the instance: `images` and `instances`.

`--divisor=1000`, as in Cityscapes and MOTS: class x 1000 + instance, numbers below it are classes
without instances. Another divisor, such as KITTI's 256: class x 256 + instance, 0 being none.
`--divisor=0`: each number is an instance of the one class, 0 is background. Class names are those
of `--class_names`, or of `labels.txt` in `instances` or beside it; class 0 is the background.
"""

import functools
import pathlib
from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Int, Integer
from PIL import Image

from segjax.data.formats import classes, colours, draw, images, maps, parse
from segjax.data.formats import folder as folder_format
from segjax.data.formats.base import (
    BACKGROUND,
    VOID_LABEL,
    Annotations,
    Losses,
    Options,
    Picture,
)
from segjax.errors import ConfigError, DataError
from segjax.runtime import files
from segjax.views import colour

FOLDERS = ("instances", "instance")
LABELS = "labels.txt"
USUAL = 1000
_ONE = ("object",)


def read(path: pathlib.Path, options: Options) -> Annotations:
    """Return the data set of such a folder.

    Raises:
        ConfigError: Nothing names the classes.
        DataError: A file that cannot be used, a number whose class there is not.
    """
    divisor = USUAL if options.divisor is None else options.divisor
    found = colours.folders_of(path, FOLDERS)
    names = options.class_names or (None if divisor else _ONE)
    places = [path / LABELS, *(folder / LABELS for _, folder in found)]
    for place in places:
        if names is None and place.is_file():
            names = parse.names_in(place)
    if names is None:
        raise ConfigError(
            f"{path}: nothing names the classes. Write {LABELS} there, a name a line from class 1 "
            "on (or from the background on), or give --class_names."
        )
    background = classes.background_of(names) or BACKGROUND
    numbered = names if background in names else (background, *names)
    pictures = functools.partial(_pictures, path, found, classes.labels_of(numbered), divisor)
    return Annotations(names, pictures, background=background)


def _pictures(
    path: pathlib.Path,
    found: list[tuple[str, pathlib.Path]],
    labels: Mapping[int, str | None],
    divisor: int,
) -> Iterator[Picture]:
    for split, folder in found:
        for name, image, mask in maps.pair(colours.images_beside(path, folder, split), folder):
            size = images.size_of(image, name=str(image))
            numbers, which = parted(maps.read(mask, size), divisor)
            things = maps.objects(
                numbers, labels, background=labels[0], instances=which, where=str(mask)
            )
            yield Picture(name, image, size, things, split=split)


def parted(
    numbers: Integer[np.ndarray, "h w"], divisor: int
) -> tuple[Int[np.ndarray, "h w"], Int[np.ndarray, "h w"]]:
    """Return the class of every pixel and its instance, counted from 1; 0: of none."""
    values = numbers.astype(np.int64)
    if not divisor:
        return (values > 0).astype(np.int64), values
    if divisor != USUAL:
        return values // divisor, values % divisor
    whole = values < divisor
    return np.where(whole, values, values // divisor), np.where(whole, 0, values % divisor + 1)


def write(annotations: Annotations, folder: pathlib.Path, options: Options, losses: Losses) -> None:
    """Write `images/<split>`, `instances/<split>` and `labels.txt`.

    Raises:
        DataError: A number beyond 16 bits.
    """
    divisor = USUAL if options.divisor is None else options.divisor
    numbering = classes.number(annotations)
    first = annotations.background == numbering.names[0]
    for picture in annotations.pictures():
        drawn = draw.draw(picture, numbering.numbers, background=numbering.background)
        numbers = composed(drawn, numbering, divisor, first=first, where=picture.name)
        place = folder / "images" / picture.split / picture.name
        images.place(picture, place, link=options.link)
        target = folder / FOLDERS[0] / picture.split / f"{images.stem(picture.name)}.png"
        colour.save_png(target, Image.fromarray(numbers))
        folder_format.count(drawn, picture, losses, instances=True)
        if not divisor:
            left = int(((drawn.classes != numbering.background) & (drawn.instances == 0)).sum())
            losses.add("{} pixels of no instance are background", left)
            losses.add(
                "classes of {} objects", len(drawn.labels) if len(numbering.names) > 2 else 0
            )
    names = numbering.names if first else (BACKGROUND, *numbering.names)
    with files.replacing(folder / LABELS) as temporary:
        temporary.write_text("\n".join(names) + "\n")


def composed(
    drawn: draw.Drawn, numbering: classes.Numbering, divisor: int, *, first: bool, where: str
) -> np.ndarray:
    """Return the numbers of a map; the instances of each class are counted by themselves."""
    if not divisor:
        return drawn.instances
    void = drawn.classes == VOID_LABEL
    kinds = drawn.classes.astype(np.int64) + (0 if first else 1)
    kinds[void] = 0 if not first and numbering.background == VOID_LABEL else VOID_LABEL
    own = np.zeros(len(drawn.labels) + 1, np.int64)
    seen: dict[str, int] = {}
    for number, label in enumerate(drawn.labels, start=1):
        seen[label] = own[number] = seen.get(label, 0) + 1
    which = own[drawn.instances]
    if max(seen.values(), default=0) > divisor - (divisor != USUAL):
        raise DataError(
            f"{where}: {max(seen.values()):,} objects of one class, a divisor of {divisor} tells "
            "fewer apart. Use another --divisor, or another --to."
        )
    numbers = np.where(which > 0, kinds * divisor + which - (divisor == USUAL),
                       kinds if divisor == USUAL else kinds * divisor)  # fmt: skip
    if numbers.max(initial=0) > draw.MAX_INSTANCES:
        raise DataError(
            f"{where}: number {int(numbers.max()):,} does not fit 16 bits. Use a smaller "
            "--divisor, merge classes with --class_map, or use another --to."
        )
    return numbers.astype(np.uint16)
