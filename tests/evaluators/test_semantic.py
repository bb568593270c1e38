"""The evaluator's integers and means do not depend on how the split is dealt into batches."""

import json
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.data import fit
from segjax.evaluators import semantic
from segjax.inference import network
from segjax.inference.layout import Layout
from segjax.inference.network import Forward
from segjax.inference.predictor import FunctionPredictor
from segjax.runs import writer
from segjax.runtime import sharding
from segjax.structs import Classes, Field, Outputs, Term
from segjax.tasks import semantic as task_lib

K = 3
SCHEMA = {"image": Field("image", (3,)), "label": Field("classes")}
CLASSES = Classes(("a", "b", "c"), ((0, 0, 0),) * K, 3)


class Scenes:
    """Seven images whose first channel is a noisy copy of the label."""

    class_names, palette, schema = ("a", "b", "c"), ((0, 0, 0),) * K, SCHEMA

    def __len__(self):
        return 7

    def __getitem__(self, index):
        random = np.random.default_rng(index)
        label = random.integers(0, K, (32, 32)).astype(np.uint8)
        seen = np.where(random.random((32, 32)) < 0.1 * index, 0, label).astype(np.uint8)
        label[: index + 1] = 255
        return {"image": np.stack([seen] * 3, -1), "label": label, "name": str(index)}


class Network(nn.Module):
    """Logits that say the class in the first channel."""

    def __call__(self, image, *, train):
        return Outputs(5.0 * jax.nn.one_hot(image[..., 0].astype(jnp.int32), K))


def evaluator(batch_size, data=1):
    """Return an evaluator of the scenes, and a network to score, on one mesh."""
    losses = [dict(type="pixel:cross_entropy", weight=1.0), dict(type="region:dice", weight=0.5)]
    task = task_lib.Task(losses=losses, num_classes=K)
    forward = Forward(
        Network(), task, normalize=lambda x: x, mesh=sharding.make_mesh(data=data, space=8 // data),
        schema=SCHEMA, layout=Layout(fit.Canvas((32, 32), "pad", 0)),
    )  # fmt: skip
    scored = semantic.Evaluator(
        split="val", batch_size=batch_size, name="val", source=Scenes(), classes=CLASSES
    )
    return scored, network.Network(forward, {})


def score(batch_size, data=1, draw=False):
    scored, predictor = evaluator(batch_size, data)
    bar = types.SimpleNamespace(update=lambda count: None)
    return scored.evaluate(predictor, step=4, progress=bar, draw=draw)


def test_counts_are_numpys():
    total = np.zeros((K, K), int)
    for i in range(7):
        example = Scenes()[i]
        valid = example["label"] != 255
        np.add.at(total, (example["label"][valid], example["image"][..., 0][valid]), 1)
    assert score(3).result["confusion_matrix"] == total.tolist()


@pytest.mark.parametrize(("batch_size", "data"), [(1, 1), (8, 1), (8, 8), (4, 2)])
def test_batches_devices_and_padding_do_not_matter(batch_size, data):
    report, other = score(3), score(batch_size, data)
    assert report.result["confusion_matrix"] == other.result["confusion_matrix"]
    assert other.result["num_examples"] == 7 and other.result["step"] == 4
    assert report.scalars["val/loss"] == pytest.approx(other.scalars["val/loss"], rel=1e-5)


def test_best_median_and_worst_are_the_right_pictures():
    scored, predictor = evaluator(3)
    scores = np.linspace(1.0, 0.4, 7)
    rows = scored.examples(predictor, scores)
    assert [row["title"] for row in rows] == ["best", "median", "worst"]
    assert [row["name"] for row in rows] == ["0", "3", "6"]
    assert rows[0]["miou"] == 1.0 and rows[2]["miou"] == scores.min()
    for row in rows:
        np.testing.assert_array_equal(row["image"], Scenes()[int(row["name"])]["image"])
        np.testing.assert_array_equal(row["pred"], row["image"][..., 0])


def test_a_threshold_is_scored_by_the_same_code():
    """What is no network has no loss, and the same integers where it predicts the same."""
    scored, _ = evaluator(3)
    threshold = FunctionPredictor(lambda image: image[..., 0], num_classes=K)
    bar = types.SimpleNamespace(update=lambda count: None)
    report = scored.evaluate(threshold, step=0, progress=bar, draw=False)
    assert report.result["confusion_matrix"] == score(3).result["confusion_matrix"]
    assert "loss" not in report.result and "val/loss" not in report.scalars


def test_a_report_is_written_and_drawn_by_neutral_code(tmp_path):
    report = score(3, draw=True)
    report.write(tmp_path)
    assert json.loads((tmp_path / "eval" / "val.json").read_text())["num_examples"] == 7
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {"val_class_iou.png", "val_confusion_matrix.png", "val_examples.png"}
    assert report.lines()[0].startswith(f"step 4  val: mIoU {report.result['miou']:.4f}")


def test_the_score_is_of_the_labels_as_they_are():
    """Every other column of the label is class 1: a canvas of half its width cannot show them."""

    class Stripes(Scenes):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            label = np.zeros((64, 64), np.uint8)
            label[:, 1::2] = 1
            return {"image": np.ones((64, 64, 3), np.uint8), "label": label, "name": "stripes"}

    _, predictor = evaluator(1)
    predictor.forward.layout = Layout(fit.Canvas((32, 32), "resize", 0))
    scored = semantic.Evaluator(
        split="val", batch_size=1, name="val", source=Stripes(), classes=CLASSES
    )
    bar = types.SimpleNamespace(update=lambda count: None)
    report = scored.evaluate(predictor, step=0, progress=bar, draw=False)
    assert report.result["miou"] == 0.25
    assert np.sum(report.result["confusion_matrix"]) == 64 * 64


NAMES = {
    "plain": (["sky", "road", "sky_2"], ["sky", "road", "sky_2"]),
    "spaces": (["traffic light", "a/b", "x: y"], ["traffic_light", "a_b", "x_y"]),
    "falling together": (["a b", "a_b", "a/b", "a_b-2"], ["a_b-3", "a_b", "a_b-4", "a_b-2"]),
    "no letter": (["裂缝", "", "class0", "…"], ["class0-2", "class1", "class0", "class3"]),
    "accents": (["Gebäude", "Geb_ude", "."], ["Geb_ude-2", "Geb_ude", "class2"]),
}


@pytest.mark.parametrize("case", NAMES)
def test_every_class_is_logged_under_a_name_of_its_own(case):
    """The names are what `metrics.jsonl` takes, no two are equal, and safe ones stay."""
    given, expected = NAMES[case]
    got = semantic.log_names(given)
    assert got == expected and len(set(got)) == len(given)
    assert all(writer.NAME.fullmatch(f"val/iou/{name}") for name in got)


class Some(Scenes):
    """Scenes of some of the classes, predicted without a fault."""

    def __init__(self, classes):
        self.label = np.resize(np.array(classes, np.uint8), (32, 32))

    def __getitem__(self, index):
        image = np.stack([self.label] * 3, -1)
        return super().__getitem__(index) | {"label": self.label, "image": image}


def test_classes_and_foreground_are_logged_by_name_and_what_is_absent_is_not():
    """What is logged is in `metrics()`, equals the result, and is missing where nothing occurs."""
    report, (scored, _) = score(3), evaluator(3)
    logged = {name: x for name, x in report.scalars.items() if "iou/" in name}
    assert logged == {f"val/iou/{n}": report.result["per_class"][n]["iou"] for n in "abc"}
    assert report.scalars["val/miou_foreground"] == report.result["miou_foreground"]
    assert set(report.scalars) <= set(scored.metrics())
    assert len(report.lines()[0]) < 80
    for label, absent in (([0, 1], ["c"]), ([0], ["b", "c"]), ([1, 2], ["a"])):
        scored, predictor = evaluator(3)
        scored.source = Some(label)
        bar = types.SimpleNamespace(update=lambda count: None)
        report = scored.evaluate(predictor, step=0, progress=bar, draw=False)
        assert report.result["absent_classes"] == absent
        names = {name for name in report.scalars if "/iou/" in name}
        assert names == {f"val/iou/{n}" for n in "abc" if n not in absent}
        assert ("val/miou_foreground" in report.scalars) == (label != [0])
        assert all(np.isfinite(value) for value in report.scalars.values())


def test_one_class_has_no_foreground():
    one = Classes(("a",), ((0, 0, 0),), 3)
    scored = semantic.Evaluator(split="val", batch_size=1, name="val", source=Scenes(), classes=one)
    assert "val/iou/a" in scored.metrics() and "val/miou_foreground" not in scored.metrics()


@pytest.mark.parametrize(
    ("terms", "right"),
    [
        ([(2.0, 0.0)], 0),
        ([(0.0, 0.0), (3.0, 1e-12)], 3e12),
        ([(1e-9, 1e-9), (3e-9, 1e-9)], 2),
    ],
)
def test_a_mean_over_a_split_divides_by_what_there_is(terms, right):
    """As `Term.mean`: no floor, and 0 where nothing weighs."""
    losses = semantic.Losses()
    for total, weight in terms:
        losses.add({"loss": Term(np.float64(total), np.float64(weight))})
    assert losses.mean() == pytest.approx(right, rel=1e-12)
