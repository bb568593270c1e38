"""COCO panoptic: a PNG of segment ids in colours for each image, and one JSON file of the segments.

An id is red + 256 green + 65536 blue. Classes that are no things are pixels of a class; crowds are
crowds. Pixels of id 0 are void.
"""

import functools
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int
from PIL import Image

from segjax.data import decode, listing
from segjax.data.formats import draw, images, maps, parse
from segjax.data.formats import folder as folder_format
from segjax.data.formats.base import (
    DEFAULT_SPLIT,
    VOID_LABEL,
    Annotations,
    Losses,
    Object,
    Options,
    Picture,
    Pixels,
)
from segjax.data.formats.coco import LIMIT
from segjax.errors import DataError
from segjax.runtime import files
from segjax.views import colour

_FILE = re.compile(r"panoptic_(?P<split>.+)\.json")


def read(path: pathlib.Path, options: Options) -> Annotations:
    """Return the data set of a file, or of `annotations/panoptic_<split>.json` in a folder.

    The PNGs lie in the folder of the file's name. Images are looked for as COCO's are.

    Raises:
        DataError: No such file, or one that cannot be used.
    """
    found = [path]
    if path.is_dir():
        found = [each for each in listing.walk(path) if _FILE.fullmatch(each.name)]
    if not found:
        raise DataError(f"{path}: no panoptic_<split>.json in it. Name the file itself.")
    root = path if path.is_dir() else path.parent
    contents = [(each, _content(each)) for each in found]
    names: dict[str, None] = {}
    palette, things = {}, {}
    for file, content in contents:
        for one in sorted(content["categories"].values(), key=lambda one: one["id"]):
            name = parse.field(one, "name", str, where=str(file))
            names[name] = None
            if is_thing(one):
                things[name] = None
            if "color" in one:
                palette[name] = folder_format.colour_of(one["color"], where=str(file))
    pictures = functools.partial(_pictures, contents, root, options)
    return Annotations(options.class_names or tuple(names), pictures, background=None,
                       palette=palette, things=tuple(things))  # fmt: skip


def is_thing(category: Mapping[str, Any]) -> bool:
    """Say whether the objects of a category are counted; of one that does not say they are."""
    return category.get("isthing", 1) in (1, True)


def _content(file: pathlib.Path) -> dict[str, Any]:
    where = str(file)
    content = parse.section(parse.read_json(file, limit=LIMIT), where=where)
    categories, pictures = (
        {parse.field(one, "id", int, where=where): one
         for one in parse.fields(content, name, where=where)}
        for name in ("categories", "images")
    )  # fmt: skip
    annotations = parse.fields(content, "annotations", where=where)
    return {"categories": categories, "images": pictures, "annotations": annotations}


def _pictures(
    contents: list[tuple[pathlib.Path, dict[str, Any]]], root: pathlib.Path, options: Options
) -> Iterator[Picture]:
    for file, content in contents:
        match = _FILE.fullmatch(file.name)
        split = match["split"] if match else ""
        near = [root, root / "images", root / "images" / split, root / split, file.parent,
                root.parent / "images" / split, root.parent / split]  # fmt: skip
        folders = [options.images] if options.images else list(dict.fromkeys(near))
        for number, one in enumerate(content["annotations"]):
            where = f"{file}: annotations[{number}]"
            image = content["images"].get(one.get("image_id"))
            if image is None:
                raise DataError(f"{where}: image_id={one.get('image_id')!r:.40} is no image.")
            name = parse.field(image, "file_name", str, where=where)
            found = images.find(name, folders, where=where)
            size = images.size_of(found, name=str(found))
            mask = parse.field(one, "file_name", str, where=where)
            png = images.find(mask, [file.with_suffix("")], where=where)
            things = _objects(png, one, content["categories"], size, where=where)
            yield Picture(found.name, found, size, things, split=split)


def _objects(
    png: pathlib.Path,
    annotation: Mapping[str, Any],
    categories: Mapping[int, Mapping[str, Any]],
    size: tuple[int, int],
    *,
    where: str,
) -> tuple[Object, ...]:
    ids = ids_of(png)
    maps.check_size(ids.shape, size, where=str(png))
    segments: dict[int, Mapping[str, Any]] = {
        parse.field(one, "id", int, where=where): one
        for one in parse.fields(annotation, "segments_info", where=where)
    }
    values = np.unique(ids).tolist()
    unknown = [value for value in values if value and value not in segments]
    if unknown:
        raise DataError(
            f"{png}: segment {unknown[0]} is none of segments_info in {where}. Mend it."
        )
    found = []
    for value, one in segments.items():
        category = categories.get(parse.field(one, "category_id", int, where=where))
        if category is None:
            raise DataError(f"{where}: segment {value} is of no category. Mend the file.")
        crowd = one.get("iscrowd") in (1, True)
        thing = is_thing(category) and not crowd
        found.append(
            Object(str(category["name"]), (Pixels(ids, value),), instance=thing, crowd=crowd)
        )
    return tuple(found)


def ids_of(png: pathlib.Path) -> Int[np.ndarray, "h w"]:
    """Return the segment id of every pixel of a PNG in colours."""
    header = decode.read_header(png, name=str(png))
    if header.lossy or header.bands != 3:
        raise DataError(f"{png}: expected segment ids in an RGB PNG, got {header.describe()}.")
    shades = decode.read_image(png, name=str(png), channels=3).astype(np.int32)
    return shades[..., 0] + (shades[..., 1] << 8) + (shades[..., 2] << 16)


def write(annotations: Annotations, folder: pathlib.Path, options: Options, losses: Losses) -> None:
    """Write `annotations/panoptic_<split>.json` with its PNGs, and `images/<split>`.

    Classes of which there is an instance are things.
    """
    names = [name for name in annotations.class_names if name != annotations.background]
    things = {thing.label for picture in annotations.pictures()
              for thing in picture.objects if thing.instance or thing.crowd}  # fmt: skip
    found: dict[str, tuple[list[Any], list[Any]]] = {}
    for picture in annotations.pictures():
        split = picture.split or DEFAULT_SPLIT
        own, written = found.setdefault(split, ([], []))
        stem = images.stem(picture.name)
        images.place(picture, folder / "images" / split / picture.name, link=options.link)
        height, width = picture.size
        number = len(own) + 1
        own.append({"id": number, "file_name": picture.name, "height": height, "width": width})
        ids, segments = _segments(picture, names, losses)
        shades = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)
        target = folder / "annotations" / f"panoptic_{split}" / f"{stem}.png"
        colour.save_png(target, Image.fromarray(shades))
        written.append({"image_id": number, "file_name": f"{stem}.png", "segments_info": segments})
    for split, (own, written) in found.items():
        content = {
            "info": {"description": "Converted by segjax"}, "licenses": [], "images": own,
            "annotations": written,
            "categories": [
                {"id": k, "name": name, "supercategory": "", "isthing": int(name in things),
                 "color": list(annotations.palette.get(name, shade))}
                for k, (name, shade) in enumerate(
                    zip(names, colour.voc_palette(len(names) + 1)[1:], strict=True), start=1)
            ],
        }  # fmt: skip
        files.write_json(folder / "annotations" / f"panoptic_{split}.json", content, indent=None)


def _segments(
    picture: Picture, names: list[str], losses: Losses
) -> tuple[Int[np.ndarray, "h w"], list[dict[str, Any]]]:
    numbers = {name: k for k, name in enumerate(names)}
    kept = [thing for thing in picture.objects if thing.label is None or thing.label in numbers]
    losses.add("{} objects of the background are left out", len(picture.objects) - len(kept))
    whole = Picture(picture.name, picture.content, picture.size, tuple(kept))
    drawn = draw.draw(whole, numbers, background=VOID_LABEL)
    folder_format.count(drawn, picture, losses, instances=True)
    keys = drawn.classes.astype(np.int64) << 16 | drawn.instances
    crowds = {thing.label for thing in kept if thing.crowd}
    ids, segments = np.zeros(picture.size, np.int64), []
    for key in np.unique(keys).tolist():
        kind, instance = key >> 16, key & 0xFFFF
        if kind == VOID_LABEL:
            continue
        mask = keys == key
        ids[mask] = len(segments) + 1
        ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        segments.append({
            "id": len(segments) + 1, "category_id": kind + 1, "area": int(mask.sum()),
            "bbox": [int(xs[0]), int(ys[0]), int(xs[-1] - xs[0]) + 1, int(ys[-1] - ys[0]) + 1],
            "iscrowd": int(not instance and names[kind] in crowds),
        })  # fmt: skip
    return ids, segments
