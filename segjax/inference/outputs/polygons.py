"""Regions as GeoJSON, LabelMe and COCO files, all in the corners' coordinates of `contours`."""

import os
import pathlib
from typing import Any

import numpy as np

from segjax.data import contours
from segjax.inference.outputs.found import Found
from segjax.runtime import files

LABELME = "5.5.0"
"""The version of LabelMe whose files these are like."""


def write_geojson(path: pathlib.Path, found: Found) -> None:
    """Write what `collection` gives."""
    files.write_json(path, collection(found), indent=None)


def collection(found: Found) -> dict[str, Any]:
    """Return a FeatureCollection with a Polygon for each region, its holes as further rings.

    The properties name the class, and again as QuPath reads it.
    """
    names, palette = found.classes.class_names, found.classes.palette
    features = [
        {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [_closed(ring) for ring in (region.outline, *region.holes)],
            },
            "properties": {
                "class": names[region.label],
                "number": region.label,
                "pixels": region.pixels,
                "objectType": "annotation",
                "classification": {
                    "name": names[region.label],
                    "color": list(palette[region.label]),
                },
            },
        }
        for region in found.regions
    ]
    return {"type": "FeatureCollection", "features": features}


def write_labelme(path: pathlib.Path, found: Found) -> None:
    """Write a polygon for each region as LabelMe does; holes are joined to the outline by cuts.

    The image is named by its path from this file, and not put into it.
    """
    height, width = found.whole
    shapes = [
        {
            "label": found.classes.class_names[region.label],
            "points": region.joined().astype(float).tolist(),
            "group_id": None,
            "description": "",
            "shape_type": "polygon",
            "flags": {},
            "mask": None,
        }
        for region in found.regions
    ]
    content = {
        "version": LABELME,
        "flags": {},
        "shapes": shapes,
        "imagePath": os.path.relpath(found.file.resolve(), path.parent.resolve()),
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    files.write_json(path, content, indent=None)


class Coco:
    """One COCO file of all images, an annotation for each region; holes are joined by cuts.

    A category's id is the class's number in the label maps. Ids of images and annotations count
    from 1: 0 means nothing found to pycocotools' scores.
    """

    def __init__(self) -> None:
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.categories: list[dict[str, Any]] = []

    def add(self, found: Found) -> None:
        """Add one image and its regions."""
        height, width = found.whole
        number = len(self.images) + 1
        image = {"id": number, "file_name": found.shown, "width": width, "height": height}
        self.images.append(image)
        for region in found.regions:
            self.annotations.append(
                {
                    "id": len(self.annotations) + 1,
                    "image_id": number,
                    "category_id": region.label,
                    "segmentation": [region.joined().ravel().tolist()],
                    "area": region.pixels,
                    "bbox": list(region.box),
                    "iscrowd": 0,
                }
            )
        self.categories = [
            {"id": k, "name": name, "supercategory": ""}
            for k, name in enumerate(found.classes.class_names)
            if k not in found.without
        ]

    def write(self, path: pathlib.Path) -> None:
        """Write the file.

        Raises:
            UserError: The disk is full or cannot be written.
        """
        content = {
            "info": {"description": "Predicted by segjax"},
            "licenses": [],
            "images": self.images,
            "annotations": self.annotations,
            "categories": self.categories,
        }
        files.write_json(path, content, indent=None)


def _closed(ring: contours.Ring) -> list[list[int]]:
    return np.concatenate([ring, ring[:1]]).tolist()
