"""Masks in which colours mean classes: `[<split>/]images`, `[<split>/]masks`, and their palette.

The palette is `label_colors.txt` (`red green blue name` a line), `labelmap.txt` (`name:r,g,b::`),
`class_dict.csv` (`name,r,g,b`), or `dataset_meta.json` (`label_map`, `segmentation_colors`). A
class called `void` there is void.
"""

import functools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from segjax.data import decode
from segjax.data.formats import classes, draw, images, maps, parse
from segjax.data.formats import folder as folder_format
from segjax.data.formats.base import VOID, Annotations, Colour, Losses, Options, Picture
from segjax.errors import DataError
from segjax.runtime import files
from segjax.views import colour

PALETTES = ("label_colors.txt", "labelmap.txt", "class_dict.csv", "dataset_meta.json")
MASKS = ("masks", "labels", "annotations")
_FREE = ((0, 0, 0), (224, 224, 192), (255, 255, 255), (1, 1, 1))


def read(path: pathlib.Path, options: Options) -> Annotations:
    """Return the data set of such a folder.

    Raises:
        DataError: No palette, no masks; in a mask a colour that is none of the palette's.
    """
    file = next((path / name for name in PALETTES if (path / name).is_file()), None)
    if file is None:
        raise DataError(
            f"{path}: none of {', '.join(PALETTES)} in it, which say what the colours mean. Write "
            f"{PALETTES[0]}: a line 'red green blue name' for each class."
        )
    palette, background = read_palette(file)
    names = tuple(name for name in palette if name != classes.TO_VOID)
    pictures = functools.partial(_pictures, path, palette, background)
    return Annotations(
        names, pictures, background=background, palette={name: palette[name] for name in names}
    )


def read_palette(file: pathlib.Path) -> tuple[dict[str, Colour], str | None]:
    """Return the colour of each class in order, and the class of what is no object.

    Raises:
        DataError: A line that is none, a name or a colour twice.
    """
    where = str(file)
    if file.suffix == ".json":
        return _from_meta(parse.section(parse.read_json(file), where=where), where=where)
    found: dict[str, Colour] = {}
    for line in parse.names_in(file):
        if line.startswith("#") or line.lower().replace(" ", "") == "name,r,g,b":
            continue
        if file.name == PALETTES[1]:
            name, _, rest = line.partition(":")
            shades = rest.partition(":")[0].split(",")
        elif file.suffix == ".csv":
            name, _, rest = line.partition(",")
            shades = rest.split(",")
        else:
            *shades, name = line.split(None, 3)
        shade = [int(part) for part in shades if part.strip().isdecimal() and len(part) < 9]
        name = name.strip()
        if len(shade) != len(shades) or not name or name in found:
            raise DataError(
                f"{file}: {line[:80]!r} is no class with its colour, or names one again. Mend it."
            )
        found[name] = folder_format.colour_of(shade, where=where)
    _check_different(found, where=where)
    return found, classes.background_of(tuple(found))


def _from_meta(meta: Mapping[str, Any], *, where: str) -> tuple[dict[str, Colour], str | None]:
    labels = parse.field(meta, "label_map", dict, where=where)
    shades = parse.field(meta, "segmentation_colors", list, where=where)
    if len(labels) != len(shades):
        raise DataError(f"{where}: {len(labels)} classes and {len(shades)} colours. Mend it.")
    found = {
        str(name): folder_format.colour_of(shade, where=where)
        for name, shade in zip(labels.values(), shades, strict=True)
    }
    _check_different(found, where=where)
    behind = labels.get(str(meta.get("background_label")))
    return found, behind if isinstance(behind, str) else None


def _check_different(palette: Mapping[str, Colour], *, where: str) -> None:
    seen: dict[Colour, str] = {}
    for name, shade in palette.items():
        if shade in seen:
            raise DataError(
                f"{where}: {seen[shade]!r:.80} and {name!r:.80} have one colour, {shade}, and "
                "cannot be told apart. Give one of them another, in the masks too, or merge them."
            )
        seen[shade] = name
    if not seen:
        raise DataError(f"{where}: no class in it. Write a line 'red green blue name' for each.")


def folders_of(path: pathlib.Path, names: tuple[str, ...]) -> list[tuple[str, pathlib.Path]]:
    """Return the folder of masks of each split: of `path` itself, or of the folders in it."""
    for name in names:
        if (path / name).is_dir() and (path / "images").is_dir():
            deeper = sorted(each.name for each in (path / name).iterdir() if each.is_dir())
            both = [each for each in deeper if (path / "images" / each).is_dir()]
            return [(each, path / name / each) for each in both] or [("", path / name)]
    found = [
        (each.name, each / name)
        for each in sorted(path.iterdir()) if each.is_dir() and each.name[0] != "."
        for name in names if (each / name).is_dir()
    ]  # fmt: skip
    if not found:
        raise DataError(
            f"{path}: no images with {' or '.join(names)} beside them, nor <split>/images. Name "
            "another --input."
        )
    return found


def images_beside(path: pathlib.Path, masks: pathlib.Path, split: str) -> pathlib.Path:
    """Return the folder of images that belongs to one of masks."""
    if masks.parent.name == split and masks.parent != path:
        return masks.parent / "images"
    return path / "images" / split if split else path / "images"


def _pictures(
    path: pathlib.Path, palette: Mapping[str, Colour], background: str | None
) -> Iterator[Picture]:
    labels = {k: VOID if n == classes.TO_VOID else n for k, n in enumerate(palette)}
    for split, folder in folders_of(path, MASKS):
        for name, image, mask in maps.pair(images_beside(path, folder, split), folder):
            size = images.size_of(image, name=str(image))
            numbers = numbers_of(mask, tuple(palette.values()))
            maps.check_size(numbers.shape, size, where=str(mask))
            found = maps.objects(numbers, labels, background=background, where=str(mask))
            yield Picture(name, image, size, found, split=split)


def numbers_of(mask: pathlib.Path, palette: tuple[Colour, ...]) -> Int[np.ndarray, "h w"]:
    """Return the number of each pixel's colour in a palette.

    Raises:
        DataError: A colour that is none of them, or a lossy file, which changes colours.
    """
    header = decode.read_header(mask, name=str(mask))
    if header.lossy:
        raise DataError(f"{mask}: is compressed as JPEG, which changes colours. Save it as PNG.")
    shades = decode.read_image(mask, name=str(mask), channels=3).astype(np.int64)
    keys = shades[..., 0] << 16 | shades[..., 1] << 8 | shades[..., 2]
    known = np.array([red << 16 | green << 8 | blue for red, green, blue in palette])
    order = np.argsort(known)
    place = np.minimum(np.searchsorted(known[order], keys), len(known) - 1)
    numbers = order[place]
    unknown = keys[known[numbers] != keys]
    if unknown.size:
        key = int(unknown[0])
        raise DataError(
            f"{mask}: colour ({key >> 16}, {key >> 8 & 255}, {key & 255}) is none of the "
            f"palette's, nor are those of {unknown.size:,} pixels in all. Add it to the palette, "
            "or mend the mask."
        )
    return numbers


def write(annotations: Annotations, folder: pathlib.Path, options: Options, losses: Losses) -> None:
    """Write `images/<split>`, `masks/<split>` in colours, and `label_colors.txt`."""
    numbering = classes.number(annotations)
    palette = numbering.palette
    if len(set(palette)) < len(palette):
        palette = colour.voc_palette(len(palette))
        losses.add("the palette, in which classes have one colour: VOC's colours are taken")
    void = next(shade for shade in _FREE if shade not in palette)
    table = colour.table(palette, void=void)
    for picture in annotations.pictures():
        drawn = draw.draw(picture, numbering.numbers, background=numbering.background)
        place = folder / "images" / picture.split / picture.name
        images.place(picture, place, link=options.link)
        target = folder / "masks" / picture.split / f"{images.stem(picture.name)}.png"
        colour.save_png(target, Image.fromarray(_shown(drawn.classes, table)))
        folder_format.count(drawn, picture, losses, instances=False)
        losses.add("{} instances are not told apart", len(drawn.labels))
    lines = [
        f"{r} {g} {b}\t{name}" for (r, g, b), name in zip(palette, numbering.names, strict=True)
    ]
    lines.append(f"{void[0]} {void[1]} {void[2]}\t{classes.TO_VOID}")
    with files.replacing(folder / PALETTES[0]) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def _shown(
    numbers: UInt8[np.ndarray, "h w"], table: UInt8[np.ndarray, "256 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    return table[numbers]
