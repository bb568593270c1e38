"""The house's own layout, which `type="folder"` trains on: maps of numbers beside the images.

`<root>/meta.json` and `<root>/<split>/{images,labels}`, with `instances` if wanted: a map of 16
bits of which object each pixel is, and a JSON file of the objects' classes.
"""

import functools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from segjax.config import rules
from segjax.data import meta
from segjax.data.formats import classes, draw, images, maps
from segjax.data.formats.base import (
    DEFAULT_SPLIT,
    VOID,
    VOID_LABEL,
    Annotations,
    Colour,
    Losses,
    Options,
    Picture,
)
from segjax.data.label_map import LabelMap
from segjax.errors import DataError
from segjax.runtime import files
from segjax.views import colour

META = "meta.json"


def read(path: pathlib.Path, options: Options) -> Annotations:
    """Return the data set of such a folder.

    Raises:
        DataError: No split, no class names, a file that cannot be used.
    """
    own = options.class_names
    found = {"class_names": list(own)} if own else meta.read(path / META)
    names = _names(found, where=str(path / META))
    splits = sorted(p.parent.name for p in path.glob("*/labels") if not p.parent.name[0] == ".")
    if not splits:
        raise DataError(f"{path}: no <split>/labels in it. Name the data set's folder.")
    labels = _labels(found, names, where=str(path / META))
    background = classes.background_of(names)
    return Annotations(
        names,
        functools.partial(_pictures, path, splits, labels, background),
        background=background,
        palette=dict(
            zip(names, meta.palette(found, len(names), where=str(path / META)), strict=True)
        ),
    )


def _names(found: Mapping[str, Any], *, where: str) -> tuple[str, ...]:
    names = tuple(found["class_names"])
    if not names or len(set(names)) < len(names):
        raise DataError(f"{where}: expected class_names, different ones, got {names!r:.200}.")
    return names


def _labels(
    said: Mapping[str, Any], names: tuple[str, ...], *, where: str
) -> dict[int, str | None]:
    """Return the class of each stored number."""
    ignored = said.get("ignore_index", -1)
    ignored = ignored if isinstance(ignored, list) else [ignored]
    found: dict[int, str | None] = dict(enumerate(names))
    if mapping := said.get("label_map"):
        checked = LabelMap(mapping, num_classes=len(names), where=where)
        stored = np.arange(1 << 16)
        numbers = checked(stored)
        found = {int(v): names[k] for v, k in zip(stored, numbers, strict=True) if k >= 0}
    return {**found, **{value: VOID for value in ignored if value >= 0}}


def colour_of(value: Any, *, where: str) -> Colour:
    """Return a colour of three whole numbers 0..255."""
    good = isinstance(value, (list, tuple)) and len(value) == 3
    if not good or not all(type(v) is int and 0 <= v < 256 for v in value):
        raise DataError(
            f"{where}: expected a colour, [red, green, blue] in 0..255, got {rules.shown(value)}."
        )
    return value[0], value[1], value[2]


def _pictures(
    path: pathlib.Path, splits: list[str], labels: Mapping[int, str | None], background: str | None
) -> Iterator[Picture]:
    for split in splits:
        for name, image, mask in maps.pair(path / split / "images", path / split / "labels"):
            size = images.size_of(image, name=str(image))
            numbers = maps.read(mask, size)
            which = path / split / "instances" / f"{images.stem(name)}.png"
            instances = maps.read(which, size) if which.exists() else None
            found = maps.objects(
                numbers, labels, background=background, instances=instances, where=str(mask)
            )
            yield Picture(name, image, size, found, split=split)


def write(annotations: Annotations, folder: pathlib.Path, options: Options, losses: Losses) -> None:
    """Write the data set; labels are PNGs of the class numbers, shown in the palette's colours.

    Raises:
        ConfigError: More classes than such a map holds.
    """
    numbering = classes.number(annotations)
    for picture in annotations.pictures():
        place = folder / (picture.split or DEFAULT_SPLIT)
        drawn = draw.draw(picture, numbering.numbers, background=numbering.background)
        images.place(picture, place / "images" / picture.name, link=options.link)
        stem = images.stem(picture.name)
        label = place / "labels" / f"{stem}.png"
        colour.save_palette_png(label, drawn.classes, numbering.palette)
        count(drawn, picture, losses, instances=options.target == "instances")
        if options.target == "instances":
            target = place / "instances" / f"{stem}.png"
            colour.save_png(target, Image.fromarray(drawn.instances))
            files.write_json(target.with_suffix(".json"), {"classes": drawn.labels})
    content = {
        "class_names": list(numbering.names),
        "ignore_index": VOID_LABEL,
        "palette": [list(one) for one in numbering.palette],
    }
    files.write_json(folder / META, content)


def count(drawn: draw.Drawn, picture: Picture, losses: Losses, *, instances: bool) -> None:
    """Count what maps do not hold of a picture."""
    losses.add("{} pixels are claimed by objects of several classes: the last has them",
               drawn.covered)  # fmt: skip
    if instances:
        losses.add("{} objects keep no pixel, others cover them", drawn.hidden)
    losses.add("{} attributes of objects are left out: a map holds none",
               sum(bool(thing.attributes) for thing in picture.objects))  # fmt: skip
    losses.add("{} tags of images are left out", len(picture.tags))
