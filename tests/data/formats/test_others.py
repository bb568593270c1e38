"""Other people's readers see in our files what is in them, and we in theirs what they see.

pycocotools, labelformat and datumaro (Python 3.11 only) are no part of requirements.txt; without
them these tests are skipped.
"""

import json

import numpy as np
import pytest

from segjax.data.formats import base, classes, raster
from tests.data.formats import made
from tests.data.formats.made import SAMPLES

pytestmark = [pytest.mark.slow, made.needs_samples]
LABELME = SAMPLES / "labelme" / "instance_segmentation" / "data_annotated"


def masks_of(picture: base.Picture) -> list[tuple[str, np.ndarray]]:
    """Return the class and the whole mask of each object, in order."""
    found = []
    for thing in picture.objects:
        patch = raster.patch_of(thing, picture.size, where="")
        mask = np.zeros(picture.size, bool)
        mask[patch.place] = patch.mask
        found.append((thing.label, mask))
    return found


def written(kind, tmp_path, source=None, **options):
    """Return a data set with holes and pieces, or LabelMe's sample, in a format."""
    if source is None:
        path = made.folder(tmp_path / "in", void=False)
        made.run("folder", kind, path, tmp_path / "out", **options)
    else:
        made.run("labelme", kind, source, tmp_path / "out", **options)
    return tmp_path / "out"


def same(ours: list, theirs: list) -> bool:
    """Say whether both have the same masks of the same classes, in whatever order."""
    key = [(label, mask.astype(np.uint8).tobytes()) for label, mask in ours]
    other = [(label, mask.astype(np.uint8).tobytes()) for label, mask in theirs]
    return sorted(key) == sorted(other)


@pytest.mark.parametrize("case", ["ours", "labelme", "panoptic", "stuff"])
def test_pycocotools_sees_the_same_masks(case, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    options = {}
    if case in ("ours", "labelme"):
        root = written("coco", tmp_path, LABELME if case == "labelme" else None)
        file = root / "annotations/instances_train.json"
    elif case == "panoptic":
        root = file = SAMPLES / "coco_panoptic/panoptic_coco_detection_format.json"
        options = {"images": SAMPLES / "coco_panoptic/input_images"}
    else:
        root = SAMPLES / "datumaro/coco_dataset/coco_stuff"
        file = root / "annotations/stuff_train.json"
    theirs = coco.COCO(str(file))
    _, pictures = made.pictures("coco", root, **options)
    names = {one["id"]: one["name"] for one in theirs.dataset["categories"]}
    for image in theirs.dataset["images"]:
        own = [one for one in theirs.dataset["annotations"] if one["image_id"] == image["id"]]
        masks = [(names[one["category_id"]], theirs.annToMask(one) > 0) for one in own]
        assert masks and same(masks_of(pictures[image["file_name"]]), masks)


def test_labelformat_sees_the_same_outlines(tmp_path):
    coco = pytest.importorskip("labelformat.formats.coco")
    yolo = pytest.importorskip("labelformat.formats.yolov8")
    root = written("coco", tmp_path / "coco", LABELME)
    file = root / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    found = list(coco.COCOInstanceSegmentationInput(file).get_labels())
    rings = [[sum(map(list, ring), []) for ring in one.segmentation.polygons]
             for image in found for one in image.objects]  # fmt: skip
    assert sorted(rings) == sorted(one["segmentation"] for one in content["annotations"])
    root = written("yolo", tmp_path / "yolo", LABELME)
    found = yolo.YOLOv8InstanceSegmentationInput(root / "data.yaml", "train").get_labels()
    theirs = {image.image.filename: image for image in found}
    for name, picture in made.pictures("yolo", root, order="file")[1].items():
        objects = theirs[name].objects
        assert [one.category.name for one in objects] == [one.label for one in picture.objects]
        for one, thing in zip(objects, picture.objects, strict=True):
            (polygon,) = one.segmentation.polygons
            assert np.allclose(np.array(polygon), thing.parts[0].rings[0], atol=0.02)


DATUMARO = {
    "coco": ("coco_instances", "coco"),
    "cvat": ("cvat", "cvat"),
    "voc": ("voc_segmentation", "voc"),
    "cityscapes": ("cityscapes", "cityscapes"),
}


@pytest.mark.parametrize("kind", DATUMARO)
def test_datumaro_sees_the_same_classes(kind, tmp_path):
    """Its own merge of masks by order is not asked: each class's pixels are compared.

    Of Cityscapes it sees those without instances alone: it does not divide by 1000.
    """
    datumaro = pytest.importorskip("datumaro")
    source = made.folder(tmp_path / "in", void=False)
    from segjax.data.formats import convert

    wishes = convert.Wishes(class_map=classes.parse_map("background=unlabeled"))
    options = {"cityscapes": {"wishes": wishes}, "voc": {"target": "semantic"}}.get(kind, {})
    made.run("folder", kind, source, tmp_path / "out", **options)
    theirs = datumaro.Dataset.import_from(str(tmp_path / "out"), DATUMARO[kind][0])
    names = [label.name for label in theirs.categories()[datumaro.AnnotationType.label]]
    ours = {name.rpartition("/")[2]: kinds
            for name, (kinds, _) in made.maps("folder", source).items()}  # fmt: skip
    seen = 0
    for item in theirs:
        name = item.id.rpartition("/")[2].removesuffix("_leftImg8bit") + ".png"
        kinds = ours[name]
        for label in ("road",) if kind == "cityscapes" else ("road", "car", "person"):
            mask = np.zeros(kinds.shape, bool)
            for one in item.annotations:
                if one.type in (datumaro.AnnotationType.mask, datumaro.AnnotationType.polygon):
                    if one.label is not None and names[one.label] == label:
                        mask |= _mask(datumaro, one, kinds.shape)
            assert (mask == (kinds == label)).all(), (name, label)
            seen += 1
    assert seen == (2 if kind == "cityscapes" else 6)


def _mask(datumaro, one, shape) -> np.ndarray:
    if one.type == datumaro.AnnotationType.mask:
        return np.asarray(one.image) > 0
    from pycocotools import mask

    return mask.decode(mask.frPyObjects([list(one.points)], *shape))[..., 0] > 0
