"""Every kind of output: what other programs read in it, and that none overwrites another."""

import csv
import errno
import itertools
import json
import os
import unicodedata

import numpy as np
import pytest
import tensorstore
from PIL import Image

from segjax.data.decode import Reading
from segjax.data.fit import Canvas
from segjax.errors import ConfigError, UserError
from segjax.inference import folder, paths
from segjax.inference.layout import Layout
from segjax.inference.outputs import kinds, maps
from segjax.inference.predictor import Prediction
from segjax.structs import Classes

CLASSES = Classes(("sky/high", "a,\nb", "c"), ((0, 0, 0), (255, 0, 0), (0, 9, 0)), 1)
ALL = kinds.possible()


class Grey:
    """Class 0 to 2 by the grey value; probabilities that are no round numbers."""

    def __call__(self, image, /):
        grey = image[..., 0].astype(np.float64) + 1
        values = np.stack([grey, np.full(grey.shape, 140.0), 257 - grey], axis=-1)
        shares = (values / values.sum(-1, keepdims=True)).astype(np.float32)
        return Prediction(shares.argmax(-1).astype(np.uint8), lambda: shares)

    def measure(self, source, /, *, batch_size, threads):
        raise AssertionError("it only predicts")


def image(number, shape=(9, 13)):
    return np.random.default_rng(number).integers(0, 255, shape, np.uint8)


def draw(path, number=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image(number)).save(path)


def predict(inputs, output, outputs=ALL, *, dims=2, run=None, without=()):
    return folder.predict(
        paths.list_inputs(str(inputs), output=output), output, predictor=Grey(), classes=CLASSES,
        reading=Reading(1), step=3, layout=Layout(Canvas((32,) * dims, "resize", 0)), run=run,
        outputs=outputs, without=without,
    )  # fmt: skip


def contents(path):
    return {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}


@pytest.fixture
def out(tmp_path):
    for number, name in enumerate(("a.png", "deep/b.png")):
        draw(tmp_path / "in" / name, number)
    (tmp_path / "in/c.png").write_bytes(b"no picture")
    counts = predict(tmp_path / "in", tmp_path / "out")
    assert (counts.predicted, counts.skipped) == (2, 1)
    return tmp_path / "out"


def read_zarr(path):
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    return tensorstore.open(spec).result().read().result()


def shares(number=0):
    return Grey()(image(number)[..., None]).probabilities()


def test_probabilities_are_the_same_in_every_format(out):
    expected = shares()
    np.testing.assert_array_equal(np.load(out / "a_probabilities.npy"), expected)
    assert np.load(out / "a_probabilities.npy").dtype == np.float32
    np.testing.assert_array_equal(read_zarr(out / "a_probabilities.zarr"), expected)
    attributes = json.loads((out / "a_probabilities.zarr/zarr.json").read_text())
    assert attributes["attributes"]["class_names"] == list(CLASSES.class_names)
    assert attributes["dimension_names"] == ["y", "x", "class"]
    names = sorted(file.name for file in (out / "a_probabilities").iterdir())
    assert names == ["000_sky_high.png", "001_a_b.png", "002_c.png"]
    for k, name in enumerate(names):
        picture = Image.open(out / "a_probabilities" / name)
        assert picture.mode.startswith("I;16")
        expected16 = np.rint(expected[..., k].astype(np.float64) * 65535)
        np.testing.assert_array_equal(np.asarray(picture), expected16)


def test_confidence_and_entropy_are_those_of_the_probabilities(out):
    expected = shares(1).astype(np.float64)
    confidence = np.asarray(Image.open(out / "b_confidence.png")) / 65535
    np.testing.assert_allclose(confidence, expected.max(-1), atol=1e-5)
    entropy = -(expected * np.log(expected)).sum(-1) / np.log(3)
    np.testing.assert_allclose(np.asarray(Image.open(out / "b_entropy.png")) / 65535, entropy,
                               atol=2e-5)  # fmt: skip


def test_entropy_is_0_where_sure_and_1_where_all_are_alike():
    for k in (2, 3, 200):
        sure = np.eye(k, dtype=np.float32)[:2]
        np.testing.assert_allclose(maps.entropy(sure), 0, atol=1e-6)
        np.testing.assert_allclose(maps.entropy(np.full((2, k), 1 / k, np.float32)), 1, atol=1e-5)
    assert maps.entropy(np.ones((4, 1), np.float32)).tolist() == [0, 0, 0, 0]


def test_the_table_has_a_line_for_each_image_that_was_read_and_class(out):
    lines = list(csv.DictReader((out / "areas.csv").open(newline="")))
    assert [(os.path.basename(line["file"]), line["class"]) for line in lines] == [
        (file, name) for file in ("a.png", "b.png") for name in CLASSES.class_names
    ]
    for number, file in enumerate("ab"):
        pixels = np.bincount(shares(number).argmax(-1).ravel(), minlength=3)
        own = lines[3 * number : 3 * number + 3]
        assert [int(line["pixels"]) for line in own] == pixels.tolist()
        assert sum(float(line["share"]) for line in own) == pytest.approx(1)
        areas = json.loads((out / f"{file}.json").read_text())["classes"]
        assert [area["pixels"] for area in areas.values()] == pixels.tolist()


def polygon_area(ring):
    (x, y), (u, v) = np.array(ring).T, np.roll(np.array(ring), -1, axis=0).T
    return (x * v - u * y).sum() / 2


def test_contours_of_all_formats_cover_the_classes(out):
    """Areas by the shoelace formula are the counts of pixels; what no format says is not there."""
    coco = json.loads((out / "contours_coco.json").read_text())
    assert [each["file_name"] for each in coco["images"]] == ["a.png", "deep/b.png"]
    assert [each["id"] for each in coco["categories"]] == [0, 1, 2]
    assert [each["id"] for each in coco["annotations"]] == list(
        range(1, len(coco["annotations"]) + 1)
    )
    for number, name in enumerate("ab"):
        pixels = np.bincount(shares(number).argmax(-1).ravel(), minlength=3)
        totals = np.zeros((3, 3))
        for each in json.loads((out / f"{name}_contours.geojson").read_text())["features"]:
            rings = each["geometry"]["coordinates"]
            assert all(ring[0] == ring[-1] for ring in rings)
            totals[0, each["properties"]["number"]] += sum(
                polygon_area(ring[:-1]) for ring in rings
            )
        labelme = json.loads((out / f"{name}_labelme.json").read_text())
        assert (labelme["imageHeight"], labelme["imageWidth"]) == (9, 13)
        assert np.asarray(Image.open(out / labelme["imagePath"])).shape == (9, 13)
        for shape in labelme["shapes"]:
            assert shape["shape_type"] == "polygon"
            totals[1, CLASSES.class_names.index(shape["label"])] += polygon_area(shape["points"])
        for each in coco["annotations"]:
            if each["image_id"] == number + 1:
                (flat,) = each["segmentation"]
                assert each["area"] == polygon_area(np.reshape(flat, (-1, 2)))
                totals[2, each["category_id"]] += each["area"]
        np.testing.assert_array_equal(totals, [pixels] * 3)


def test_pycocotools_loads_the_file_and_gives_back_the_label_maps(out):
    coco = pytest.importorskip("pycocotools.coco").COCO(str(out / "contours_coco.json"))
    for number, info in enumerate(coco.loadImgs(coco.getImgIds())):
        found = np.full((info["height"], info["width"]), 99)
        for each in coco.loadAnns(coco.getAnnIds(imgIds=info["id"])):
            found[coco.annToMask(each) > 0] = each["category_id"]
        np.testing.assert_array_equal(found, shares(number).argmax(-1))


def test_classes_are_left_out_of_contours_if_asked(tmp_path):
    draw(tmp_path / "in/a.png")
    predict(tmp_path / "in", tmp_path / "out", without=[0])
    coco = json.loads((tmp_path / "out/contours_coco.json").read_text())
    assert {each["category_id"] for each in coco["annotations"]} == {1, 2}
    assert [each["id"] for each in coco["categories"]] == [1, 2]


@pytest.mark.parametrize("dims", [1, 3])
def test_volumes_and_signals_have_arrays(tmp_path, dims):
    """The rule: a kind of output is written of what can have it, or is an error before all."""
    array = image(0, (5, 6, 7)[:dims])
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in/a.npy", array)
    can = [name for name in ALL if name in kinds.EACH and kinds.EACH[name].array is not None]
    can += [name for name in ALL if name in kinds.SHARED and dims in kinds.SHARED[name].dims]
    assert len(can) == 7
    predict(tmp_path / "in", tmp_path / "out", can, dims=dims)
    expected = Grey()(array[..., None]).probabilities()
    found = np.load(tmp_path / "out/a_confidence.npy")
    np.testing.assert_array_equal(found, expected.max(-1))
    found = read_zarr(tmp_path / "out/a_probabilities.zarr")
    np.testing.assert_array_equal(found, expected)
    for name in set(ALL) - set(can):
        with pytest.raises(ConfigError, match=f"--outputs={name}: is of pictures"):
            predict(tmp_path / "in", tmp_path / "other", [name], dims=dims)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["labels", "probabilities", "contours:cocoa", "", "csv"])
def test_an_output_that_there_is_not_is_named_before_anything_is_written(tmp_path, name):
    draw(tmp_path / "in/a.png")
    with pytest.raises(ConfigError, match="no such output.*Known: ") as error:
        predict(tmp_path / "in", tmp_path / "out", ["label", name])
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_no_two_outputs_have_one_name():
    """Whatever the combination, the case and the ending; shared ones included."""
    names = ["a" + ending for ending in kinds.ENDINGS] + ["a" + kinds.FACTS, kinds.RECORD]
    names += [shared.name for shared in kinds.SHARED.values()]
    plain = [unicodedata.normalize("NFC", name).casefold() for name in names]
    assert len(set(plain)) == len(plain) == 29
    pairs = [
        pair
        for each in (kinds.EACH, kinds.EACH | kinds.MULTILABEL, kinds.EACH | kinds.OBJECTS)
        for pair in itertools.permutations(each.values(), 2)
    ]
    for one, other in pairs:
        for whole in [(side,) * dims for side in (9, 10_000) for dims in (1, 2, 3)]:
            mine, its = one.ending(whole), other.ending(whole)
            assert mine != its or not mine[1:].count(".")


def test_every_image_keeps_its_own_outputs_whatever_it_is_called(tmp_path):
    """Images that are called like outputs of others or of all images, with any later choice."""
    stems = ["a", *(f"a{tail}" for tail in kinds.TAILS if tail), "predictions", "contours_coco"]
    for number, stem in enumerate(stems):
        draw(tmp_path / f"in/{stem}.png", number)
    draw(tmp_path / "in/x/Areas.png", 77)
    counts = predict(tmp_path / "in", tmp_path / "out")
    assert counts.predicted == len(stems) + 1
    files = contents(tmp_path / "out")
    zarrs = {file.partition(".zarr")[0] for file in files if ".zarr/" in file}
    assert counts.written == len({f for f in files if ".zarr/" not in f}) + len(zarrs)
    facts = [json.loads((tmp_path / "out" / file).read_text()) for file in files
             if file.endswith(".json") and "/" not in file]  # fmt: skip
    seen = {fact["file"] for fact in facts if "scale" in fact}
    assert len(seen) == len(stems) + 1
    before = {file: (tmp_path / "out" / file).read_bytes() for file in files}
    for some in (["label"], ["areas:csv"], ALL):
        predict(tmp_path / "in", tmp_path / "out", some)
    now = contents(tmp_path / "out")
    assert now == files
    assert all((tmp_path / "out" / file).read_bytes() == before[file] for file in files)


def test_outputs_beside_the_images_are_no_images(tmp_path):
    draw(tmp_path / "in/a.png")
    for _ in range(2):
        assert predict(tmp_path / "in", tmp_path / "in").used == 1


@pytest.mark.parametrize("name", [
    "a_entropy.png", "a_probabilities.npy", "a_contours.geojson", "a_labelme.json", "areas.csv",
    "contours_coco.json", "predictions.json",
])  # fmt: skip
def test_files_of_the_user_are_never_overwritten(tmp_path, name):
    draw(tmp_path / "in/a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text('{"mine": true}')
    with pytest.raises(UserError, match=f"would be overwritten: .*{name}"):
        predict(tmp_path / "in", tmp_path / "out")
    assert contents(tmp_path / "out") == {name}


@pytest.mark.parametrize("inside", ["a_probabilities/notes.txt", "a_probabilities.zarr/notes"])
def test_a_folder_of_ours_in_which_the_user_put_something_stays(out, tmp_path, inside):
    (out / inside).write_text("mine")
    with pytest.raises(UserError, match="would be overwritten"):
        predict(tmp_path / "in", out)
    assert (out / inside).read_text() == "mine"


def test_what_is_over_all_images_is_never_that_of_others(tmp_path):
    """The rule: it is replaced only where the new one has all its images, by the same run."""
    draw(tmp_path / "in/a.png")
    draw(tmp_path / "other/b.png")
    out, run = tmp_path / "out", tmp_path / "run"
    predict(tmp_path / "in", out, ["areas:csv"], run=run)
    for inputs, by in (("other", run), ("in", tmp_path / "run2")):
        with pytest.raises(UserError, match="would be overwritten"):
            predict(tmp_path / inputs, out, ["areas:csv"], run=by)
    assert predict(tmp_path / "other", out, ["contours:coco"], run=run).predicted == 1
    draw(tmp_path / "in/c.png")  # more images: nothing is lost
    assert predict(tmp_path / "in", out, ["areas:csv"], run=run).predicted == 2
    (tmp_path / "in/a.png").unlink()  # fewer: the table would lose some
    with pytest.raises(UserError, match=r"would be overwritten: .*areas\.csv"):
        predict(tmp_path / "in", out, ["areas:csv"], run=run)


@pytest.mark.parametrize("failing", range(1, 25))
def test_a_disk_that_fills_leaves_whole_files(tmp_path, monkeypatch, failing):
    """One line, whichever output has no room, also the second time, when all are replaced."""
    draw(tmp_path / "in/a.png")
    replace, out = os.replace, tmp_path / "out"
    for _ in range(2):
        count = [0]

        def full(*arguments, count=count):
            count[0] += 1
            if count[0] == failing:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return replace(*arguments)

        monkeypatch.setattr(os, "replace", full)
        try:
            predict(tmp_path / "in", out)
        except UserError as error:
            assert "No space left" in str(error) and "\n" not in str(error)
        else:
            assert count[0] < failing
        monkeypatch.undo()
        assert not [file for file in contents(out) if file.startswith(".") or "/." in file]
        assert not list(out.glob(".*"))
        assert predict(tmp_path / "in", out).written == 16


def test_tensorstores_errors_are_one_line(tmp_path, monkeypatch):
    draw(tmp_path / "in/a.png")

    def full(*arguments, **options):
        raise ValueError("RESOURCE_EXHAUSTED: no room\n  here")

    monkeypatch.setattr(tensorstore, "open", full)
    with pytest.raises(UserError, match="Cannot write .*zarr: RESOURCE_EXHAUSTED: no room here"):
        predict(tmp_path / "in", tmp_path / "out", ["probabilities:zarr"])
    assert contents(tmp_path / "out") == {"a.json"}
