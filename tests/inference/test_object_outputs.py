"""What is written of objects and segments, and what other programs read in it."""

import csv
import json

import hotcoco.panoptic
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segjax.data.decode import Reading
from segjax.data.fit import Canvas
from segjax.errors import ConfigError, DataError
from segjax.inference import dry_run, folder, paths
from segjax.inference.layout import Layout
from segjax.inference.outputs import kinds, large, objects
from segjax.inference.predictor import Detection, FunctionObjectPredictor, Segments
from segjax.metrics import panoptic
from segjax.structs import Classes
from tests.metrics import object_scenes

SIZE = (48, 56)
CLASSES = Classes(
    ("ground", "cell", "sky", "big cell"),
    ((0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115)), 1, (1, 3),
)  # fmt: skip


def found_in(image):
    """Return three objects that overlap: of scores 0.9, 0.6 and 0.2."""
    size = image.shape[:-1]
    disks = [
        object_scenes.disk(size, [side / 3 for side in size], [9] * len(size)),
        object_scenes.disk(size, [side / 2 for side in size], [9] * len(size)),
        object_scenes.disk(size, [side * 0.8 for side in size], [5] * len(size)),
    ]
    return object_scenes.objects_of(disks, [3, 1, 1], scores=[0.6, 0.9, 0.2])


def segmented(image):
    own = found_in(image)
    stuff = np.zeros(image.shape[:-1], np.uint8)
    stuff[:9] = 2
    stuff[-3:] = 255
    numbers, classes = panoptic.segments_of(stuff, own.masks[:2], [3, 1], [0, 2])
    return own, Segments(numbers, classes)


FIND = {
    "instance": FunctionObjectPredictor(found_in),
    "panoptic": FunctionObjectPredictor(segmented),
}


def predict(inputs, output, outputs, *, finds="instance", dims=2, **given):
    return folder.predict(
        paths.list_inputs(str(inputs), output=output), output, predictor=FIND[finds],
        classes=CLASSES, reading=Reading(1), step=3, finds=finds, outputs=outputs,
        layout=Layout(Canvas((32,) * dims, "resize", 0)), **given,
    )  # fmt: skip


def draw(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 99, size).astype(np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def inputs(tmp_path):
    for name in ("000000000139", "000000000285"):
        draw(tmp_path / f"in/{name}.png")
    return tmp_path / "in"


@pytest.mark.parametrize("finds", FIND)
def test_a_dry_run_lists_all_that_is_then_written(tmp_path, inputs, finds):
    out, every = tmp_path / "out", kinds.possible(finds=finds)
    assert ("segments" in every) == (finds == "panoptic") and "instances" in every
    said = [*dry_run.lines(
        paths.list_inputs(str(inputs), output=out), out, class_names=CLASSES.class_names,
        reading=Reading(1, dims=2), run=tmp_path, outputs=every, finds=finds,
    )]  # fmt: skip
    for _ in range(2):  # a second time in place of the first
        counts = predict(inputs, out, every, finds=finds)
    assert sorted(said[1:-1]) == sorted(str(p) for p in out.iterdir()) and counts.predicted == 2


def test_the_higher_score_is_on_top_and_the_unsure_are_not_painted(tmp_path, inputs):
    """Numbers fall with the score in all outputs, and the class map is of the same pixels."""
    predict(inputs, tmp_path / "out", ["instances", "label", "objects:csv"])
    with Image.open(tmp_path / "out/000000000139_instances.png") as picture:
        assert picture.mode == "I;16"
        numbers = np.asarray(picture)
    own = found_in(np.zeros((*SIZE, 1)))
    first, second = (object_scenes.whole(own.masks[i], SIZE) for i in (1, 0))
    assert (first & second).any()
    np.testing.assert_array_equal(numbers, np.where(first, 1, np.where(second, 2, 0)))
    with Image.open(tmp_path / "out/000000000139_label.png") as picture:
        label = np.asarray(picture)
    np.testing.assert_array_equal(label, np.array([0, 1, 3])[numbers])
    rows = list(csv.DictReader((tmp_path / "out/objects.csv").open(newline="")))
    assert [row["class"] for row in rows[:3]] == ["cell", "big cell", "cell"]
    assert [row["object"] for row in rows] == ["1", "2", "3"] * 2
    assert [row["score"] for row in rows[:3]] == ["0.9", "0.6", "0.2"]
    areas = [int(own.masks[i].inside.sum()) for i in (1, 0, 2)]
    assert [int(row["area"]) for row in rows[:3]] == areas
    box = [float(rows[0][side]) for side in ("y0", "x0", "y1", "x1")]
    assert box == own.boxes[1].tolist()
    about = json.loads((tmp_path / "out/000000000139.json").read_text())
    assert about["objects"] == {"cell": 1, "big cell": 1}
    assert about["classes"]["cell"]["pixels"] == areas[0]
    predict(inputs, tmp_path / "all", ["instances"], least_score=0.1)
    with Image.open(tmp_path / "all/000000000139_instances.png") as picture:
        assert np.asarray(picture).max() == 3


def test_pycocotools_reads_the_results(tmp_path, inputs):
    """By the ids that the files are called by: against themselves they score 1."""
    predict(inputs, tmp_path / "out", ["objects:coco"])
    path = tmp_path / "out/objects_coco.json"
    content = json.loads(path.read_text())
    assert [image["id"] for image in content["images"]] == [139, 285]
    assert [c["id"] for c in content["categories"]] == [1, 3]
    truth = COCO(str(path))
    results = truth.loadRes(content["annotations"])
    for kind in ("segm", "bbox"):
        scored = COCOeval(truth, results, kind)
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
        assert scored.stats[0] == pytest.approx(1)
    masks = [truth.annToMask(one).astype(bool) for one in truth.loadAnns(truth.getAnnIds(139))]
    own = found_in(np.zeros((*SIZE, 1)))
    for mask, i in zip(masks, (1, 0, 2), strict=True):
        np.testing.assert_array_equal(mask, object_scenes.whole(own.masks[i], SIZE))


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["a/000139.jpg", "b/285.png"], [139, 285]),
        (["a/7.jpg", "b/007.png"], [1, 2]),
        (["7.jpg", "x.png"], [1, 2]),
        (["1" * 40 + ".png"], [1]),
        ([], []),
    ],
)
def test_ids_are_the_files_numbers_where_all_have_different_ones(names, ids):
    assert objects.ids_of(names) == ids


def test_the_segments_are_those_of_the_coco_panoptic_format(tmp_path, inputs):
    predict(inputs, tmp_path / "out", ["segments", "segments:coco", "label"], finds="panoptic")
    path = tmp_path / "out/segments_coco.json"
    content = json.loads(path.read_text())
    assert [c["isthing"] for c in content["categories"]] == [0, 1, 0, 1]
    (one, other) = content["annotations"]
    assert one["file_name"] == "000000000139_segments.png" and other["image_id"] == 285
    _, own = segmented(np.zeros((*SIZE, 1)))
    png = np.asarray(Image.open(tmp_path / "out" / one["file_name"]).convert("RGB")).astype(int)
    np.testing.assert_array_equal(png @ [1, 256, 65536], own.numbers)
    for segment in one["segments_info"]:
        inside = np.argwhere(own.numbers == segment["id"])
        assert segment["area"] == len(inside)
        assert segment["category_id"] == own.classes[segment["id"] - 1]
        low, high = inside.min(axis=0), inside.max(axis=0) + 1
        assert segment["bbox"] == [*low[::-1].tolist(), *(high - low)[::-1].tolist()]
    found = hotcoco.panoptic.pq_compute(str(path), str(path), *[str(tmp_path / "out")] * 2)
    assert found["All"]["pq"] == pytest.approx(1) and found["All"]["n"] == 4
    with Image.open(tmp_path / "out/000000000139_label.png") as picture:
        label = np.asarray(picture)
    np.testing.assert_array_equal(label, np.array([255, *own.classes])[own.numbers])


def test_contours_are_of_each_object_by_itself(tmp_path, inputs):
    """Objects that touch or overlap stay apart, each whole."""
    names = ["contours:geojson", "contours:coco"]
    predict(inputs, tmp_path / "out", names)
    path = tmp_path / "out/000000000139_contours.geojson"
    features = json.loads(path.read_text())["features"]
    own = found_in(np.zeros((*SIZE, 1)))
    pixels = [int(own.masks[i].inside.sum()) for i in (1, 0)]
    assert [f["properties"]["pixels"] for f in features] == pixels
    assert [f["properties"]["class"] for f in features] == ["cell", "big cell"]
    ring = np.array(features[0]["geometry"]["coordinates"][0])
    y0, x0, y1, x1 = own.boxes[1]
    assert (ring.min(axis=0) == [x0, y0]).all() and (ring.max(axis=0) == [x1, y1]).all()
    coco = json.loads((tmp_path / "out/contours_coco.json").read_text())
    assert [one["area"] for one in coco["annotations"]] == pixels * 2
    predict(inputs, tmp_path / "new", names[:1], without=[3])
    kept = json.loads((tmp_path / "new/000000000139_contours.geojson").read_text())["features"]
    assert [f["properties"]["class"] for f in kept] == ["cell"]


@pytest.mark.parametrize("dims", [1, 3])
def test_volumes_and_signals_have_arrays(tmp_path, dims):
    (tmp_path / "in").mkdir()
    array = np.random.default_rng(0).integers(0, 99, (24, 26, 30)[:dims]).astype(np.uint8)
    np.save(tmp_path / "in/a.npy", array)
    can = ["instances", "label", "overlay", "objects:csv", "areas:csv"]
    predict(tmp_path / "in", tmp_path / "out", can, dims=dims)
    numbers = np.load(tmp_path / "out/a_instances.npy")
    assert numbers.shape == array.shape and numbers.dtype == np.uint16 and numbers.max() == 2
    with Image.open(tmp_path / "out/a_overlay.png") as picture:
        assert min(picture.size) >= 200
    columns = (tmp_path / "out/objects.csv").read_text().splitlines()[0].split(",")
    assert columns[5:] == list(objects.SIDES[dims])
    for name in ("objects:coco", "contours:geojson"):
        with pytest.raises(ConfigError, match=f"--outputs={name}: is of pictures"):
            predict(tmp_path / "in", tmp_path / "other", [name], dims=dims)


def test_what_a_run_does_not_find_is_refused_before_anything_is_written(tmp_path, inputs):
    """Every output is possible, or a config error that names it, for every kind of run."""
    for finds in ("", "instance", "panoptic"):
        can = kinds.possible(finds=finds)
        for name in {*kinds.EACH, *kinds.SHARED} - set(can):
            with pytest.raises(ConfigError, match=f"--outputs={name}: ") as error:
                kinds.choose([name, "segments"], dims=2, finds=finds)
            assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="which is not asked for. Add it"):
        predict(inputs, tmp_path / "out", ["segments:coco"], finds="panoptic")
    assert not (tmp_path / "out").exists()


def test_an_image_without_objects_has_empty_outputs(tmp_path, inputs):
    nothing = object_scenes.objects_of([], [])
    every = kinds.possible(finds="instance")
    folder.predict(
        paths.list_inputs(str(inputs), output=tmp_path / "out"), tmp_path / "out",
        predictor=FunctionObjectPredictor(lambda image: nothing), classes=CLASSES,
        reading=Reading(1), step=0, layout=Layout(Canvas((32, 32), "resize", 0)), outputs=every,
        finds="instance",
    )  # fmt: skip
    assert json.loads((tmp_path / "out/objects_coco.json").read_text())["annotations"] == []
    with Image.open(tmp_path / "out/000000000139_instances.png") as picture:
        assert not np.asarray(picture).any()
    assert len((tmp_path / "out/objects.csv").read_text().splitlines()) == 1


def test_more_objects_than_16_bits_can_number_are_an_error():
    size = (260, 260)
    single = object_scenes.objects_of([np.ones((1, 1), bool)], [1])
    count = objects.LARGEST + 1
    masks = tuple(single.masks[0]._replace(corner=divmod(i, 260)) for i in range(count))
    many = single._replace(
        classes=np.ones(count, np.int32), masks=masks, scores=np.ones(count, np.float32),
        boxes=np.zeros((count, 4), np.float32), crowd=np.zeros(count, bool),
    )  # fmt: skip
    found = objects.Found(
        "a.png", "a.png", np.zeros((*size, 1), np.uint8),
        objects.prediction_of(Detection(single, size), CLASSES, least_score=0.5), CLASSES,
        objects=many,
    )  # fmt: skip
    with pytest.raises(DataError, match="65,536 objects, at most 65,535"):
        objects.painted(found)


def test_images_too_large_to_be_held_are_refused(monkeypatch, tmp_path, inputs):
    monkeypatch.setattr(large.preview, "LARGE", 100)
    counts = predict(inputs, tmp_path / "out", ["instances"])
    assert counts.predicted == 0 and counts.skipped == 2
    said = [*dry_run.lines(
        paths.list_inputs(str(inputs), output=tmp_path / "new"), tmp_path / "new",
        class_names=CLASSES.class_names, reading=Reading(1, dims=2), run=tmp_path,
        outputs=["instances"], finds="instance",
    )]  # fmt: skip
    assert sum("objects are found in images of at most 100" in line for line in said) == 2
