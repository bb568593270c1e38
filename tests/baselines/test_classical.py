"""Classical methods: against scikit-image and scikit-learn called by hand, and as runs."""

import json
import os
import pathlib

import numpy as np
import pytest
from PIL import Image
from skimage import draw, filters
from sklearn.cluster import KMeans

from configs import dsb2018, quickstart, zoo
from experiments.classical import study
from segjax.assemble import parts as parts_lib
from segjax.baselines import base, classical
from segjax.baselines.base import Seen
from segjax.baselines.predictor import Fitted
from segjax.commands import cli
from segjax.config import lookup, sections
from segjax.errors import ConfigError
from segjax.feedback.store import Store
from segjax.runs import run as run_lib
from segjax.runs import train, verify, writer
from segjax.studies import finished
from tests import benchmark_files
from tests.program import ROOT

TWO_SIDED = ("otsu", "adaptive", "canny", "watershed", "random_walker", "chan_vese")


def make(name, num_classes=2, **more):
    section = dict(type=f"classical:{name}", **{**zoo.CLASSICAL[name], **more})
    return lookup.build("baselines", section, where="config.model", num_classes=num_classes)


def blobs(seed=0, channels=1):
    """Return an image of two bright discs in a dark ground, and where they are."""
    key, label = np.random.default_rng(seed), np.zeros((48, 56), np.uint8)
    for centre in ((16, 16), (30, 40)):
        label[draw.disk(centre, 9)] = 1
    noise = key.normal(0, 6, (*label.shape, channels))
    return Seen((label[..., None] * 110.0 + 60 + noise).clip(0, 255).astype(np.uint8), label)


def dice(found, label):
    valid = label != 255
    found, truth = (found == 1) & valid, label == 1
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", zoo.CLASSICAL)
def test_every_method_finds_what_is_bright_and_learns_where_it_is_dark(name, channels):
    """Two discs; in the negative of the image the same pixels, which only the fit can know."""
    finer = {"slic": {"segments": 300}}  # superpixels of the debug size are larger than a disc
    seen = blobs(channels=channels)
    negative = Seen(255 - seen.image, seen.label)
    for example in (seen, negative):
        method = make(name, **finer.get(name, {}))
        numbers = method.fit([example], seed=0)
        assert {key: np.shape(x) for key, x in numbers.items()} == method.shapes(channels)
        found = Fitted(method, numbers)(example.image)
        assert found.classes.dtype == np.uint8 and found.classes.shape == seen.label.shape
        # A contour of Chan and Vese rounds off noise, Canny's edges lie outside of what they bound.
        assert dice(found.classes, seen.label) > 0.85
        shares = found.probabilities()
        assert shares.dtype == np.float32 and np.allclose(shares.sum(-1), 1)
        np.testing.assert_array_equal(shares.argmax(-1), found.classes)


def test_kmeans_is_that_of_scikit_learn():
    seen = blobs(channels=3)
    method = make("kmeans", num_classes=3)
    numbers = method.fit([seen], seed=0)
    values = (seen.image.reshape(-1, 3) - numbers["mean"]) / numbers["std"]
    theirs = KMeans(4, init=numbers["centres"], n_init=1, max_iter=1).fit(numbers["centres"])
    theirs.cluster_centers_ = numbers["centres"].astype(np.float64)
    nearest = theirs.predict(values.astype(np.float64))
    expected = numbers["shares"][nearest].reshape(*seen.label.shape, 3)
    np.testing.assert_array_equal(method.predict(numbers, seen.image), expected)


def test_void_pixels_teach_nothing_and_flat_images_hold_nothing():
    seen = blobs()
    label = seen.label.copy()
    label[:, 28:] = 255
    other = Seen(np.where(label[..., None] == 255, 255 - seen.image, seen.image), label)
    for name in ("otsu", "kmeans"):
        one = make(name).fit([Seen(seen.image[:, :28], label[:, :28])], seed=0)
        if name == "otsu":
            assert not one["dark"]
        assert make(name).fit([other], seed=0).keys() == one.keys()
    flat = np.full((40, 40, 1), 7, np.uint8)
    for name in TWO_SIDED:
        for dark in (0, 1):
            found = make(name).predict({"dark": np.float32(dark)}, flat)
            assert not found[..., 1].any(), name


@pytest.mark.parametrize(
    ("type_", "num_classes", "dims", "channels", "said"),
    [
        ("otsu", 11, 2, 1, "classical:otsu.* 11 classes"),
        ("canny", 2, 3, 1, "classical:canny.*2 axes.*these have 3"),
        ("multi_otsu", 4, 2, 13, "classical:multi_otsu.*1 or 3 channels.*these have 13"),
        ("slic", 4, 1, 1, "classical:slic.*2 or 3 axes.*these have 1"),
    ],
)
def test_what_a_method_cannot_see_is_one_line(type_, num_classes, dims, channels, said):
    with pytest.raises(ConfigError, match=said):
        make(type_, num_classes).check(dims=dims, channels=channels)


@pytest.mark.parametrize(
    ("arg", "change", "said"),
    [
        ("model=otsu,debug", {}, "'classical:otsu': tells a foreground .* 8 classes"),
        ("model=kmeans,multilabel,debug", {}, "overlap"),
        ("model=kmeans,debug", {"inference.flips": [1]}, "inference.flips"),
        ("model=kmeans,debug", {"model.pretrained": {}}, "pretrained"),
        ("model=kmeans,debug", {"model.type": "classical:kmean"}, "Did you mean 'kmeans'"),
        ("model=kmeans,debug", {"model.type": "classical:shares"}, "classical has no 'shares'"),
        ("model=canny,dims=3,debug", {}, "2 axes in space"),
    ],
)
def test_a_config_that_asks_for_more_is_one_line_before_anything_is_written(
    tmp_path, arg, change, said
):
    config = sections.plain(quickstart.get_config(arg))
    config = sections.override(config, [f"{key}={value!r}" for key, value in change.items()])
    with pytest.raises(ConfigError, match=said):
        train.run(tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


DATA = os.environ.get("SEGJAX_DATA", "")


@pytest.fixture(scope="module")
def nuclei(tmp_path_factory):
    """A fitted run of Otsu's method on files as the Data Science Bowl's, which is its folder."""
    root = tmp_path_factory.mktemp("nuclei")
    benchmark_files.make_fluorescence(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGJAX_DATA", str(root))
        config = sections.plain(dsb2018.get_config("task=semantic,model=otsu,size=debug"))
        for section in (config["input"], *config["evals"].values()):
            section["batch_size"] = 8  # of as many devices
        assert train.run(root / "run", config) == 0
        yield root / "run"


def test_otsu_s_masks_and_dice_are_those_of_scikit_image(nuclei):
    """Masks to the pixel, scores by hand from scikit-image's threshold."""
    opened = run_lib.open_run(nuclei)
    source = parts_lib.make_source(opened.config, "test")
    predict, met, pixels = opened.predictor(), 0, 0
    dark = bool(opened.variables["params"]["dark"])
    for example in (source[number] for number in range(len(source))):
        values = example["image"][..., 0]
        mask = (values > filters.threshold_otsu(values)) ^ dark
        np.testing.assert_array_equal(predict(example["image"]).classes, mask)
        met += 2 * int((mask & (example["label"] == 1)).sum())
        pixels += int(mask.sum() + (example["label"] == 1).sum())
    report = json.loads((nuclei / "eval" / "test.json").read_text())
    assert report["per_class"]["nucleus"]["dice"] == pytest.approx(met / pixels, abs=1e-12)
    assert report["step"] == report["checkpoint"] == 1


@pytest.mark.slow
@pytest.mark.skipif(not DATA, reason="SEGJAX_DATA is not set")
def test_otsu_s_dice_on_the_real_data_science_bowl_is_that_of_numpy(tmp_path, monkeypatch):
    """Twelve of its test images, read by Pillow, thresholded by scikit-image, counted by NumPy."""
    monkeypatch.setenv("SEGJAX_DATA", DATA)  # where `nuclei` has its own
    config = sections.plain(dsb2018.get_config("task=semantic,model=otsu"))
    config["model"]["examples"] = 8
    config["report"]["page"], config["checkpoint"]["keep_best"] = False, ""
    config["evals"] = {"test": config["evals"]["test"] | {"examples": 12}}
    assert train.run(tmp_path / "run", config) == 0
    root = pathlib.Path(DATA, "dsb2018", "test")
    names = sorted(path.name for path in (root / "images").iterdir())
    met, pixels = 0, 0
    for name in (names[place * len(names) // 12] for place in range(12)):
        image = np.asarray(Image.open(root / "images" / name))
        nucleus = np.asarray(Image.open(root / "instances" / name)) > 0
        bright = image > filters.threshold_otsu(image)
        met += int((bright & nucleus).sum())
        pixels += int(bright.sum() + nucleus.sum())
    report = json.loads((tmp_path / "run" / "eval" / "test.json").read_text())
    assert report["num_examples"] == 12
    assert report["per_class"]["nucleus"]["dice"] == pytest.approx(2 * met / pixels, abs=1e-6)
    assert 2 * met / pixels > 0.5  # nuclei shine: the dark side would have next to nothing


def test_a_fitted_run_is_a_run(nuclei, capsys):
    """It is not fitted again, scored anew to the same, recorded as studies need it."""
    before = {path: path.stat().st_mtime_ns for path in (nuclei / "checkpoints").rglob("*")}
    config = run_lib.read_config(nuclei)
    del config["resolved"]
    assert train.run(nuclei, config) == 0
    after = {path: path.stat().st_mtime_ns for path in (nuclei / "checkpoints").rglob("*")}
    assert before == after
    (again,) = run_lib.open_run(nuclei).evaluate("test")
    report = json.loads((nuclei / "eval" / "test.json").read_text())
    assert again.result["confusion_matrix"] == report["confusion_matrix"]
    record = finished.of_run(nuclei)
    assert record["parameters"] == 1 and record["scores"]["test/dice"] == report["dice"]
    assert record["images_per_s"] > 0 and record["gflops"] == 0
    assert [line["step"] for line in writer.read(nuclei)] == [1, 1]
    assert "fitted to 3 of 3 examples" in (nuclei / "log.txt").read_text()


RUN, KMEANS = "--workdir={run}", f"--config={ROOT}/configs/quickstart.py:model=kmeans,debug"


@pytest.mark.parametrize(
    "command",
    [
        ["--mode=export", "--format=onnx", "--output=x.onnx", RUN],
        ["--mode=export", "--publisher=segjax", "--output=x.safetensors", RUN],
        ["--mode=explain", "--input=.", "--output=out", RUN],
        ["--mode=retrain", "--feedback=feedback", RUN],
        ["--mode=adopt", "--workdir=adopted", KMEANS],
        ["--mode=lr_range", "--output=rates", KMEANS],
        ["--mode=summary", KMEANS],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_what_only_networks_can_do_is_one_line(nuclei, tmp_path, capsys, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    Store.open("feedback")
    assert cli.main(["run.py", *(word.format(run=nuclei) for word in command)]) == 2
    said = capsys.readouterr().err
    assert "classical method" in said and said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["feedback"]
    assert not (nuclei / "versions").exists()


def test_a_fit_has_no_steps_to_take_again(nuclei):
    with pytest.raises(ConfigError, match="'classical:otsu' is fitted at once"):
        next(verify.verify(nuclei, step=3))


SEARCH = """
def get_search():
    return {
        "config": "configs/quickstart.py:model=kmeans,debug", "metric": "val/miou", "mode": "max",
        "method": "random", "trials": 2, "space": {"model.clusters": {"choices": [2, 3]}},
    }
"""
STUDY = """
def get_study():
    return dict(
        title="Methods", config="configs/quickstart.py:model=kmeans,debug", metrics=["val/miou"],
        seeds=[0], rows=[
            dict(name="kmeans"),
            dict(name="levels", config="configs/quickstart.py:model=multi_otsu,debug"),
        ],
    )
"""


@pytest.mark.slow
def test_methods_enter_studies_folds_and_searches(tmp_path, monkeypatch):
    """What each writes down is what its runs have in their own files."""
    monkeypatch.chdir(ROOT)
    for name, text in (("study", STUDY), ("search", SEARCH)):
        (tmp_path / f"{name}.py").write_text(text)

    def run(mode, *flags):
        folder = tmp_path / mode / "runs"
        assert cli.main(["run.py", f"--mode={mode}", f"--workdir={folder}", *flags]) == 0
        found = sorted(each for each in folder.rglob("eval/val.json") if each.parents[1] != folder)
        return folder, [json.loads(path.read_text()) for path in found]

    _, reports = run("study", f"--study={tmp_path}/study.py")
    records = finished.read(tmp_path / "results.jsonl")
    assert {record["row"] for record in records} == {"kmeans", "levels"}
    assert {r["scores"]["val/miou"] for r in records} == {each["miou"] for each in reports}

    folder, reports = run("crossval", KMEANS, "--folds=2")
    written = json.loads((folder / "crossval.json").read_text())
    assert sum(each["num_examples"] for each in reports) == 16  # each example once
    assert "miou" in str(written) and len(reports) == 2

    folder, reports = run("search", f"--search={tmp_path}/search.py")
    best = json.loads((folder / "search.json").read_text())
    assert str(max(each["miou"] for each in reports)) in str(best)


def test_the_fit_can_be_verified(nuclei):
    found = {each.about: each.kind for each in verify.verify(nuclei)}
    assert found["the fit"] == "ok" and "differs" not in found.values()


def test_watershed_tells_touching_objects_apart_and_components_do_not():
    label = np.zeros((48, 64), np.uint8)
    for column in (20, 36):
        label[draw.disk((24, column), 10)] = 1
    image = (40 + 150 * label[..., None]).astype(np.uint8)
    counts = {}
    for name in ("otsu", "watershed"):
        method = make(name)
        found = method.find(method.fit([Seen(image, label)], seed=0), image, things=(1,))
        counts[name] = len(found.masks)
        assert found.scores.tolist() == [1.0] * len(found.masks)
        assert sum(int(mask.inside.sum()) for mask in found.masks) == label.sum()
    assert counts == {"otsu": 1, "watershed": 2}


def test_samples_leave_void_out_and_shares_of_an_empty_group_are_those_of_all():
    values = np.arange(24.0).reshape(4, 6, 1)
    label = np.full((4, 6), 255, np.uint8)
    label[1, 2:5] = 1
    got, classes = base.samples(values, label, most=2, draw=np.random.default_rng(0))
    assert len(got) == 2 and set(got.ravel()) <= {8, 9, 10} and classes.tolist() == [1, 1]
    found = base.shares(np.array([0, 0, 2]), np.array([1, 0, 1]), count=3, num_classes=2)
    np.testing.assert_allclose(found, [[0.5, 0.5], [1 / 3, 2 / 3], [0, 1]], atol=1e-6)


def test_every_method_of_the_room_is_in_the_zoo():
    known = {lookup.snake_case(name) for name in lookup.symbols(classical)}
    assert known == set(zoo.CLASSICAL)


def test_the_study_s_table_is_drawn_from_its_records():
    records = study.load()
    assert len(records) > 20
    text = (study.HERE / "README.md").read_text()
    assert study.redraw(text, records) == text
