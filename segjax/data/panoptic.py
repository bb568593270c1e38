"""COCO panoptic: class maps of things and stuff alike, 133 classes, and the objects of things.

`annotations/panoptic_<split>.json` names the segments of each image, and a PNG beside it holds
their ids (red + 256 green + 65536 blue). Classes are in the order of the categories' ids; a crowd
is of its class; pixels of id 0 are void. A segment of a thing is an object, or a crowd of them.
"""

import pathlib
from typing import Any, NamedTuple

import numpy as np

from segjax.config import kinds
from segjax.data import base, core, decode, masks, opening
from segjax.data.formats import coco, coco_panoptic, parse
from segjax.errors import DataError
from segjax.structs import IGNORE_LABEL, Objects


class _Segments(NamedTuple):
    """Of an image: ids in order, the class of each, and which are crowds."""

    ids: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray


class Source(base.ObjectFiles):
    """One split of COCO panoptic.

    Args:
        split: Its name, which `{split}` stands for.
        root: The folder of the data set.
        images: Folder of the images, below `root`.
        annotations: The JSON file; PNG files lie in the folder of its name.
        dtype: Type of the images.
        expected: How many examples splits have, see `folder.Source`.
        objects: Room for objects in each example; 0: it has none.

    Raises:
        DataError: A file is missing or wrong; when an example is read: a segment of no category, or
            a PNG of another size.
    """

    def __init__(
        self,
        *,
        split: str,
        root: str,
        images: str = "{split}2017",
        annotations: str = "annotations/panoptic_{split}2017.json",
        dtype: kinds.PixelType = "uint8",
        expected: base.Expected | None = None,
        objects: core.MostObjects = 0,
    ):
        folder = base.folder_of(root)
        path = folder / annotations.replace("{split}", split)
        where = str(path)
        content = parse.section(parse.read_json(path, limit=coco.LIMIT), where=where)
        categories = sorted(
            parse.fields(content, "categories", where=where),
            key=lambda one: parse.field(one, "id", int, where=where),
        )
        names = [parse.field(one, "name", str, where=where) for one in categories]
        self.class_numbers = {one["id"]: number for number, one in enumerate(categories)}
        shown = {
            parse.field(one, "id", int, where=where): _file_of(one, where=where)
            for one in parse.fields(content, "images", where=where)
        }
        files: list[base.Pair] = []
        self.segments: list[_Segments] = []
        for one in parse.fields(content, "annotations", where=where):
            image = shown.get(parse.field(one, "image_id", int, where=where))
            if image is None:
                raise DataError(f"{where}: image_id={one['image_id']} is no image. Mend the file.")
            mask = _file_of(one, where=where)
            # The JSON file is there for the hash by which an edited one is noticed.
            file = folder / images.replace("{split}", split) / image
            files.append((file, [path.with_suffix("") / mask, path]))
            self.segments.append(self._segments(one, where=where))
        if not files:
            raise DataError(f"{where}: no annotations. Complete the file.")
        base.check_count(len(files), expected, split, where=where)
        base.check_present(files)
        palette = tuple(tuple(one["color"]) for one in categories if _is_colour(one.get("color")))
        super().__init__(
            files,
            root=folder,
            class_names=core.check_classes(names, where=where),
            palette=palette if len(palette) == len(names) else (),
            numbers=base.Numbers(len(names)),
            reading=decode.Reading(dims=2),
            channels=3,
            dtype=dtype,
        )
        self.count(
            [k for k, one in enumerate(categories) if coco_panoptic.is_thing(one)], most=objects
        )

    def object_counts(self) -> list[int]:
        """Return how many segments of things each image has."""
        return [int(np.isin(own.classes, self.things).sum()) for own in self.segments]

    def _segments(self, one: dict[str, Any], *, where: str) -> _Segments:
        segments = parse.fields(one, "segments_info", where=where)
        ids = np.array([parse.field(s, "id", int, where=where) for s in segments], np.int64)
        kinds_ = [parse.field(s, "category_id", int, where=where) for s in segments]
        unknown = [kind for kind in kinds_ if kind not in self.class_numbers]
        if unknown:
            raise DataError(f"{where}: category_id={unknown[0]} is no category. Mend the file.")
        classes = np.array([self.class_numbers[kind] for kind in kinds_], np.uint8)
        crowd = np.array([one.get("iscrowd") in (1, True) for one in segments], bool)
        order = np.argsort(ids)
        return _Segments(ids[order], classes[order], crowd[order])

    def check_one(self, pair: base.Pair) -> tuple[int, ...]:
        """Check an image and its PNG by their headers, and return the sides."""
        image, (png, _) = pair
        whole = opening.check_header(image, self.reading)
        ids = opening.check_header(pathlib.Path(str(png)), self.reading)
        decode.check_sizes(whole, ids, str(image), str(png), exif=True)
        return whole

    def read_label(self, index: int, image: opening.Opened) -> np.ndarray:
        """Return the class of every pixel's segment."""
        return self._label(index, self._ids(index, image))

    def read_both(self, index: int, image: opening.Opened) -> tuple[np.ndarray, Objects]:
        """Return that label, and the segments of things."""
        ids, own = self._ids(index, image), self.segments[index]
        about = {
            number: masks.About(kind, crowd)
            for number, kind, crowd in zip(*(each.tolist() for each in own), strict=True)
            if kind in self.things
        }
        return self._label(index, ids), masks.of_map(ids, about)

    def _ids(self, index: int, image: opening.Opened) -> np.ndarray:
        """Return the segment id of every pixel."""
        file, (png, _) = self.files[index]
        assert png is not None  # noqa: S101  every image has its PNG
        ids = coco_panoptic.ids_of(png)
        decode.check_sizes(image.array.shape[:-1], ids.shape, str(file), str(png), exif=True)
        return ids

    def _label(self, index: int, ids: np.ndarray) -> np.ndarray:
        """Return the class of every pixel of a map of segments; void where there is none."""
        png = self.files[index][1][0]
        known, classes, _ = self.segments[index]
        found, back = np.unique(ids, return_inverse=True)
        place = np.searchsorted(known, found).clip(0, max(0, len(known) - 1))
        there = known[place] == found if len(known) else np.zeros(len(found), bool)
        if not (there | (found == 0)).all():
            raise DataError(
                f"{png}: segment {found[~there & (found != 0)][0]} is none of its segments_info. "
                "Mend the file."
            )
        own = np.full(len(found), IGNORE_LABEL, np.uint8)
        own[there] = classes[place[there]]
        return own[back].reshape(ids.shape)


def _file_of(one: dict[str, Any], *, where: str) -> pathlib.PurePosixPath:
    return base.below(parse.field(one, "file_name", str, where=where), where=where)


def _is_colour(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(type(v) is int and 0 <= v < 256 for v in value)
    )
