"""Every source of objects gives those of its files, beside the class map, however they are stored.

The rule: `objects(i)` is the truth, all of it, whole masks where the format has them; the fields of
an example hold the same, as many as there is room for; painted, they are the class map.
"""

import json
import pathlib
import pickle

import numpy as np
import pytest
import tifffile
from PIL import Image

from segjax.data import (
    annotated,
    core,
    fit,
    instances,
    look,
    masks,
    objects,
    panoptic,
    prepared,
    preparing,
    resample,
    synthetic,
    windows,
)
from segjax.data.formats import classes, convert
from segjax.data.store import Store
from segjax.errors import ConfigError, DataError
from segjax.structs import Objects
from tests.data.formats import made

INSTANCES = ("folder", "labelme", "cvat", "coco", "coco_panoptic", "voc", "instances", "yolo",
             "cityscapes")  # fmt: skip
"""Formats that hold instances of pictures; the others are class maps, or volumes."""


def canvas(found: Objects, size) -> np.ndarray:
    """Return all masks on the whole image."""
    whole = np.zeros((len(found.masks), *size), bool)
    for number, mask in enumerate(found.masks):
        whole[(number, *masks.place_of(mask))] = mask.inside
    return whole


def as_set(whole, names) -> set:
    return {(name, mask.tobytes()) for name, mask in zip(names, whole, strict=True)}


def check(source: core.Source) -> None:
    """Compare the fields of all examples, copies of the source too, with what `objects` gives."""
    assert isinstance(source, core.ObjectSource)
    again = pickle.loads(pickle.dumps(source))  # noqa: S301  its own
    for index in range(len(source)):
        example, found = source[index], again.objects(index)
        size = example["label"].shape
        room = source.schema["object_classes"].shape[0]
        assert example["object_count"] == len(found.masks) <= room
        np.testing.assert_array_equal(
            masks.unpack(example["object_masks"], room)[: len(found.masks)], canvas(found, size)
        )
        rest = np.full(room - len(found.masks), -1)
        np.testing.assert_array_equal(example["object_classes"], [*found.classes, *rest])
        assert set(found.classes.tolist()) <= set(source.things)
        for name, field in source.schema.items():
            assert example[name].dtype == field.dtype, name
        for mask in found.masks:
            assert masks.trim(mask.inside).inside.shape == mask.inside.shape, "boxes are tight"


@pytest.mark.parametrize("kind", INSTANCES)
def test_all_formats_give_the_objects_that_were_written(kind, tmp_path):
    """By `annotated`, from what convert made of one data set: holes, pieces and all."""
    flat = {"yolo": {"holes": False}}.get(kind, {})
    plain = made.folder(tmp_path / "in", void=False, **flat)
    wishes = {"cityscapes": "background=unlabeled", "yolo": "road=-"}.get(kind, "")
    options = {"target": "instances"} if kind in ("folder", "voc") else {}
    made.run("folder", kind, plain, tmp_path / "out", **options,
             wishes=convert.Wishes(class_map=classes.parse_map(wishes)))  # fmt: skip
    if kind == "cityscapes":  # whose polygons are not exact
        for file in (tmp_path / "out").rglob("*_polygons.json"):
            file.unlink()
    source = annotated.Source(
        split="train", root=str(tmp_path), format=kind, annotations="out", objects=8,
        only="{split}" if kind == "cityscapes" else "",
    )  # fmt: skip
    check(source)
    counts = source.object_counts()
    for index in range(len(source)):
        name = next(n for n in made.SIZES if n[-5] in pathlib.Path(source[index]["name"]).stem[0])
        label, which = (
            np.asarray(Image.open((tmp_path / "in/train" / part / name).with_suffix(".png")))
            for part in ("labels", "instances")
        )
        numbers = np.unique(which[which > 0]).tolist()
        names = ["background", "road", "car", "person"]
        expected = as_set([which == n for n in numbers],
                          [names[label[which == n][0]] for n in numbers])  # fmt: skip
        found = source.objects(index)
        seen = as_set(canvas(found, label.shape), [source.class_names[k] for k in found.classes])
        things = {"car", "person"}
        if kind in ("labelme", "cvat", "coco", "yolo"):  # which know no stuff: the road is a thing
            seen = {each for each in seen if each[0] in things}
            assert counts[index] >= len(expected)
        else:
            assert counts[index] == len(expected)
        if kind == "yolo":  # in which parts are lines
            seen, expected = ({e for e in each if e[0] == "person"} for each in (seen, expected))
        assert seen == expected


def test_things_are_what_the_format_counts(tmp_path):
    made.run("folder", "coco_panoptic", made.folder(tmp_path / "in"), tmp_path / "out")
    given = dict(split="train", root=str(tmp_path), annotations="out", objects=4)
    source = annotated.Source(format="coco_panoptic", **given)
    assert [source.class_names[k] for k in source.things] == ["car", "person"]
    merged = annotated.Source(
        format="coco_panoptic", class_map={"car": "thing", "person": "thing"}, **given
    )
    assert [merged.class_names[k] for k in merged.things] == ["thing"]
    check(merged)


def test_a_class_map_has_no_objects_but_its_pieces(tmp_path):
    made.run("folder", "colours", made.folder(tmp_path / "in"), tmp_path / "out")
    given = dict(split="train", root=str(tmp_path), format="colours", annotations="out", objects=9)
    with pytest.raises(DataError, match=r"no object in it\. Set components=True"):
        annotated.Source(**given)
    source = annotated.Source(components=True, **given)
    check(source)
    assert min(source.object_counts()) > 3


def test_what_annotations_do_not_have_is_named(tmp_path):
    """By the argument that asks for it: a class, a split, an entry of the class map."""
    made.coco(tmp_path / "set")
    given = dict(split="val", root=str(tmp_path), format="coco", annotations="set", objects=4)
    with pytest.raises(DataError, match=r"no image of split 'val'; there are train\. Set .*only"):
        annotated.Source(only="{split}", **given)
    with pytest.raises(DataError, match="class 'table', which is not among .*class_names"):
        annotated.Source(class_names=("cup",), **given)
    with pytest.raises(ConfigError, match="config.input.source.class_map: no class 'chair'"):
        annotated.Source(class_map={"chair": "seat"}, **given)
    bare = annotated.Source(
        **given | {"annotations": str(made.coco(tmp_path / "x", annotations=[]))}
    )
    assert bare.object_counts() == [0] and len(bare.objects(0).masks) == 0


def test_masks_of_coco_overlap_and_crowds_are_crowds(tmp_path):
    """As pycocotools decodes them; the label has the later one on top, the objects all."""
    made.coco(tmp_path / "set")
    source = annotated.Source(
        split="train", root=str(tmp_path), format="coco", annotations="set", objects=8
    )
    found = source.objects(0)
    whole = canvas(found, (24, 30))
    assert found.crowd.tolist() == [False, False, True] and whole[2].sum() == 40
    assert (whole[0] & whole[1]).any(), "they overlap"
    names = [source.class_names[k] for k in found.classes]
    assert names == ["table", "cup", "table"]
    check(source)
    none = annotated.Source(
        split="train", root=str(tmp_path), format="coco", annotations="set", objects=8, crowd="drop"
    )
    assert not none.objects(0).crowd.any() and len(none.objects(0).masks) == 2


def test_outlines_of_a_group_are_one_object_of_labelme(tmp_path):
    made.labelme(tmp_path / "set")
    source = annotated.Source(
        split="train", root=str(tmp_path), format="labelme", annotations="set", objects=8
    )
    found = source.objects(0)
    assert sorted(source.class_names[k] for k in found.classes) == [
        "car", "cat", "dog", "dog", "dog"
    ]  # fmt: skip
    check(source)


def make_cells(root: pathlib.Path, counts=(3, 0, 5)) -> list[np.ndarray]:
    """Write pictures with a file for each object, in folders and as maps of 16 bits."""
    found = []
    for number in range(10):
        which = np.zeros((30, 40), np.uint16)
        for k in range(counts[number % len(counts)]):
            which[3 + 4 * k : 8 + 4 * k, 2 + k : 12 + 3 * k] = 300 * k + 1
        folder = root / "stage1_train" / f"{number:02d}"
        made.photo(folder / "images" / f"{number:02d}.png", which.shape)
        (folder / "masks").mkdir()
        for value in np.unique(which[which > 0]).tolist():
            Image.fromarray(np.where(which == value, 255, 0).astype(np.uint8)).save(
                folder / "masks" / f"{value:05d}.png"
            )
        split = "train" if number < 7 else "val" if number < 8 else "test"
        made.photo(root / split / "images" / f"{number:02d}.png", which.shape)
        (root / split / "instances").mkdir(exist_ok=True)
        Image.fromarray(which).save(root / split / "instances" / f"{number:02d}.png")
        found.append(which)
    return found


NAMES = ("background", "cell")


def test_a_mask_each_and_a_map_of_16_bits_say_the_same(tmp_path):
    """An image without objects trains; where classes alone are asked for it is refused."""
    maps = make_cells(tmp_path)
    each = objects.Source(
        split="all", root=str(tmp_path / "stage1_train"), class_names=NAMES, objects=6
    )
    check(each)
    assert each.object_counts() == [len(np.unique(which)) - 1 for which in maps]
    with pytest.raises(DataError, match="0 masks"):
        objects.Source(split="all", root=str(tmp_path / "stage1_train"), class_names=NAMES)
    start = 0
    for split in ("train", "val", "test"):
        source = instances.Source(split=split, root=str(tmp_path), class_names=NAMES, objects=6)
        check(source)
        assert source.things == (1,)
        for index in range(len(source)):
            own, other = source.objects(index), each.objects(start + index)
            np.testing.assert_array_equal(canvas(own, (30, 40)), canvas(other, (30, 40)))
            np.testing.assert_array_equal(source[index]["label"], maps[start + index] > 0)
            np.testing.assert_array_equal(each[start + index]["label"], maps[start + index] > 0)
        start += len(source)


@pytest.mark.parametrize(
    ("divisor", "dtype"), [(1000, "uint16"), (256, "uint16"), (70000, "int32")]
)
def test_numbers_say_class_and_object(divisor, dtype, tmp_path):
    """Cityscapes' and KITTI's numbers and larger ones; things without an object are a crowd."""
    kinds = np.repeat(np.repeat([[1, 2, 2], [7, 2, 9]], 8, 0), 10, 1)
    which = np.repeat(np.repeat([[0, 1, 2], [0, 0, 5]], 8, 0), 10, 1)
    if divisor == 1000:  # numbers below it are classes; objects are counted from 0
        stored = np.where(which > 0, kinds * 1000 + which - 1, kinds)
    else:
        stored = kinds * divisor + which
    made.photo(tmp_path / "train/images/a.png", kinds.shape)
    (tmp_path / "train/instances").mkdir()
    tifffile.imwrite(tmp_path / "train/instances/a_ids.tif", stored.astype(dtype))
    source = instances.Source(
        split="train", root=str(tmp_path), class_names=("road", "tree", "car"), divisor=divisor,
        label_map={"1": 0, "2": 2, "9": 2}, ignore_index=7, things=("car",), objects=8,
        instance_suffix="_ids",
    )  # fmt: skip
    check(source)
    expected = np.select([kinds == 1, kinds == 7], [0, 255], 2)
    np.testing.assert_array_equal(source[0]["label"], expected)
    found = source.objects(0)
    whole = canvas(found, kinds.shape)
    truth = [kinds == 2, kinds == 2, kinds == 2, kinds == 9]
    crowds = [True, False, False, False]
    for mask, crowd in zip(whole, found.crowd, strict=True):
        number = which[mask][0]
        assert (which[mask] == number).all() and crowd == (number == 0)
    assert sorted(found.crowd) == sorted(crowds) and len(truth) == len(whole)
    assert (whole.any(0) == (expected == 2)).all()


def test_volumes_have_objects(tmp_path):
    which = np.zeros((6, 9, 12), np.uint16)
    which[1:4, 2:5, 3:9], which[3:6, 6:9, 1:4] = 5, 700
    for part, array in (("images", np.uint8(which > 0)), ("instances", which)):
        (tmp_path / "train" / part).mkdir(parents=True)
        np.save(tmp_path / "train" / part / "a.npy", array)
    source = instances.Source(
        split="train", root=str(tmp_path), class_names=NAMES, objects=3, dims=3
    )
    found, example = source.objects(0), source[0]
    np.testing.assert_array_equal(found.boxes, [[1, 2, 3, 4, 5, 9], [3, 6, 1, 6, 9, 4]])
    np.testing.assert_array_equal(masks.unpack(example["object_masks"], 3)[1], which == 700)


def test_wrong_arguments_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"divisor=0: .* expected two class_names"):
        instances.Source(split="train", root=str(tmp_path), class_names=("a", "b", "c"))
    make_cells(tmp_path)
    with pytest.raises(ConfigError, match="things"):
        instances.Source(split="train", root=str(tmp_path), class_names=NAMES, things=("cel",))


def make_panoptic(root: pathlib.Path) -> np.ndarray:
    ids = np.repeat(np.repeat([[0, 70_000, 300], [5, 5, 9]], 8, 0), 10, 1)
    made.photo(root / "train2017/a.jpg", ids.shape)
    shades = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8)
    (root / "annotations/panoptic_train2017").mkdir(parents=True)
    Image.fromarray(shades).save(root / "annotations/panoptic_train2017/a.png")
    segments = [(70_000, 4, 0), (300, 1, 0), (5, 1, 0), (9, 2, 1)]
    content = {
        "categories": [{"id": 1, "name": "dog", "isthing": 1}, {"id": 2, "name": "cat"},
                       {"id": 4, "name": "sky", "isthing": 0}],
        "images": [{"id": 7, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 7, "file_name": "a.png", "segments_info": [
            {"id": one, "category_id": kind, "iscrowd": crowd} for one, kind, crowd in segments]}],
    }  # fmt: skip
    made.dump(root / "annotations/panoptic_train2017.json", content)
    return ids


def test_things_of_coco_panoptic_are_objects_and_stuff_is_not(tmp_path):
    ids = make_panoptic(tmp_path)
    source = panoptic.Source(split="train", root=str(tmp_path), objects=4)
    check(source)
    assert source.class_names == ("dog", "cat", "sky") and source.things == (0, 1)
    found = source.objects(0)
    for mask, number in zip(canvas(found, ids.shape), (5, 9, 300), strict=True):
        np.testing.assert_array_equal(mask, ids == number)
    assert found.classes.tolist() == [0, 1, 0] and found.crowd.tolist() == [False, True, False]
    assert source.object_counts() == [3]
    expected = np.select([ids == 0, ids == 70_000, ids == 9], [255, 2, 1], 0)
    np.testing.assert_array_equal(source[0]["label"], expected)


@made.needs_samples
def test_the_publisher_s_sample_of_panoptic_coco_agrees_with_its_own_areas():
    """`panoptic_examples.json` says area and box of every segment."""
    root = made.SAMPLES / "coco_panoptic"
    content = json.loads((root / "panoptic_examples.json").read_text())
    source = panoptic.Source(
        split="x", root=str(root), images="input_images", annotations="panoptic_examples.json",
        objects=100,
    )  # fmt: skip
    assert len(source.class_names) == 133 and len(source.things) == 80
    things = {one["id"] for one in content["categories"] if one["isthing"]}
    for index, one in enumerate(content["annotations"]):
        found = source.objects(index)
        said = {
            (s["area"], s["bbox"][1], s["bbox"][0]) for s in one["segments_info"]
            if s["category_id"] in things
        }  # fmt: skip
        mine = {(int(mask.inside.sum()), *mask.corner) for mask in found.masks}
        assert mine == said


def test_of_more_objects_than_there_is_room_for_the_log_says_so_once(tmp_path):
    """From annotations alone where they are counted there, else from the examples that are read."""
    make_cells(tmp_path)
    each = objects.Source(
        split="all", root=str(tmp_path / "stage1_train"), class_names=NAMES, objects=2
    )
    (note,) = look.check(look.look(each), NAMES, split="train")
    assert note == (
        "train: 7 of 10 images have more than 2 objects; the smallest of each, 13 in all, are left "
        "out of training. Set config.input.source.objects=5 to keep all"
    )
    source = instances.Source(split="train", root=str(tmp_path), class_names=NAMES, objects=4)
    (note,) = look.check(look.look(source), NAMES, split="train")
    assert "2 of 7 images have more than 4 objects" in note and "objects=5" in note
    assert len(source.objects(2).masks) == 5, "the truth is not cut"
    roomy = instances.Source(split="train", root=str(tmp_path), class_names=NAMES, objects=5)
    assert look.check(look.look(roomy), NAMES, split="train") == []
    cut = look.look(source, windows=True)
    assert look.check(cut, NAMES, split="train") == [], "a window has room of its own"


def test_no_object_in_any_image_is_an_error_and_one_class_everywhere_is_none(tmp_path):
    make_cells(tmp_path, counts=(0,))
    empty = instances.Source(split="train", root=str(tmp_path), class_names=NAMES, objects=4)
    with pytest.raises(DataError, match="none of 7 images has an object"):
        look.check(look.look(empty), NAMES, split="train")
    for file in (tmp_path / "train/instances").iterdir():
        Image.fromarray(np.repeat(np.uint16([[1, 2]]), 20, 1).repeat(30, 0)).save(file)
    full = instances.Source(split="train", root=str(tmp_path), class_names=NAMES, objects=4)
    assert look.check(look.look(full), NAMES, split="train") == ["train: all 7 masks: no pixel of "
                                                                 "background"]  # fmt: skip


def test_what_is_prepared_keeps_its_objects(tmp_path):
    """All of them, or scoring is refused: what was left out would count as never there."""
    source = synthetic.Source(split="val", num_examples=5, objects=9, overlap=True)
    target = Store(str(tmp_path / "all"))
    preparing.write_split(source, target, "val", made_from={})
    found = prepared.Source(split="val", root=str(tmp_path / "all"), verify="all")
    found.check()
    check(found)
    assert found.things == source.things and found.schema == source.schema
    for index in range(5):
        size = (128, 128)
        expected, kept = source.objects(index), found.objects(index)
        np.testing.assert_array_equal(canvas(kept, size), canvas(expected, size))
        np.testing.assert_array_equal(kept.classes, expected.classes)
    few = synthetic.Source(split="val", num_examples=5, objects=2)
    preparing.write_split(few, Store(str(tmp_path / "few")), "val", made_from={})
    kept = prepared.Source(split="val", root=str(tmp_path / "few"))
    with pytest.raises(DataError, match=r"of which 2 were kept.*objects=\d or more"):
        kept.objects(0)
    plain = synthetic.Source(split="val", num_examples=2)
    preparing.write_split(plain, Store(str(tmp_path / "plain")), "val", made_from={})
    with pytest.raises(DataError, match="prepared without objects"):
        prepared.Source(split="val", root=str(tmp_path / "plain")).objects(0)


SCENE = synthetic.Source(split="val", num_examples=4, objects=12, overlap=True, size=(64, 80))


def test_views_know_the_objects_of_their_source():
    subset = core.Subset(SCENE, [3, 1])
    assert subset.things == SCENE.things
    np.testing.assert_array_equal(subset.objects(0).boxes, SCENE.objects(3).boxes)
    cached = core.Cached(subset)
    np.testing.assert_array_equal(cached.objects(1).boxes, SCENE.objects(1).boxes)
    with pytest.raises(DataError, match="knows classes of pixels and no objects"):
        core.Subset(prepared_like(), [0]).objects(0)


def prepared_like():
    """Return a source that knows no objects."""

    class Plain:
        class_names, palette = ("a", "b"), ((0, 0, 0), (1, 1, 1))
        schema = core.semantic_schema(1)

        def __len__(self):
            return 1

    return Plain()


def moved_alike(before, after, move):
    """Say that each mask moved as a map of numbers does."""
    room = SCENE.schema["object_classes"].shape[0]
    for mask, moved in zip(masks.unpack(before["object_masks"], room),
                           masks.unpack(after["object_masks"], room), strict=True):  # fmt: skip
        np.testing.assert_array_equal(moved, move(mask.astype(np.uint8)))


def test_fit_resampling_and_windows_move_masks_to_the_nearest_pixel():
    """Whatever `label_resampling` says: bits are not blended; padding is no object."""
    example = SCENE[0]
    for how, size in (("resize", (40, 40)), ("pad", (90, 100))):
        fitted = fit.fit_example(example, schema=SCENE.schema, size=size, fit=how)
        scaled = fit.scaled_size((64, 80), size=size, fit=how, name="")
        moved_alike(example, fitted, lambda m, scaled=scaled, size=size: fit.pad(
            fit.resize_map(m, scaled), size=size, value=0))  # fmt: skip
    schema = {**SCENE.schema, "spacing": core.Field("value", (2,), "float32")}
    spaced = {**example, "spacing": np.float32([1, 1])}
    for label in ("nearest", "linear"):
        thin = resample.resample(spaced, schema, resample.Resampling((2.0, 1.5), "linear", label))
        size = thin["object_masks"].shape[:2]
        assert size == (32, 53)
        moved_alike(example, {"object_masks": np.asarray(thin["object_masks"])},
                    lambda m, size=size: fit.resize_map(m, size))  # fmt: skip


class Bare(core.View):
    """A source whose examples have fields alone, as what was prepared."""

    def __getitem__(self, index):
        example = dict(self.source[index])
        del example[masks.WHOLE]
        return example


@pytest.mark.parametrize("cache", [False, True])
def test_a_window_has_the_objects_that_it_shows(cache):
    """In slots of its own, so that there need be room for no more; cut of objects or of bits."""
    given = dict(schema=SCENE.schema, size=(32, 96), pad_value=0, seed=1, sampling=windows.PLAIN)
    cut, bare = windows.Windows(SCENE, cache=cache, **given), windows.Windows(Bare(SCENE), **given)
    narrow = {**SCENE.schema, **core.object_schema(2)}
    few = windows.Windows(SCENE, **{**given, "schema": narrow})
    fewer = 0
    for position in range(12):
        row, other, two = (each(position % 4, position) for each in (cut, bare, few))
        for name in SCENE.schema:
            np.testing.assert_array_equal(row[name], other[name], err_msg=name)
        whole = masks.unpack(row["object_masks"], 12)
        there = whole.any((1, 2))
        number = int(there.sum())
        assert there[:number].all() and row["object_count"] == number
        assert (row["object_classes"][:number] > 0).all()
        assert (row["object_classes"][number:] == -1).all() and not whole[..., 80:].any()
        known = row["label"] != 255
        np.testing.assert_array_equal(whole.any(0)[known], (row["label"] > 0)[known])
        fewer += number < len(SCENE.objects(position % 4).masks)
        largest = np.sort(np.argsort(-whole.sum((1, 2)), kind="stable")[: min(2, number)])
        shown = masks.unpack(two["object_masks"], 2)[: len(largest)]
        np.testing.assert_array_equal(shown, whole[largest])
    assert fewer > 3


def test_windows_of_masks_alone_and_of_resampled_objects(tmp_path):
    """Where a task asks for fewer fields, and where the spacing changes them first."""
    some = {name: SCENE.schema[name] for name in ("image", "label", "object_masks")}
    given = dict(size=(32, 40), pad_value=0, seed=1, sampling=windows.PLAIN)
    for source in (SCENE, Bare(SCENE)):
        alone = windows.Windows(source, schema=some, **given)(1, 3)
        every = windows.Windows(source, schema=SCENE.schema, **given)(1, 3)
        assert alone.keys() == {*some, "name"}
        np.testing.assert_array_equal(
            masks.unpack(alone["object_masks"], 12), masks.unpack(every["object_masks"], 12)
        )

    class Spaced(core.View):
        schema = {**SCENE.schema, "spacing": core.Field("value", (2,), "float32")}

        def __init__(self):
            super().__init__(SCENE)
            self.schema = Spaced.schema

        def __getitem__(self, index):
            return {**SCENE[index], "spacing": np.float32([1, 1])}

    double = resample.Resampling((0.5, 0.5), "linear", "linear")
    cut = windows.Windows(Spaced(), schema=Spaced.schema, resampling=double, **given)(1, 3)
    known = cut["label"] != 255
    whole = masks.unpack(cut["object_masks"], 12)
    wrong = (whole.any(0) != (cut["label"] > 0)) & known
    assert whole.any() and wrong.mean() < 0.05, "labels go by shares there, masks by the nearest"
