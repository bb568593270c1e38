"""COCO: one JSON file for all images of a split, with polygons, run lengths and crowds.

Pixels are those of pycocotools; polygons of one annotation are parts of it (`--holes=even_odd`
makes holes of inner ones). In a class map the later annotation covers the earlier, as COCO's own
`cocoSegmentationToSegmentationMap` does it. Classes are in the order of their ids.
"""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from segjax.data import listing
from segjax.data.formats import classes, images, outlines, parse, rle
from segjax.data.formats.base import (
    DEFAULT_SPLIT,
    Annotations,
    Box,
    Losses,
    Object,
    Options,
    Part,
    Picture,
    Pixels,
    Rings,
    Size,
)
from segjax.data.formats.raster import Patch
from segjax.errors import DataError
from segjax.runtime import files

LIMIT = 1 << 30
"""Bytes of a file: that of COCO's 118,287 training images has 470 MB."""
_ROBOFLOW = "_annotations.coco.json"
_INSTANCES = re.compile(r"instances_(?P<split>.+)\.json")
_STUFF = re.compile(r"stuff_(?P<split>.+)\.json")


@dataclasses.dataclass(frozen=True)
class _File:
    """One file, parsed."""

    path: pathlib.Path
    split: str
    images: list[dict[str, Any]]
    annotations: Mapping[int, list[dict[str, Any]]]
    names: Mapping[int, str]
    folders: list[pathlib.Path]


def read(path: pathlib.Path, options: Options) -> Annotations:
    """Return the data set of a file, or of those of a folder.

    A folder has `annotations/instances_<split>.json` (or `stuff_<split>.json`),
    `<split>/_annotations.coco.json`, or one JSON file. Images are below `--images`, the folder, its
    `images`, and those folders of the split.

    Raises:
        DataError: No such file, or one that cannot be used.
    """
    root = path if path.is_dir() else path.parent
    root = root.parent if root.name == "annotations" and not path.is_dir() else root
    found = [_parse(file, split, root, options) for file, split in _files(path)]
    names: dict[str, None] = {}
    for name in (name for one in found for _, name in sorted(one.names.items())):
        names[name] = None
    class_names = options.class_names or tuple(names)
    return Annotations(
        class_names,
        functools.partial(_pictures, found),
        background=classes.background_of(class_names) or "background",
    )


def _files(path: pathlib.Path) -> list[tuple[pathlib.Path, str]]:
    """Return the files and their splits."""
    if not path.is_dir():
        named = _INSTANCES.fullmatch(path.name)
        return [(path, named["split"] if named else "")]
    found = [each for each in listing.walk(path) if each.suffix.lower() == ".json"]
    named, stuff = (
        [(each, match["split"]) for each in found if (match := pattern.fullmatch(each.name))]
        for pattern in (_INSTANCES, _STUFF)
    )
    robo = [(each, each.parent.name) for each in found if each.name == _ROBOFLOW]
    if named or robo or stuff:
        return named or robo or stuff
    if len(found) != 1:
        raise DataError(
            f"{path}: {len(found)} JSON files; expected instances_<split>.json, "
            f"<split>/{_ROBOFLOW}, or one alone. Name the file that is meant with --input."
        )
    return [(found[0], "")]


def _parse(file: pathlib.Path, split: str, root: pathlib.Path, options: Options) -> _File:
    where = str(file)
    content = parse.section(parse.read_json(file, limit=LIMIT), where=where)
    names: dict[int, str] = {}
    for one in parse.fields(content, "categories", where=where):
        number = parse.field(one, "id", int, where=where)
        if number in names:
            raise DataError(f"{where}: two categories of id {number}. Number them differently.")
        names[number] = parse.field(one, "name", str, where=where)
    if len(set(names.values())) < len(names):
        raise DataError(f"{where}: two categories of one name. Rename one, or merge them.")
    own = parse.fields(content, "images", where=where)
    grouped: dict[int, list[dict[str, Any]]] = {
        parse.field(image, "id", int, where=f"{where}: images[{k}]"): []
        for k, image in enumerate(own)
    }
    for k, one in enumerate(parse.fields(content, "annotations", where=where)):
        number = parse.field(one, "image_id", int, where=f"{where}: annotations[{k}]")
        if number not in grouped:
            raise DataError(f"{where}: annotations[{k}] is of image {number}, which there is not.")
        grouped[number].append(one)
    folders = [root, root / "images", root / "images" / split, root / split, file.parent]
    folders = [options.images] if options.images else list(dict.fromkeys(folders))
    return _File(file, split, own, grouped, names, folders)


def _pictures(found: list[_File]) -> Iterator[Picture]:
    for one in found:
        for number, image in enumerate(one.images):
            where = f"{one.path}: images[{number}]"
            name = parse.field(image, "file_name", str, where=where)
            file = images.find(name, one.folders, where=where)
            height, width = (
                parse.field(image, side, int, where=where, default=0)
                for side in ("height", "width")
            )
            claimed = (height, width) if height and width else None
            size = images.size_of(file, name=str(file), claimed=claimed, where=where)
            things, dropped = [], []
            for annotation in one.annotations[parse.field(image, "id", int, where=where)]:
                thing, reason = _object(annotation, one, size)
                things += [thing] if thing else []
                dropped += [reason] if reason else []
            name = _plain(name, file)
            yield Picture(name, file, size, tuple(things), split=one.split, dropped=tuple(dropped))


def _plain(name: str, file: pathlib.Path) -> str:
    """Return an image's name, which has been found below a folder; an absolute one's last part."""
    name = name.replace("\\", "/")
    outside = name.startswith(("/", "..")) or ":" in name[:3]
    return file.name if outside else pathlib.PurePosixPath(name).as_posix()


def _object(annotation: Mapping[str, Any], file: _File, size: Size) -> tuple[Object | None, str]:
    """Return the object of an annotation, or why there is none."""
    where = f"{file.path}: annotation {annotation.get('id')!r:.40}"
    category = parse.field(annotation, "category_id", int, where=where)
    if category not in file.names:
        raise DataError(f"{where}: category_id={category}, which is no category. Mend the file.")
    part, reason = _part(annotation, size, where=where)
    if part is None:
        return None, reason
    crowd = annotation.get("iscrowd") in (1, True)
    attributes = parse.field(annotation, "attributes", dict, where=where, default={})
    more = {name: annotation[name] for name in ("keypoints", "caption", "score")
            if annotation.get(name)}  # fmt: skip
    thing = Object(
        file.names[category], (part,), instance=not crowd, crowd=crowd, attributes=attributes | more
    )
    return thing, reason


def _part(annotation: Mapping[str, Any], size: Size, *, where: str) -> tuple[Part | None, str]:
    found = annotation.get("segmentation")
    if isinstance(found, dict):
        return Pixels(_mask(found, size, where=where), True), ""
    if found:
        if not isinstance(found, list):
            raise DataError(f"{where}: expected segmentation, a list or an object. Mend the file.")
        rings = [one for one in found if not isinstance(one, list) or len(one) not in (0, 2, 4)]
        rings = tuple(parse.ring(one, where=where) for one in rings)
        few = "of an outline of fewer than three points" if len(rings) < len(found) else ""
        return (Rings(rings, "coco") if rings else None), few
    box = annotation.get("bbox")
    if not box:
        return None, "of an annotation without an outline"
    (x, y), (width, height) = parse.ring(box, where=where, least=2)[:2].tolist()
    return Box(x, y, x + width, y + height, "coco"), ""


def _mask(found: Mapping[str, Any], size: Size, *, where: str) -> np.ndarray:
    if found.get("size") != list(size):
        raise DataError(
            f"{where}: a mask of size {found.get('size')!r:.60}, its image has {list(size)} "
            "(height, width). Mend the file."
        )
    counts = found.get("counts")
    if isinstance(counts, str):
        runs = rle.decompress(counts, where=where)
    else:
        try:
            runs = np.array(counts, np.int64)
        except (TypeError, ValueError, OverflowError):
            runs = np.zeros((0, 0), np.int64)
        if runs.ndim != 1:
            raise DataError(f"{where}: expected counts, a text or whole numbers. Mend the mask.")
    return rle.coco_mask(runs, size, where=where)


def write(annotations: Annotations, folder: pathlib.Path, options: Options, losses: Losses) -> None:
    """Write `annotations/instances_<split>.json` and `images/<split>/`.

    Outlines are written as they are; whatever else is not a crowd as outlines that pycocotools
    fills exactly, holes joined to them by cuts. Ids of classes count from 1.
    """
    names = [name for name in annotations.class_names if name != annotations.background]
    found: dict[str, _Written] = {}
    for picture in annotations.pictures():
        split = picture.split or DEFAULT_SPLIT
        images.place(picture, folder / "images" / split / picture.name, link=options.link)
        found.setdefault(split, _Written([], [])).add(picture, names, losses)
    for split, one in found.items():
        content = {
            "info": {"description": "Converted by segjax"},
            "licenses": [],
            "images": one.images,
            "annotations": one.annotations,
            "categories": [{"id": k, "name": name, "supercategory": ""}
                           for k, name in enumerate(names, start=1)],
        }  # fmt: skip
        files.write_json(folder / "annotations" / f"instances_{split}.json", content, indent=None)


@dataclasses.dataclass(frozen=True)
class _Written:
    """What is to be written of one split."""

    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]

    def add(self, picture: Picture, names: list[str], losses: Losses) -> None:
        """Add a picture and its objects."""
        number = len(self.images) + 1
        height, width = picture.size
        image = {"id": number, "file_name": picture.name, "width": width, "height": height}
        self.images.append(image)
        losses.add("{} tags of images are left out", len(picture.tags))
        for thing, patch in outlines.instances(picture):
            if thing.label is None or thing.label not in names:
                what = "void objects" if thing.label is None else "objects of the background"
                losses.add(f"{{}} {what} are left out")
                continue
            losses.add("{} objects that are all pixels of a class are one annotation each "
                       "(--components makes one of each piece)",
                       not thing.instance and not thing.crowd)  # fmt: skip
            segmentation = _segmentation(thing, patch, picture.size)
            if not segmentation:
                losses.add("{} objects have no pixel in their image")
                continue
            top, left, mask = patch
            entry = {
                "id": len(self.annotations) + 1,
                "image_id": number,
                "category_id": names.index(thing.label) + 1,
                "segmentation": segmentation,
                "area": int(mask.sum()),
                "bbox": [left, top, mask.shape[1], mask.shape[0]],
                "iscrowd": int(thing.crowd),
            }
            if thing.attributes:
                entry["attributes"] = dict(thing.attributes)
            self.annotations.append(entry)


def _segmentation(thing: Object, patch: Patch, size: Size) -> Any:
    if thing.crowd:
        whole = np.zeros(size, bool)
        whole[patch.place] = patch.mask
        return {"size": list(size), "counts": rle.compress(rle.coco_runs(whole))}
    drawn = outlines.of(thing)
    rings = outlines.joined(patch) if drawn is None else drawn
    return [ring.ravel().tolist() for ring in rings]
