"""The publishers' own samples give the pixels that their converters wrote beside them."""

import json

import numpy as np
import pytest
from PIL import Image

from segjax.data.formats import base, classes, coco_panoptic, convert, draw
from tests.data.formats import made
from tests.data.formats.made import SAMPLES

pytestmark = made.needs_samples
LABELME = SAMPLES / "labelme"
RECORDED = {"2011_000006": 1, "apc2016_obj3": 8}
"""Pixels that the recorded files have otherwise. The first are Pillow 9.5's and 10.4's; up to 8.4
and since 11 it paints one pixel of a border differently, and LabelMe paints with whatever Pillow is
installed. The second were not made of this JSON file: no Pillow from 5.4 to 13 gives them."""


def numbers(path) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("kind", ["semantic_segmentation", "instance_segmentation"])
def test_labelme_gives_labelme2voc(kind, tmp_path):
    """Order, groups and `__ignore__` as `labelme2voc` has them."""
    root = LABELME / kind
    names = classes.parse_names(str(root / "labels.txt"))
    made.run("labelme", "voc", root / "data_annotated", tmp_path / "out", class_names=names)
    expected = root / "data_dataset_voc"
    assert (tmp_path / "out" / "class_names.txt").read_text().split() == (
        expected / "class_names.txt"
    ).read_text().split()
    for file in sorted((expected / "SegmentationClass").glob("*.png")):
        found, wanted = numbers(tmp_path / "out" / "SegmentationClass" / file.name), numbers(file)
        assert (found != wanted).sum() == RECORDED.get(file.stem, 0), file.name
        if kind == "instance_segmentation":
            same = found == wanted
            found = numbers(tmp_path / "out" / "SegmentationObject" / file.name)
            wanted = numbers(expected / "SegmentationObject" / file.name)
            found, wanted = found[same], wanted[same]
            assert made.same_instances(np.where(found == 255, 0, found), np.where(
                wanted == 255, 0, wanted)), file.name  # fmt: skip


def test_labelme_without_a_list_has_the_alphabet():
    found = made.maps("labelme", LABELME / "tutorial")["apc2016_obj3.jpg"][0]
    names = (LABELME / "tutorial" / "apc2016_obj3" / "label_names.txt").read_text().split()
    wanted = np.array(names)[numbers(LABELME / "tutorial" / "apc2016_obj3" / "label.png")]
    assert (found != wanted).sum() == RECORDED["apc2016_obj3"]


def test_labelme_gives_labelme2coco(tmp_path):
    """Polygons in one annotation for each group, areas and boxes of the painted pixels."""
    root = LABELME / "instance_segmentation"
    names = classes.parse_names(str(root / "labels.txt"))
    made.run("labelme", "coco", root / "data_annotated", tmp_path / "out", class_names=names)
    found = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    wanted = json.loads((root / "data_dataset_coco" / "annotations.json").read_text())

    def by_image(content):
        stems = {one["id"]: one["file_name"].split("/")[-1] for one in content["images"]}
        names = {one["id"]: one["name"] for one in content["categories"]}
        return sorted(
            (stems[one["image_id"]], names[one["category_id"]], one["area"], one["bbox"],
             [len(ring) for ring in one["segmentation"]])
            for one in content["annotations"]
        )  # fmt: skip

    for one, other in zip(by_image(found), by_image(wanted), strict=True):
        assert one[:2] == other[:2] and one[4] == other[4]
        assert abs(one[2] - other[2]) <= RECORDED.get(one[0].removesuffix(".jpg"), 0)
        assert one[3] == other[3]


def test_labelme_primitives_are_all_drawn():
    found, by_name = made.pictures("labelme", LABELME / "primitives")
    (picture,) = by_name.values()
    drawn = draw.draw(picture, classes.number(found).numbers, background=0)
    assert len(picture.objects) == len(drawn.labels) == 8 and not picture.dropped
    octagon = next(one for one in picture.objects if one.label == "octagon")
    assert isinstance(octagon.parts[0], base.Pixels) and octagon.parts[0].mask().sum() > 5000


def test_labelmes_shapes_come_back_as_they_were(tmp_path):
    for kind in ("primitives", "tutorial", "instance_segmentation/data_annotated"):
        out = tmp_path / kind.replace("/", "_")
        made.run("labelme", "labelme", LABELME / kind, out)
        for file in (LABELME / kind).glob("*.json"):
            before, after = json.loads(file.read_text()), json.loads((out / file.name).read_text())
            for one, other in zip(before["shapes"], after["shapes"], strict=True):
                for key in ("label", "shape_type", "group_id", "flags"):
                    assert one[key] == other[key]
                if one["shape_type"] not in ("circle", "mask"):
                    assert one["points"] == other["points"]
        assert _same_maps("labelme", LABELME / kind, out)


def _same_maps(kind, before, after) -> bool:
    a, b = made.maps(kind, before), made.maps(kind, after)
    return all((a[name][0] == b[name][0]).all() for name in a) and a.keys() == b.keys()


def test_coco_panoptic_gives_the_two_channel_format(tmp_path):
    """The publisher's own maps: the category in red, the instance in green."""
    root = SAMPLES / "coco_panoptic"
    content = json.loads((root / "panoptic_examples.json").read_text())
    numbers_of = {one["name"]: one["id"] for one in content["categories"]} | {"void": 0}
    found = made.maps(
        "coco_panoptic", root / "panoptic_examples.json", images=root / "input_images"
    )
    for name, (kinds, _) in found.items():
        wanted = numbers((root / "panoptic_examples_2ch_format" / name).with_suffix(".png"))[..., 0]
        assert (np.vectorize(numbers_of.get)(kinds) == wanted).all()
    made.run("coco_panoptic", "coco_panoptic", root / "panoptic_examples.json", tmp_path / "out",
             images=root / "input_images")  # fmt: skip
    again = made.maps("coco_panoptic", tmp_path / "out")
    for name, (kinds, which) in found.items():
        assert (again[name][0] == kinds).all() and made.same_instances(again[name][1], which)


def test_coco_detection_format_holds_the_same_segments():
    """Run lengths of every segment against the panoptic PNG, crowds included."""
    root = SAMPLES / "coco_panoptic"
    file = root / "panoptic_coco_detection_format.json"
    _, panoptic = made.pictures(
        "coco_panoptic", root / "panoptic_examples.json", images=root / "input_images"
    )
    _, detection = made.pictures("coco", file, images=root / "input_images")
    for name, picture in panoptic.items():
        ids = coco_panoptic.ids_of((root / "panoptic_examples" / name).with_suffix(".png"))
        other = detection[name].objects
        assert len(picture.objects) == len(other) == len(np.unique(ids[ids > 0]))
        for one, thing in zip(picture.objects, other, strict=True):
            assert (one.parts[0].mask() == thing.parts[0].mask()).all()
            assert (one.label, one.crowd) == (thing.label, thing.crowd)


TRAIN_IDS = (
    "road=0,sidewalk=1,building=2,wall=3,fence=4,pole=5,traffic light=6,traffic sign=7,"
    "vegetation=8,terrain=9,sky=10,person=11,rider=12,car=13,truck=14,bus=15,train=16,"
    "motorcycle=17,bicycle=18,*=void"
)


def test_cityscapes_gives_label_and_train_ids(tmp_path):
    """mmsegmentation's crop: instance ids to ids of classes, and by a class map to train ids."""
    root = SAMPLES / "mmseg" / "cityscapes"
    place = "val/frankfurt/frankfurt_000000_000294"
    made.run("cityscapes", "cityscapes", root, tmp_path / "out")
    made.run("cityscapes", "folder", root, tmp_path / "train",
             wishes=convert.Wishes(class_map=classes.parse_map(TRAIN_IDS)))  # fmt: skip
    for tail in ("labelIds", "instanceIds"):
        name = f"gtFine/{place}_gtFine_{tail}.png"
        assert (numbers(tmp_path / "out" / name) == numbers(root / name)).all(), tail
    meta = json.loads((tmp_path / "train" / "meta.json").read_text())
    ids = np.array([*map(int, meta["class_names"]), *[255] * (256 - len(meta["class_names"]))])
    found = numbers(tmp_path / "train/val/labels/frankfurt/frankfurt_000000_000294.png")
    wanted = numbers(root / f"gtFine/{place}_gtFine_labelTrainIds.png")
    assert (ids[found] == wanted).mean() > 0.997  # the crop's maps were made smaller one by one


@pytest.mark.parametrize("case", [
    ("coco", "coco_dataset/coco_stuff"), ("coco", "coco_dataset/coco_instances"),
    ("cvat", "cvat_dataset/for_images/export_task"), ("cvat", "cvat_dataset/for_video"),
    ("cvat", "cvat_dataset/for_images/export_project"), ("voc", "voc_dataset/voc_dataset1"),
    ("colours", "common_semantic_segmentation_dataset/dataset"), ("yolo", "yolo_dataset/labels"),
    ("cityscapes", "cityscapes_dataset/train_dataset"),
], ids=str)  # fmt: skip
def test_datumaros_assets_are_read_and_come_back(case, tmp_path):
    """Each tiny data set that datumaro tests its readers with, through its own format and back."""
    kind, place = case
    made.run(kind, kind, SAMPLES / "datumaro" / place, tmp_path / "out", boxes="fill")
    before = made.maps(kind, SAMPLES / "datumaro" / place, boxes="fill")
    after = made.maps(kind, tmp_path / "out", boxes="fill")
    assert before.keys() == after.keys()
    for name, (kinds, which) in before.items():
        assert (after[name][0] == kinds).all() and made.same_instances(after[name][1], which)
