"""Tiny data sets that tests make themselves, and what a conversion of them gives."""

import json
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from segjax.data.formats import base, classes, convert, draw, kinds

SAMPLES = pathlib.Path(os.environ.get("SEGJAX_DATA", "data")) / "formats"
needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="needs formats/ in SEGJAX_DATA: samples of other tools"
)


def photo(path: pathlib.Path, size: tuple[int, int]) -> pathlib.Path:
    """Write an image of a height and width."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(sum(size)).integers(0, 255, (*size, 3), np.uint8)
    Image.fromarray(values).save(path)
    return path


def dump(path: pathlib.Path, content) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def run(read, write, path, output, *, wishes=None, **options) -> list[str]:
    """Convert, and return the lines."""
    wishes = wishes or convert.Wishes()
    found = base.Options(**options)
    return convert.convert(read, write, path, output, options=found, wishes=wishes)


def pictures(source, path, *, wishes=None, **options):
    """Return annotations and all pictures by name."""
    found = convert.prepare(
        source, path, options=base.Options(**options), wishes=wishes or convert.Wishes()
    )
    return found, {picture.name: picture for picture in found.pictures()}


def maps(source, path, **options) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the class and instance map of every image; classes by name, void as 'void'."""
    found, by_name = pictures(source, path, **options)
    numbering = classes.number(found)
    names = np.array([*numbering.names, *[""] * (255 - len(numbering.names)), "void"])
    drawn = {
        name: draw.draw(picture, numbering.numbers, background=numbering.background)
        for name, picture in by_name.items()
    }
    return {name: (names[one.classes], one.instances) for name, one in drawn.items()}


def same_instances(a: np.ndarray, b: np.ndarray) -> bool:
    """Say whether two maps tell the same objects apart, whatever their numbers; 0 is none."""
    pairs = set(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
    one_to_one = len({x for x, _ in pairs}) == len({y for _, y in pairs}) == len(pairs)
    return one_to_one and all((x == 0) == (y == 0) for x, y in pairs)


def readable() -> list[str]:
    return list(kinds.FORMATS)


SIZES = {"a.png": (24, 30), "b/c.png": (17, 13)}


def folder(root: pathlib.Path, *, holes: bool = True, void: bool = True) -> pathlib.Path:
    """Write a data set of segjax's own layout, of classes that Cityscapes has, with instances."""
    names = ["background", "road", "car", "person"]
    for name, size in SIZES.items():
        label, which = np.zeros(size, np.uint8), np.zeros(size, np.uint16)
        label[10:, :] = 1
        for number, (y, x, kind) in enumerate(((2, 1, 2), (4, 7, 3), (8, 3, 2)), start=1):
            label[y : y + 5, x : x + 5], which[y : y + 5, x : x + 5] = kind, number
            if holes:
                label[y + 2, x + 2], which[y + 2, x + 2] = 0, 0
        label[12:14, 9:12], which[12:14, 9:12] = 2, 1  # another piece of the first car
        if void:
            label[-2:, -4:] = 255
        photo(root / "train" / "images" / name, size)
        for kind, array in (("labels", label), ("instances", which)):
            path = (root / "train" / kind / name).with_suffix(".png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    dump(root / "meta.json", {"class_names": names, "ignore_index": 255})
    return root


def labelme(root: pathlib.Path) -> pathlib.Path:
    """Write LabelMe files with a shape of each kind, a group, a flag, and void."""
    photo(root / "x" / "a.png", (40, 50))
    shapes = [
        ("car", "polygon", [[3.2, 4.1], [20.8, 6.3], [12.5, 25.9]], 1),
        ("car", "rectangle", [[25, 5], [38.5, 14.2]], 1),
        ("dog", "circle", [[30, 25], [34, 28]], None),
        ("dog", "point", [[8, 33]], None),
        ("dog", "line", [[20, 30], [25, 38]], None),
        ("cat", "linestrip", [[40, 20], [45, 25], [42, 36]], None),
        ("__ignore__", "polygon", [[0, 0], [6, 0], [6, 6], [0, 6]], None),
    ]
    content = {
        "version": "5.5.0",
        "flags": {"night": True, "wet": False},
        "shapes": [
            {"label": label, "shape_type": kind, "points": points, "group_id": group,
             "flags": {"truncated": True} if group else {}, "description": "", "mask": None}
            for label, kind, points, group in shapes
        ],
        "imagePath": "a.png", "imageData": None, "imageHeight": 40, "imageWidth": 50,
    }  # fmt: skip
    dump(root / "x" / "a.json", content)
    return root


def coco(root: pathlib.Path, *, annotations=None, image=None, categories=None) -> pathlib.Path:
    """Write a COCO file of one image with two polygons, a crowd and a box."""
    photo(root / "images" / "a.png", (24, 30))
    runs = {"size": [24, 30], "counts": [50, 20, 4, 20, 24 * 30 - 94]}
    own = [
        {"segmentation": [[2.5, 1.5, 20.2, 4.8, 14.1, 18.9], [20, 14, 28, 14, 28, 22]]},
        {"segmentation": [[10, 3, 18, 3, 18, 9, 10, 9]], "category_id": 5,
         "attributes": {"colour": "red"}},
        {"segmentation": runs, "iscrowd": 1},
        {"segmentation": [], "bbox": [1, 2, 3, 4]},
    ] if annotations is None else annotations  # fmt: skip
    numbered = [
        {"id": k, "image_id": 7, "category_id": 2, "iscrowd": 0, **one} for k, one in enumerate(own)
    ]
    dump(root / "annotations" / "instances_train.json", {
        "images": [{"id": 7, "file_name": "a.png", "height": 24, "width": 30, **(image or {})}],
        "annotations": numbered,
        "categories": categories or [{"id": 5, "name": "cup"}, {"id": 2, "name": "table"}],
    })  # fmt: skip
    return root


def cvat(root: pathlib.Path, *, shapes: str = "", head: str = "") -> pathlib.Path:
    """Write a CVAT file of one image with a shape of each kind."""
    photo(root / "images" / "a.png", (24, 30))
    shapes = shapes or (
        '<polygon label="car" points="2.5,1.5;20.2,4.8;14.1,18.9" z_order="2" group_id="3">'
        '<attribute name="colour">red</attribute></polygon>'
        '<box label="road" xtl="1" ytl="9.5" xbr="28" ybr="22.5" z_order="0" occluded="1"/>'
        '<ellipse label="car" cx="22" cy="8" rx="5" ry="3" rotation="30" z_order="1"/>'
        '<mask label="car" rle="1, 4, 2, 3, 2" left="3" top="19" width="4" height="3" '
        'z_order="3" group_id="3"/>'
        '<polyline label="car" points="1,1;5,5"/><tag label="night"/>'
    )
    labels = "".join(f"<label><name>{name}</name><color>#10a0ff</color></label>"
                     for name in ("road", "car"))  # fmt: skip
    root.mkdir(exist_ok=True)
    (root / "annotations.xml").write_text(
        f'<?xml version="1.0"?>{head}<annotations><version>1.1</version><meta><task><labels>'
        f'{labels}</labels></task></meta><image id="0" name="a.png" width="30" height="24">'
        f"{shapes}</image></annotations>"
    )
    return root
