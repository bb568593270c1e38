"""From one format to another and back: nothing is lost that the format can hold."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from segjax.data.formats import base, classes, convert, draw
from segjax.errors import ConfigError, DataError
from tests.data.formats import made

EXACT = ("folder", "labelme", "cvat", "coco", "coco_panoptic", "voc", "instances", "cityscapes")
VOID_IN = ("folder", "labelme", "coco_panoptic", "voc", "instances", "colours")


@pytest.mark.parametrize("kind", EXACT)
def test_masks_come_back_to_the_pixel(kind, tmp_path):
    """Holes, pieces, void and instances of a class map; Cityscapes by its exact maps of ids."""
    source = made.folder(tmp_path / "in", void=kind in VOID_IN)
    wishes = convert.Wishes(class_map=classes.parse_map("background=unlabeled"))
    options = {"target": "instances"} if kind in ("folder", "voc") else {}
    made.run("folder", kind, source, tmp_path / "out", **options,
             wishes=wishes if kind == "cityscapes" else None)  # fmt: skip
    if kind == "cityscapes":
        for file in (tmp_path / "out").rglob("*_polygons.json"):
            file.unlink()
    before, after = made.maps("folder", source), made.maps(kind, tmp_path / "out")
    pairs = {name: next(n for n in after if n.endswith(name.split("/")[-1])) for name in before}
    for name, other in pairs.items():
        kinds, which = before[name]
        expected = np.where(kinds == "background", after[other][0][0, 0], kinds)
        assert (after[other][0] == expected).all(), name
        things = np.isin(kinds, ("car", "person"))
        assert made.same_instances(np.where(things, after[other][1], 0), which)
    for file in source.rglob("images/**/*.png"):
        assert any(
            copy.read_bytes() == file.read_bytes() for copy in (tmp_path / "out").rglob("*.png")
        )


def test_colours_come_back_without_instances(tmp_path):
    source = made.folder(tmp_path / "in")
    lines = made.run("folder", "colours", source, tmp_path / "out")
    before, after = made.maps("folder", source), made.maps("colours", tmp_path / "out")
    assert all((before[name][0] == after[name][0]).all() for name in before)
    assert "colours cannot hold: 6 instances are not told apart" in lines


def test_yolo_has_no_holes_and_says_so(tmp_path):
    for holes in (False, True):
        source = made.folder(tmp_path / f"in{holes}", holes=holes, void=False)
        lines = made.run("folder", "yolo", source, tmp_path / f"out{holes}",
                         wishes=convert.Wishes(class_map=classes.parse_map("road=-")))  # fmt: skip
        text = "yolo cannot hold: 6 pixels of holes and borders are others there"
        assert (text in lines) == holes
        after = made.maps("yolo", tmp_path / f"out{holes}")
        before = made.maps(
            "folder", made.folder(tmp_path / f"again{holes}", holes=False, void=False)
        )
        for name, (kinds, _) in before.items():
            assert (after[name][0] == np.where(kinds == "road", "background", kinds)).all()


def test_shapes_of_labelme_go_through_cvat_and_coco(tmp_path):
    """An outline stays the outline that it was; what has none there becomes its exact pixels."""
    source = made.labelme(tmp_path / "in")
    (shape, *_) = json.loads((source / "x/a.json").read_text())["shapes"]
    made.run("labelme", "cvat", source, tmp_path / "cvat")
    image = ElementTree.parse(tmp_path / "cvat/annotations.xml").getroot().find("image")
    found = {one.tag: one for one in image}
    points = [
        [float(v) for v in pair.split(",")] for pair in found["polygon"].get("points").split(";")
    ]
    assert points == shape["points"] and found["box"].get("xbr") == "38.5"
    assert found["polygon"].get("group_id") == found["box"].get("group_id")
    assert found["tag"].get("label") == "night" and "mask" in found
    assert found["polygon"].find("attribute").text == "true"
    made.run("labelme", "coco", source, tmp_path / "coco")
    written = json.loads((tmp_path / "coco/annotations/instances_train.json").read_text())
    assert written["annotations"][0]["segmentation"][0] == sum(shape["points"], [])
    before = made.maps("labelme", source)["x/a.png"][1]
    for one, number in zip(written["annotations"][1:], (2, 3), strict=False):  # a circle, a point
        assert one["area"] == (before == number).sum()


def test_objects_of_coco_come_back_as_they_were(tmp_path):
    source = made.coco(tmp_path / "in")
    lines = made.run("coco", "coco", source, tmp_path / "out", boxes="fill")
    before = json.loads((source / "annotations/instances_train.json").read_text())
    after = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    assert [one["name"] for one in after["categories"]] == ["table", "cup"]  # in order of ids
    assert after["annotations"][0]["segmentation"] == before["annotations"][0]["segmentation"]
    assert after["annotations"][1]["attributes"] == {"colour": "red"}
    assert after["annotations"][2]["iscrowd"] == 1
    assert not any("cannot hold" in line for line in lines)
    maps = made.maps("coco", source, boxes="fill"), made.maps("coco", tmp_path / "out")
    assert (maps[0]["a.png"][0] == maps[1]["a.png"][0]).all()


def test_cvats_order_groups_and_shapes(tmp_path):
    """The higher z_order lies on top, in whatever order the file has them."""
    source = made.cvat(tmp_path / "in")
    found, by_name = made.pictures("cvat", source)
    picture = by_name["a.png"]
    assert found.class_names == ("road", "car") and found.palette["car"] == (16, 160, 255)
    assert [type(one.parts[0]).__name__ for one in picture.objects] == [
        "Box", "Ellipse", "Rings", "Pixels"
    ]  # fmt: skip
    assert picture.tags == ("night",) and len(picture.dropped) == 1
    drawn = draw.draw(picture, {"road": 1, "car": 2}, background=0)
    assert drawn.labels == ["road", "car", "car"]  # the polygon and the mask are of one group
    mask = drawn.classes[19:22, 3:7].ravel() == 2  # run lengths go along the rows, over the box
    assert mask.tolist() == [False] + [True] * 4 + [False] * 2 + [True] * 3 + [False] * 2
    made.run("cvat", "cvat", source, tmp_path / "out")
    before, after = made.maps("cvat", source)["a.png"], made.maps("cvat", tmp_path / "out")["a.png"]
    assert (before[0] == after[0]).all() and made.same_instances(before[1], after[1])


def test_order_crowds_and_holes_are_chosen(tmp_path):
    source = made.coco(tmp_path / "in", annotations=[
        {"segmentation": [[12, 5, 15, 5, 15, 8, 12, 8]], "category_id": 5},
        {"segmentation": [[2, 2, 26, 2, 26, 20, 2, 20], [5, 12, 9, 12, 9, 16, 5, 16]]},
        {"segmentation": {"size": [24, 30], "counts": [0, 24, 696]}, "iscrowd": 1},
    ])  # fmt: skip
    plain = made.maps("coco", source)["a.png"]
    assert plain[0][6, 13] == "table" and plain[0][14, 7] == "table" and plain[0][0, 0] == "table"
    assert plain[1][0, 0] == 0 and plain[1][6, 20] > 0  # a crowd has its class and no number
    assert made.maps("coco", source, order="area")["a.png"][0][6, 13] == "cup"
    assert made.maps("coco", source, holes="even_odd")["a.png"][0][14, 7] == "background"
    assert made.maps("coco", source, crowd="void")["a.png"][0][0, 0] == "void"
    assert made.maps("coco", source, crowd="drop")["a.png"][0][0, 0] == "background"


def test_class_maps_merge_drop_rename_and_make_void(tmp_path):
    source = made.folder(tmp_path / "in")
    text = "car=vehicle,person=-,road=void,background=ground"
    wishes = convert.Wishes(class_map=classes.parse_map(text))
    lines = made.run("folder", "folder", source, tmp_path / "out", wishes=wishes)
    meta = json.loads((tmp_path / "out/meta.json").read_text())
    assert meta["class_names"] == ["ground", "vehicle"]
    assert "2 dropped: of class person, as --class_map says" in lines
    before, after = made.maps("folder", source), made.maps("folder", tmp_path / "out")
    new = {"background": "ground", "road": "void", "car": "vehicle", "person": "ground"}
    for name, (kinds, _) in before.items():
        assert (after[name][0] == np.vectorize(lambda k: new.get(k, k))(kinds)).all()
    made.dump(tmp_path / "map.json", {"*": None, "car": "car", "background": "background"})
    found = classes.parse_map(str(tmp_path / "map.json"))
    assert [found(name) for name in ("car", "road")] == ["car", classes.DROP]
    with pytest.raises(ConfigError, match="no class 'cra'. Did you mean 'car'"):
        wishes = convert.Wishes(class_map=classes.parse_map("cra=vehicle"))
        made.run("folder", "folder", source, tmp_path / "bad", wishes=wishes)
    assert not (tmp_path / "bad").exists()


def test_more_classes_than_a_map_holds_are_said(tmp_path):
    source = made.coco(
        tmp_path / "in", categories=[{"id": k, "name": f"class {k}"} for k in range(255)]
    )
    with pytest.raises(ConfigError, match="256 classes, but a class map has 8 bits.*--class_map"):
        made.run("coco", "folder", source, tmp_path / "out")
    made.run("coco", "labelme", source, tmp_path / "labelme")  # which holds any number


def test_splits_are_kept_chosen_and_dealt(tmp_path):
    """The same images give the same splits everywhere; nothing is in two, or in none."""
    source = made.labelme(tmp_path / "in")
    content = json.loads((source / "x/a.json").read_text())
    for k in range(9):
        made.photo(source / f"x/{k}.png", (40, 50))
        made.dump(source / f"x/{k}.json", {**content, "imagePath": f"{k}.png"})
    splits = None
    for attempt in range(2):
        out = tmp_path / f"out{attempt}"
        made.run("labelme", "folder", source, out, wishes=convert.Wishes(split="train=0.8,val=0.2"))
        found = [sorted(p.name for p in (out / split).rglob("images/**/*.png"))
                 for split in ("train", "val")]  # fmt: skip
        assert [len(names) for names in found] == [8, 2] and len({*found[0], *found[1]}) == 10
        splits = found if attempt == 0 else splits
        assert found == splits
    made.run("folder", "labelme", tmp_path / "out0", tmp_path / "back")
    made.run("labelme", "folder", tmp_path / "back", tmp_path / "again",
             wishes=convert.Wishes(split="folders"))  # fmt: skip
    assert _relative(tmp_path / "again") == _relative(tmp_path / "out0")
    made.run(
        "folder", "yolo", tmp_path / "out0", tmp_path / "val", wishes=convert.Wishes(split="val")
    )
    assert len(list((tmp_path / "val/images/val").rglob("*.png"))) == 2
    with pytest.raises(ConfigError, match="--split=test: there are train, val"):
        made.pictures("folder", tmp_path / "out0", wishes=convert.Wishes(split="test"))
    with pytest.raises(ConfigError, match="11 splits of 10 images"):
        text = ",".join(f"s{k}=1" for k in range(11))
        made.pictures("labelme", source, wishes=convert.Wishes(split=text))


def _relative(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.png"))


def test_components_make_an_object_of_each_piece(tmp_path):
    source = made.folder(tmp_path / "in", holes=False, void=False)
    for split in source.rglob("instances"):
        for file in split.rglob("*.png"):
            file.unlink()
    plain = made.pictures("folder", source)[1]["a.png"].objects
    apart = made.pictures("folder", source, wishes=convert.Wishes(components=True))[1][
        "a.png"
    ].objects
    assert [one.label for one in plain] == ["road", "car", "person"]
    assert [one.label for one in apart].count("car") == 3 and all(one.instance for one in apart)


@pytest.mark.parametrize("divisor", [1000, 256, 0])
def test_instance_numbers_of_each_publisher(divisor, tmp_path):
    """Cityscapes and MOTS: 1000; KITTI: 256; microscopes: a number for each object."""
    stored = {1000: [[0, 1, 2000, 2001, 1000]], 256: [[0, 256, 513, 514, 257]],
              0: [[0, 3, 900, 4, 7]]}[divisor]  # fmt: skip
    source = tmp_path / "in"
    made.photo(source / "images/a.png", (1, 5))
    (source / "instances").mkdir()
    Image.fromarray(np.array(stored, np.uint16)).save(source / "instances/a.png")
    (source / "labels.txt").write_text("cell\n" if not divisor else "road\ncar\n")
    kinds, which = made.maps("instances", source, divisor=divisor)["a.png"]
    wanted = [["background", "road", "car", "car", "road"]]
    wanted = wanted if divisor else [["background", *["object"] * 4]]
    assert kinds.tolist() == wanted
    groups = [[0, 0, 2, 3, 1]] if divisor else [[0, 1, 2, 3, 4]]
    assert made.same_instances(which, np.array(groups))
    made.run("instances", "instances", source, tmp_path / "out", divisor=divisor)
    again = made.maps("instances", tmp_path / "out", divisor=divisor)["a.png"]
    assert (again[0] == kinds).all() and made.same_instances(again[1], which)


def test_labelme_files_may_hold_their_image_or_name_that_of_another_computer(tmp_path):
    import base64

    source = made.labelme(tmp_path / "in")
    file, image = source / "x/a.json", source / "x/a.png"
    content = json.loads(file.read_text())
    made.dump(file, {**content, "imagePath": "C:\\Users\\me\\a.png"})
    assert list(made.maps("labelme", source)) == ["x/a.png"]
    data = base64.b64encode(image.read_bytes()).decode()
    image.unlink()
    made.dump(file, {**content, "imageData": data})
    made.run("labelme", "folder", source, tmp_path / "out")
    assert (tmp_path / "out/train/images/x/a.png").read_bytes() == base64.b64decode(data)


def test_links_stand_for_copies(tmp_path):
    made.run("folder", "coco", made.folder(tmp_path / "in"), tmp_path / "out", link=True)
    found = tmp_path / "out/images/train/a.png"
    assert found.is_symlink() and found.resolve() == (tmp_path / "in/train/images/a.png").resolve()


def test_turned_images_are_annotated_as_they_are_shown(tmp_path):
    """LabelMe and CVAT show an image upright; annotations of it as stored are refused."""
    source = made.labelme(tmp_path)
    image = Image.open(source / "x/a.png").convert("RGB").rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(source / "x/a.jpg", exif=exif)
    content = json.loads((source / "x/a.json").read_text())
    made.dump(source / "x/a.json", {**content, "imagePath": "a.jpg"})
    assert made.maps("labelme", source)["x/a.jpg"][0].shape == (40, 50)
    turned = {"imageHeight": 50, "imageWidth": 40}
    made.dump(source / "x/a.json", {**content, "imagePath": "a.jpg", **turned})
    with pytest.raises(DataError, match="annotations of 50x40.*orientation tag"):
        made.maps("labelme", source)


def test_losses_are_counted_and_said():
    losses = base.Losses()
    losses.add("{} pixels", 1200)
    losses.add("{} pixels", 34)
    losses.add("{} tags", 0)
    assert losses.lines() == ["1,234 pixels"]
