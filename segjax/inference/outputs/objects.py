"""What is written of objects: numbered maps, outlines, and tables of all of them."""

import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from segjax.data.formats import rle
from segjax.errors import DataError, UserError
from segjax.inference.outputs import maps
from segjax.inference.outputs.found import Found
from segjax.inference.predictor import Detection, Prediction, Segments
from segjax.metrics import overlap
from segjax.runtime import files
from segjax.structs import IGNORE_LABEL, Classes, Objects
from segjax.views import colour, instances, outlines
from segjax.views.outlines import Region

LARGEST = 65535
"""The largest number that 16 bits hold."""
COLUMNS = ("file", "object", "class", "score", "area")
SIDES = {1: ("x0", "x1"), 2: ("y0", "x0", "y1", "x1"), 3: ("z0", "y0", "x0", "z1", "y1", "x1")}
"""The columns of a box by axes."""


def prediction_of(found: Detection, classes: Classes, *, least_score: float) -> Prediction:
    """Return what is found in an image as a class map.

    Of a panoptic task it is the class of every pixel's segment, 255 where it is of none. Of others
    it is that of the object with the highest score, from `least_score` on; elsewhere it is the
    first class that is not counted object by object, 255 where there is none.
    """

    def none() -> np.ndarray:
        raise UserError("objects have no probability of each class in every pixel.")

    if found.segments is not None:
        own = np.concatenate([[IGNORE_LABEL], found.segments.classes])
        numbers = found.segments.numbers
    else:
        rest = [k for k in range(len(classes.class_names)) if k not in classes.things]
        kept = sure(found.objects, least_score)
        own = np.concatenate([[rest[0] if rest else IGNORE_LABEL], kept.classes])
        numbers = outlines.numbers(kept.masks, found.size)
    return Prediction(own.astype(np.uint8)[numbers], none)


def sure(objects: Objects, least_score: float) -> Objects:
    """Return the objects with a score of at least `least_score`, the highest first."""
    order = np.argsort(-objects.scores, kind="stable")
    return overlap.take(objects, order[objects.scores[order] >= least_score])


def objects_of(found: Found) -> Objects:
    """Return the objects of an image.

    Raises:
        UserError: None were looked for.
    """
    if found.objects is None:
        raise UserError(f"{found.file}: no objects were looked for in it. Use a run of objects.")
    return found.objects


def counted(found: Found) -> dict[str, int]:
    """Return how many objects of each thing are sure enough to be painted."""
    kept, names = sure(objects_of(found), found.least_score), found.classes.class_names
    return {names[k]: int(np.count_nonzero(kept.classes == k)) for k in found.classes.things}


def painted(found: Found) -> Int32[np.ndarray, "*space"]:
    """Return the number of each pixel's object, counted from 1 by falling score; 0 is none.

    Where objects overlap the one of the higher score is on top.

    Raises:
        DataError: There are more than 16 bits can number.
    """
    kept = sure(objects_of(found), found.least_score)
    if len(kept.masks) > LARGEST:
        raise DataError(
            f"{found.file}: {len(kept.masks):,} objects, at most {LARGEST:,} can be numbered in 16 "
            "bits. Raise --least_score, or leave out --outputs=instances."
        )
    return outlines.numbers(kept.masks, found.whole)


def write_instances(path: pathlib.Path, found: Found) -> None:
    """Write the number of each pixel's object: a 16-bit PNG of a picture, else a NumPy file.

    Raises:
        DataError: As `painted`.
        UserError: The disk is full or cannot be written.
    """
    numbers = painted(found).astype(np.uint16)
    if path.suffix == ".png":
        colour.save_png(path, Image.fromarray(numbers))
    else:
        maps.save_array(path, numbers)


def write_overlay(path: pathlib.Path, found: Found) -> None:
    """Write the image with its objects outlined and numbered; of several classes named as well.

    Segments of stuff have the colour of their class below; a signal that of its classes alone.
    """
    if len(found.whole) == 1:
        maps.write_overlay(path, found)
        return
    instances.overlay(path, *_to_outline(found))


def picture(found: Found) -> UInt8[np.ndarray, "h w 3"]:
    """Return a picture as `write_overlay` saves it."""
    return instances.outlined(*_to_outline(found))


def _to_outline(found: Found) -> tuple[np.ndarray, Sequence[Region], list[str]]:
    """Return an image, the objects to outline in it and what is written into each."""
    kept = sure(objects_of(found), found.least_score)
    names = found.classes.class_names
    several = len(found.classes.things) > 1
    texts = [
        f"{number} {names[k]}" if several else str(number)
        for number, k in enumerate(kept.classes.tolist(), start=1)
    ]
    image = found.image
    if found.segments is not None:
        stuff = np.where(np.isin(found.label, found.classes.things), IGNORE_LABEL, found.label)
        image = colour.overlay(image, stuff.astype(np.uint8), found.classes.palette)
    return image, kept.masks, texts


def segments_of(found: Found) -> Segments:
    """Return the segments of an image.

    Raises:
        UserError: None were looked for.
    """
    if found.segments is None:
        raise UserError(f"{found.file}: no segments were looked for in it. Use a panoptic run.")
    return found.segments


def write_segments(path: pathlib.Path, found: Found) -> None:
    """Write the number of each pixel's segment as COCO panoptic has it, 0 is none.

    It is red + 256 green + 65536 blue.
    """
    numbers = segments_of(found).numbers
    bytes_ = np.stack([numbers >> shift & 255 for shift in (0, 8, 16)], axis=-1)
    colour.save_png(path, Image.fromarray(bytes_.astype(np.uint8)))


class Table:
    """One CSV of all objects of all images, a line for each, by falling score.

    Numbers of objects are those in the map of instances; what was not sure enough to be painted
    there has higher ones. Areas are in pixels, boxes are those that were predicted.
    """

    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []
        self.sides = SIDES[2]

    def add(self, found: Found) -> None:
        """Add the objects of one image."""
        own, names = sure(objects_of(found), 0.0), found.classes.class_names
        areas, self.sides = overlap.areas_of(own.masks).tolist(), SIDES[len(found.whole)]
        for i, k in enumerate(own.classes.tolist()):
            about = (str(found.file), i + 1, names[k], f"{own.scores[i]:.6g}", areas[i])
            self.lines.append((*about, *(f"{side:.7g}" for side in own.boxes[i].tolist())))

    def write(self, path: pathlib.Path) -> None:
        """Write the table, UTF-8; names of files that are none keep their bytes.

        Raises:
            UserError: The disk is full or cannot be written.
        """
        files.write_csv(path, [(*COLUMNS, *self.sides), *self.lines])


class _Dataset:
    """What COCO files over all images share.

    The id of an image is the number that its file is called by, as COCO's are, where all are
    called by different ones; else they count from 1. That of a category is the class's number.
    """

    def __init__(self) -> None:
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.categories: list[dict[str, Any]] = []

    def begin(self, found: Found) -> int:
        """Add one image, and return its place."""
        height, width = found.whole
        self.images.append({"file_name": found.shown, "height": height, "width": width})
        return len(self.images) - 1

    def write(self, path: pathlib.Path) -> None:
        """Write the file.

        Raises:
            UserError: The disk is full or cannot be written.
        """
        ids = ids_of([image["file_name"] for image in self.images])
        content = {
            "info": {"description": "Predicted by segjax"},
            "licenses": [],
            "images": [{"id": i, **image} for i, image in zip(ids, self.images, strict=True)],
            "annotations": [{**one, "image_id": ids[one["image_id"]]} for one in self.annotations],
            "categories": self.categories,
        }
        files.write_json(path, content, indent=None)


def ids_of(names: list[str]) -> list[int]:
    """Return the ids of images of these files, see `_Dataset`."""
    stems = [pathlib.PurePosixPath(name).stem for name in names]
    numbers = [int(stem) for stem in stems if re.fullmatch(r"[0-9]{1,15}", stem)]
    if len(set(numbers)) == len(names):
        return numbers
    return list(range(1, len(names) + 1))


class Results(_Dataset):
    """One COCO file of all images, an annotation for each object, with its score.

    Its `annotations` are what COCO's tools take for results. Ids of annotations count from 1.
    """

    def add(self, found: Found) -> None:
        """Add the objects of one image."""
        place, own = self.begin(found), sure(objects_of(found), 0.0)
        names, things = found.classes.class_names, found.classes.things
        self.categories = [{"id": k, "name": names[k], "supercategory": ""} for k in things]
        for i, k in enumerate(own.classes.tolist()):
            corner, inside = own.masks[i]
            whole = np.zeros(found.whole, bool)
            box = tuple(slice(a, a + side) for a, side in zip(corner, inside.shape, strict=True))
            whole[box] = inside
            y0, x0, y1, x1 = own.boxes[i].tolist()
            self.annotations.append(
                {
                    "id": len(self.annotations) + 1,
                    "image_id": place,
                    "category_id": k,
                    "segmentation": {
                        "size": list(found.whole),
                        "counts": rle.compress(rle.coco_runs(whole)),
                    },
                    "area": int(np.count_nonzero(inside)),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "score": float(own.scores[i]),
                    "iscrowd": 0,
                }
            )


class Panoptic(_Dataset):
    """One COCO panoptic file of all images, which names the segments in each image's PNG."""

    def add(self, found: Found) -> None:
        """Add the segments of one image."""
        place, own = self.begin(found), segments_of(found)
        names, things = found.classes.class_names, found.classes.things
        self.categories = [
            {"id": k, "name": name, "supercategory": "", "isthing": int(k in things),
             "color": list(found.classes.palette[k])}
            for k, name in enumerate(names)
        ]  # fmt: skip
        areas = np.bincount(own.numbers.ravel(), minlength=len(own.classes) + 1)
        segments = []
        for number, (corner, inside) in outlines.regions(own.numbers):
            (y, x), (height, width) = corner, inside.shape
            segments.append(
                {
                    "id": number + 1,
                    "category_id": int(own.classes[number]),
                    "area": int(areas[number + 1]),
                    "bbox": [x, y, width, height],
                    "iscrowd": 0,
                }
            )
        self.annotations.append(
            {"image_id": place, "file_name": found.segments_file, "segments_info": segments}
        )
