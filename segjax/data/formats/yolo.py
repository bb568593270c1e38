"""YOLO segmentation: a text file for each image, a line `class x y x y …` for each object.

Points are parts of the image's width and height. Pixels are those that Ultralytics' `polygon2mask`
fills (points cut to whole pixels, the outline included), the smaller object on top. A line of four
numbers is a box. Classes are those of `data.yaml`, `obj.names` or `classes.txt`.
"""

import functools
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import yaml

from segjax.config import rules
from segjax.data import decode, listing
from segjax.data.formats import images, outlines, parse, raster
from segjax.data.formats.base import (
    DEFAULT_SPLIT,
    Annotations,
    Box,
    Losses,
    Object,
    Options,
    Picture,
    Ring,
    Rings,
    Size,
)
from segjax.errors import ConfigError, DataError
from segjax.runtime import files, reading

YAML_BYTES = 1 << 20
_BEYOND = 0.01
"""How far a point may lie outside, in parts of the image."""
_NAMES = ("obj.names", "classes.txt")


def read(path: pathlib.Path, options: Options) -> Annotations:
    """Return the data set of a folder: `images[/<split>]` and `labels[/<split>]`, or turned round.

    Raises:
        ConfigError: Nothing names the classes.
        DataError: No images, a line that is none, a class that there is not.
    """
    names = options.class_names or _class_names(path)
    found = [
        (each / "labels", each / "images")
        for each in (path, *sorted(each for each in path.iterdir() if each.is_dir()))
        if not listing.is_hidden(each.name) and (each / "labels").is_dir()
        and (each / "images").is_dir()
    ]  # fmt: skip
    if not found:
        raise DataError(f"{path}: no images with labels beside them. Name another --input.")
    return Annotations(names, functools.partial(_pictures, path, found, names))


def _class_names(path: pathlib.Path) -> tuple[str, ...]:
    file = next((each for each in sorted(path.glob("*.y*ml"))), None)
    if file is not None:
        return _from_yaml(file)
    file = next((path / name for name in _NAMES if (path / name).is_file()), None)
    if file is None:
        raise ConfigError(
            f"{path}: nothing names the classes: no data.yaml, {' or '.join(_NAMES)}. Write one, "
            "or give --class_names."
        )
    return parse.names_in(file)


def _from_yaml(file: pathlib.Path) -> tuple[str, ...]:
    text = reading.text(file, limit=YAML_BYTES)
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise DataError(f"{file}: repeats a part by reference (*), which is not read. Mend it.")
        content: Any = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(
            f"{file}: not valid YAML: {' '.join(str(error).split())[:200]}. Mend the file."
        ) from None
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and sorted(names, key=str) == sorted(range(len(names)), key=str):
        names = [names[k] for k in range(len(names))]
    good = isinstance(names, list) and all(isinstance(name, (str, int)) for name in names)
    found = tuple(str(name) for name in names) if good and isinstance(names, list) else ()
    if not found or len(set(found)) < len(found):
        shown = rules.shown(names)
        raise DataError(f"{file}: expected names, different ones in order, got {shown}.")
    return found


def _pictures(
    path: pathlib.Path, found: list[tuple[pathlib.Path, pathlib.Path]], names: tuple[str, ...]
) -> Iterator[Picture]:
    for labels, folder in found:
        files_ = listing.list_files(folder, endings=decode.IMAGE_ENDINGS)
        texts = listing.list_files(labels, endings=(".txt",))
        bare = [str(text) for stem, text in texts.items() if stem not in files_]
        if bare:
            raise DataError(f"{bare[0]}: no image of that name in {folder}. Add it, or remove it.")
        for stem, image in files_.items():
            name = image.relative_to(folder).as_posix()
            split = "" if labels.parent == path else labels.parent.name
            deeper, slash, rest = name.partition("/")
            if not split and slash and (labels / deeper).is_dir():
                split, name = deeper, rest
            size = images.size_of(image, name=str(image))
            things, dropped = _objects(texts.get(stem), size, names)
            yield Picture(name, image, size, things, split=split, dropped=tuple(dropped))


def _objects(
    file: pathlib.Path | None, size: Size, names: tuple[str, ...]
) -> tuple[tuple[Object, ...], list[str]]:
    things, dropped = [], []
    for number, line in enumerate(reading.lines(file) if file else (), start=1):
        if not line:
            continue
        where = f"{file}, line {number}"
        words = line.split(None, 2 * parse.MAX_POINTS + 2)
        try:
            kind, values = int(words[0]), [float(word) for word in words[1:]]
        except ValueError:
            raise DataError(f"{where}: {line[:60]!r} is no 'class x y x y …'. Mend it.") from None
        if not 0 <= kind < len(names):
            raise DataError(f"{where}: class {kind}, there are {len(names)}. Mend one of them.")
        if not all(-_BEYOND <= value <= 1 + _BEYOND for value in values):  # NaN neither
            raise DataError(
                f"{where}: a number outside of 0..1; points are parts of the image's sides."
            )
        if len(values) == 4:
            sides = parse.ring(values, where=where, least=2) * size[::-1]
            x, y, width, height = sides.ravel().tolist()
            box = Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2, "coco")
            things.append(Object(names[kind], (box,)))
        elif len(values) < 6:
            dropped.append("of an outline of fewer than three points")
        else:
            shares = parse.ring(values, where=where)
            points = shares.astype(np.float32) * np.array(size[::-1], np.float32)
            ring = parse.ring(points.tolist(), where=where)
            things.append(Object(names[kind], (Rings((ring,), "opencv"),)))
    return tuple(things), dropped


def write(annotations: Annotations, folder: pathlib.Path, options: Options, losses: Losses) -> None:
    """Write `images/<split>`, `labels/<split>` and `data.yaml`; parts of an object are lines."""
    names = [name for name in annotations.class_names if name != annotations.background]
    splits: dict[str, None] = {}
    for picture in annotations.pictures():
        split = picture.split or DEFAULT_SPLIT
        splits[split] = None
        images.place(picture, folder / "images" / split / picture.name, link=options.link)
        lines = []
        for thing, patch in outlines.instances(picture):
            if thing.label is None or thing.label not in names:
                losses.add("{} void objects are left out")
                continue
            losses.add("{} attributes of objects are left out", bool(thing.attributes))
            losses.add("{} crowds are plain objects there", thing.crowd)
            if len(thing.parts) == 1 and isinstance(thing.parts[0], Box):
                lines.append(_box(names.index(thing.label), thing.parts[0], picture.size))
                continue
            rings = outlines.of(thing)
            rings = [ring + 0.5 for ring in outlines.through(patch)] if rings is None else rings
            losses.add("{} objects of several pieces became a line for each", len(rings) > 1)
            _count(rings, patch, picture.size, losses)
            lines += [_line(names.index(thing.label), ring, picture.size) for ring in rings]
        losses.add("{} tags of images are left out", len(picture.tags))
        target = folder / "labels" / split / f"{images.stem(picture.name)}.txt"
        with files.replacing(target) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines))
    content: dict[str, Any] = {"path": "."}
    content |= {split: f"images/{split}" for split in splits}
    content["names"] = dict(enumerate(names))
    with files.replacing(folder / "data.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _count(rings: list[Ring], patch: raster.Patch, size: Size, losses: Losses) -> None:
    """Count the pixels that these outlines, read again, have more or less than the object."""
    parts = tuple(Rings((ring,), "opencv") for ring in rings)
    again = np.zeros(size, bool)
    if parts:
        place = raster.patch_of(Object("", parts), size, where="")
        again[place.place] = place.mask
    again[patch.place] ^= patch.mask
    losses.add("{} pixels of holes and borders are others there", int(again.sum()))


def _box(number: int, box: Box, size: Size) -> str:
    (left, right), (top, bottom) = sorted((box.left, box.right)), sorted((box.top, box.bottom))
    height, width = size
    middle = (left + right) / 2 / width, (top + bottom) / 2 / height
    sides = (*middle, (right - left) / width, (bottom - top) / height)
    return " ".join([str(number), *(f"{value:.8g}" for value in sides)])


def _line(number: int, ring: Ring, size: Size) -> str:
    values = (np.clip(ring, 0, size[::-1]) / size[::-1]).ravel().tolist()
    return " ".join([str(number), *(f"{value:.8g}" for value in values)])
