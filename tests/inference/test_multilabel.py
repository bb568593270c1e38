"""Classes that overlap: what is written of them is what is scored, in every kind of output."""

import csv
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import quickstart
from segjax.assemble import parts
from segjax.config import sections
from segjax.data import core, decode, fit
from segjax.data.decode import Reading
from segjax.data.lazy import Lazy
from segjax.errors import ConfigError
from segjax.inference import dry_run, folder, network, paths, preview
from segjax.inference.layout import Layout
from segjax.inference.outputs import kinds
from segjax.inference.predictor import FunctionPredictor
from segjax.runs import run as run_lib
from segjax.runs import train
from segjax.structs import Classes, Outputs
from segjax.tasks import multilabel
from tests.inference.test_network import one_device

K = 3
CLASSES = Classes(("cell/1", "b", "c"), ((200, 0, 0), (0, 200, 0), (0, 0, 200)), 1)
CANVAS = {1: (40,), 2: (32, 40), 3: (8, 16, 16)}
SIZES = {1: ((40,), (97,)), 2: ((32, 40), (50, 70), (9, 61)), 3: ((8, 16, 16), (9, 20, 30))}


class Maps:
    """Pictures, volumes or signals of several sizes, each with a noisy map for every class."""

    class_names, palette = CLASSES.class_names, CLASSES.palette

    def __init__(self, dims):
        self.sizes, self.schema = SIZES[dims], core.multilabel_schema(1, K)

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        random = np.random.default_rng(index)
        label = random.integers(0, 2, (*self.sizes[index], K)).astype(np.uint8)
        label[0], label[1, ..., 1] = 255, 255
        image = random.integers(0, 255, (*self.sizes[index], 1), np.uint8)
        return {"image": image, "label": label, "name": str(index)}


class Conv(nn.Module):
    """A convolution: what it says of a pixel depends on the pixels around."""

    @nn.compact
    def __call__(self, image, *, train):
        window = (3,) * (image.ndim - 2)
        return Outputs(nn.Conv(K, window)(image.astype(jnp.float32) / 100))


def make_network(dims, how, **options):
    losses = [{"type": "pixel:cross_entropy", "activation": "sigmoid", "weight": 1.0}]
    task = multilabel.Task(losses=losses, num_classes=K, threshold=[0.5, 0.4, 0.6])
    layout = Layout(fit.Canvas(CANVAS[dims], how, 5), **options)
    forward = network.Forward(
        Conv(), task, normalize=lambda x: x, mesh=one_device(),
        schema=core.multilabel_schema(1, K), layout=layout,
    )  # fmt: skip
    some = jnp.zeros((1, *CANVAS[dims], 1))
    return network.Network(forward, Conv().init(jax.random.key(0), some, train=False)), layout


def predict(inputs, output, predictor, layout, outputs, without=()):
    return folder.predict(
        paths.list_inputs(str(inputs), output=output), output, predictor=predictor,
        classes=CLASSES, reading=Reading(1), step=3, layout=layout, outputs=outputs,
        without=without, multilabel=True,
    )  # fmt: skip


def masks(path):
    """Return the map of each class in a folder of pictures, in the order of their names."""
    return np.stack([np.asarray(Image.open(file)) for file in sorted(path.iterdir())], axis=-1)


def counts_of(pred, label):
    """Return what numpy counts, a class after the other."""
    found = np.zeros((K, 2, 2), int)
    for k in range(K):
        known = label[..., k] < 2
        np.add.at(found[k], (label[..., k][known], pred[..., k][known]), 1)
    return found


@pytest.mark.parametrize(
    ("dims", "how", "options"),
    [(2, "pad", {"blend": "gaussian", "overlap": 0.5}), (2, "resize", {"flips": (1,)}),
     (1, "pad", {}), (3, "resize", {})],
)  # fmt: skip
def test_numpy_counts_on_what_is_written_what_evaluation_counts(tmp_path, dims, how, options):
    """The rule: predict = evaluate, also of labels with an axis of classes behind space."""
    predictor, layout = make_network(dims, how, **options)
    source, scored = Maps(dims), {}
    for measured in predictor.measure(source, batch_size=2, threads=1):
        scored |= measured.counts
    assert list(scored) == list(range(len(source)))
    assert {counts.shape for counts in scored.values()} == {predictor._counts_shape()}
    (tmp_path / "in").mkdir()
    for number in scored:
        np.save(tmp_path / f"in/{number}.npy", source[number]["image"])
    predict(tmp_path / "in", tmp_path / "out", predictor, layout, ["label", "probabilities:npy"])
    for number, counts in scored.items():
        path = tmp_path / f"out/{number}_label"
        pred = masks(path) if dims == 2 else np.load(path.with_suffix(".npy"))
        assert pred.dtype == np.uint8 and set(np.unique(pred)) == {0, 1}
        np.testing.assert_array_equal(counts, counts_of(pred, source[number]["label"]))
        shares = np.load(tmp_path / f"out/{number}_probabilities.npy")
        np.testing.assert_array_equal(pred, shares > np.float32([0.5, 0.4, 0.6]))
        assert abs(shares.sum(-1) - 1).max() > 0.1  # each class by itself


class InParts(Maps):
    """The same, read where it is indexed, as large files are."""

    def __getitem__(self, index):
        example = super().__getitem__(index)
        return example | {
            name: Lazy(array.shape, array.dtype, array.__getitem__, name=name)
            for name, array in example.items()
            if name != "name"
        }


@pytest.mark.parametrize("make", [Maps, InParts])
def test_a_function_is_measured_as_numpy_counts(make):
    source, held = make(2), Maps(2)
    predictor = FunctionPredictor(lambda image: image % np.arange(2, 2 + K) == 0, num_classes=K)
    for measured in predictor.measure(source, batch_size=1, threads=1):
        for number, counts in measured.counts.items():
            pred = predictor(held[number]["image"])
            np.testing.assert_array_equal(counts, counts_of(pred.classes, held[number]["label"]))
            np.testing.assert_array_equal(pred.probabilities(), pred.classes)


PIXELS = np.random.default_rng(0).integers(0, 250, (18, 24)).astype(np.uint8)
PIXELS = PIXELS.repeat(5, 0).repeat(5, 1)
LABEL = (PIXELS[..., None] > np.arange(60, 60 * (K + 1), 60)).astype(np.uint8)
CUTS = FunctionPredictor(lambda image: image > np.arange(60, 60 * (K + 1), 60), num_classes=K)
CAN = kinds.possible(multilabel=True)
PLAIN = Layout(fit.Canvas((32, 40), "pad", 0))


@pytest.fixture
def out(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "in/a.png")
    for _ in range(2):  # a second time in place of the first
        counts = predict(tmp_path / "in", tmp_path / "out", CUTS, PLAIN, CAN)
    assert counts.predicted == 1
    return tmp_path / "out"


def test_every_kind_is_of_each_class_by_itself(out):
    """Pixels, shares, masks, contours; a mask's own number is 1, as the folder source reads it."""
    names = ["000_cell_1.png", "001_b.png", "002_c.png"]
    assert sorted(file.name for file in (out / "a_label").iterdir()) == names
    for k, name in enumerate(names):
        mask = decode.read_label(str(out / "a_label" / name), name=name)
        np.testing.assert_array_equal(mask, LABEL[..., k])
        with Image.open(out / "a_label" / name) as picture:
            colours = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)
        assert {*map(tuple, colours)} == {(0, 0, 0), CLASSES.palette[k]}
    pixels = LABEL.sum((0, 1))
    about = json.loads((out / "a.json").read_text())
    assert about["size"] == [90, 120] and about["outputs"][:3] == [f"a_label/{n}" for n in names]
    areas = list(about["classes"].values())
    assert [area["pixels"] for area in areas] == pixels.tolist()
    assert [area["share"] for area in areas] == (pixels / PIXELS.size).tolist()
    assert sum(area["share"] for area in areas) > 1
    table = list(csv.DictReader((out / "areas.csv").open(newline="")))
    assert [int(line["pixels"]) for line in table] == pixels.tolist()
    features = json.loads((out / "a_contours.geojson").read_text())["features"]
    coco = json.loads((out / "contours_coco.json").read_text())["annotations"]
    labelme = json.loads((out / "a_labelme.json").read_text())
    assert (labelme["imageHeight"], labelme["imageWidth"]) == (90, 120)
    for k, count in enumerate(pixels):
        own = [f["properties"]["pixels"] for f in features if f["properties"]["number"] == k]
        assert sum(own) == count
        assert sum(each["area"] for each in coco if each["category_id"] == k) == count
    assert np.load(out / "a_probabilities.npy").shape == (90, 120, K)


def test_the_overlay_mixes_the_colours_of_classes_that_overlap(out):
    """What has the same classes has the same colour there, on a picture that is grey alike."""
    overlay = np.asarray(Image.open(out / "a_overlay.png")).astype(int)
    assert overlay.shape == (90, 120, 3)
    some = PIXELS == PIXELS[(PIXELS > 120) & (PIXELS <= 180)][0]  # of the first two classes
    red, green, blue = overlay[some][0]
    assert red == green > blue and (overlay[some] == overlay[some][0]).all()


def test_classes_are_left_out_of_contours_if_asked(tmp_path, out):
    predict(tmp_path / "in", tmp_path / "new", CUTS, PLAIN, ["contours:geojson"], without=[1])
    features = json.loads((tmp_path / "new/a_contours.geojson").read_text())["features"]
    assert {feature["properties"]["number"] for feature in features} == {0, 2}


@pytest.mark.parametrize("name", kinds.OF_ONE)
def test_what_is_of_one_class_a_pixel_is_a_config_error_before_anything_is_written(tmp_path, name):
    (tmp_path / "in").mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "in/a.png")
    with pytest.raises(ConfigError, match=f"--outputs={name}: .*overlap"):
        predict(tmp_path / "in", tmp_path / "out", CUTS, PLAIN, ["label", name])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("large", [False, True])
def test_a_dry_run_lists_what_is_then_written(tmp_path, monkeypatch, large):
    """Of images too large to be held as well: their map is one file, in parts."""
    if large:
        monkeypatch.setattr(preview, "LARGE", 1000)
        monkeypatch.setattr(preview, "DRAWN", 700)
    (tmp_path / "in").mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "in/a.png")
    found = paths.list_inputs(str(tmp_path / "in"))
    lines = dry_run.lines(
        found, tmp_path / "out", class_names=CLASSES.class_names, reading=Reading(1),
        run=tmp_path, outputs=CAN, multilabel=True,
    )  # fmt: skip
    listed = {line.rstrip("/") for line in lines if line.startswith(f"{tmp_path}/out/")}
    predict(tmp_path / "in", tmp_path / "out", CUTS, PLAIN, CAN)
    zarr = tmp_path / "out/a_probabilities.zarr"
    files = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert listed == {str(zarr if zarr in file.parents else file) for file in files}
    if large:
        np.testing.assert_array_equal(np.load(tmp_path / "out/a_label.npy"), LABEL)
        areas = json.loads((tmp_path / "out/a.json").read_text())["classes"].values()
        assert [area["pixels"] for area in areas] == LABEL.sum((0, 1)).tolist()
        assert [area["share"] for area in areas] == (LABEL.sum((0, 1)) / PIXELS.size).tolist()
        assert Image.open(tmp_path / "out/a_overlay.png").size == (30, 23)


@pytest.mark.parametrize("steps", [[{"type": "crf"}], [{"type": "minimum_area", "pixels": 9}]])
def test_post_processing_is_a_config_error(steps):
    """Each step decides on one class for a pixel, so none is of classes that overlap."""
    config = sections.plain(quickstart.get_config("multilabel,debug"))
    config["inference"]["postprocess"] = steps
    names = tuple("abcdefg")
    with pytest.raises(ConfigError, match="config.inference.postprocess: .*multi-label"):
        parts.make_parts(config, Classes(names, ((0, 0, 0),) * 7, 3))


@pytest.mark.slow
def test_a_run_predicts_what_its_evaluation_counts_and_refuses_to_be_tuned(tmp_path):
    """From the config to the files: `open_run` knows that classes overlap by the task alone."""
    config = sections.plain(quickstart.get_config("multilabel,debug"))
    assert train.run(tmp_path / "run", config) == train.DONE
    opened = run_lib.open_run(tmp_path / "run")
    assert opened.parts.multilabel
    (report,) = opened.evaluate()
    source = opened.evaluators("val")[0].source
    total = np.zeros((len(source.class_names), 2, 2), int)
    for number in range(len(source)):
        pred, label = opened.predictor()(source[number]["image"]).classes, source[number]["label"]
        for k in range(len(total)):
            known = label[..., k] < 2
            np.add.at(total[k], (label[..., k][known], pred[..., k][known]), 1)
    assert report.result["counts"] == total.tolist()
    with pytest.raises(ConfigError, match="--mode=tune .*overlap"):
        opened.tune()
