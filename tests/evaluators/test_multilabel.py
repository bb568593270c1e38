"""The multi-label evaluator's integers do not depend on how a split is dealt, nor on its sizes."""

import json
import types

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics as sklearn

from segjax.data import core, fit
from segjax.errors import ConfigError, UserError
from segjax.evaluators import multilabel, semantic
from segjax.inference import network, preview
from segjax.inference.layout import Layout
from segjax.inference.network import Forward
from segjax.metrics import intervals
from segjax.runtime import sharding
from segjax.structs import Classes, Outputs
from segjax.tasks import multilabel as task_lib
from segjax.views import examples

K = 3
CLASSES = Classes(("a", "b", "c"), ((200, 0, 0), (0, 200, 0), (0, 0, 200)), K)
SIZES = {1: (40,), 2: (32, 32), 3: (6, 32, 32)}


class Overlaps:
    """Images whose channels are noisy copies of the classes' maps; class b is void in some rows."""

    class_names, palette = ("a", "b", "c"), CLASSES.palette
    schema = core.multilabel_schema(K, K)

    def __init__(self, size, more=0):
        self.size, self.more = size, more

    def __len__(self):
        return 5

    def __getitem__(self, index):
        random = np.random.default_rng(index)
        size = (*self.size[:-1], self.size[-1] + self.more * index)
        label = random.integers(0, 2, (*size, K)).astype(np.uint8)
        image = np.where(random.random(label.shape) < 0.05 * index, 1 - label, label)
        label[..., 0, 1], label[..., :3, :] = 255, 255
        return {"image": image.astype(np.uint8), "label": label, "name": str(index)}


class Network(nn.Module):
    """Logits that say which classes the channels say."""

    def __call__(self, image, *, train):
        return Outputs(8.0 * image.astype(jnp.float32) - 4)


def score(source, batch_size=3, data=1, draw=False, canvas=None, **options):
    losses = [{"type": "pixel:cross_entropy", "activation": "sigmoid", "weight": 1.0}]
    forward = Forward(
        Network(), task_lib.Task(losses=losses, num_classes=K), normalize=lambda x: x,
        mesh=sharding.make_mesh(data=data, space=8 // data if len(source.size) == 2 else 1,
                                fsdp=1 if len(source.size) == 2 else 8 // data),
        schema=source.schema, layout=Layout(canvas or fit.Canvas(source.size, "pad", 0)),
    )  # fmt: skip
    scored = multilabel.Evaluator(
        split="val", batch_size=batch_size, name="val", source=source, classes=CLASSES, **options
    )
    bar = types.SimpleNamespace(update=lambda count: None)
    report = scored.evaluate(network.Network(forward, {}), step=4, progress=bar, draw=draw)
    logged = set(report.scalars)
    assert logged == set(scored.metrics()) or (
        report.result["absent_classes"] and logged < set(scored.metrics())
    )
    return report


@pytest.mark.parametrize("dims", SIZES)
@pytest.mark.parametrize("more", [0, 9])
def test_counts_are_numpys(dims, more):
    """Also where images are larger than the canvas, and are scored in windows."""
    source = Overlaps(SIZES[dims], more)
    total = np.zeros((K, 2, 2), int)
    for i in range(len(source)):
        example = source[i]
        for c in range(K):
            known = example["label"][..., c] < 2
            cell = example["label"][..., c][known], example["image"][..., c][known]
            np.add.at(total[c], cell, 1)
    report = score(source, batch_size=8, data=8)
    assert report.result["counts"] == total.tolist()
    assert report.result["num_answers"] == total.sum() and report.result["num_examples"] == 5
    assert 0 < report.scalars["val/loss"] < 1 and report.headline["mIoU"] == report.result["miou"]


@pytest.mark.parametrize(("batch_size", "data"), [(1, 1), (4, 2)])
def test_batches_and_devices_do_not_matter(batch_size, data):
    source = Overlaps(SIZES[2])
    report, other = score(source), score(source, batch_size, data)
    assert report.result["counts"] == other.result["counts"]
    assert report.scalars["val/loss"] == pytest.approx(other.scalars["val/loss"], rel=1e-5)


def test_scores_are_of_the_labels_own_pixels_whatever_the_canvas():
    """Scaled to a quarter and back, every known answer of the full-size label still counts."""
    source = Overlaps(SIZES[2])
    known = sum(int((source[i]["label"] < 2).sum()) for i in range(5))
    canvas = fit.Canvas((16, 16), "resize", 0)
    report = score(source, batch_size=4, data=4, canvas=canvas)
    assert report.result["num_answers"] == known


def test_labels_of_another_kind_are_a_config_error():
    """For each evaluator, before anything is scored."""
    source = Overlaps(SIZES[2])
    options = {"split": "val", "batch_size": 1, "name": "val", "classes": CLASSES}
    with pytest.raises(ConfigError, match="config.evals.val: .*'labels'. Set type='multilabel'"):
        semantic.Evaluator(source=source, **options)
    source.schema = core.semantic_schema(K)
    with pytest.raises(ConfigError, match="config.evals.val: .*'classes'. Set type='semantic'"):
        multilabel.Evaluator(source=source, **options)


def test_a_report_is_written_and_drawn(tmp_path):
    report = score(Overlaps(SIZES[2]), draw=True)
    report.write(tmp_path)
    result = json.loads((tmp_path / "eval" / "val.json").read_text())
    assert result["per_class"].keys() == {"a", "b", "c"} and result["absent_classes"] == []
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {"val_class_iou.png", "val_class_answers.png", "val_examples.png"}
    assert report.lines()[0].startswith(f"step 4  val: mIoU {result['miou']:.4f}  Dice ")


def test_large_images_are_drawn_thinned(monkeypatch, tmp_path):
    """Image, truth and prediction alike, with their classes behind space."""
    monkeypatch.setattr(preview, "LARGE", 500)
    monkeypatch.setattr(preview, "DRAWN", 300)
    source, rows = Overlaps(SIZES[2]), []
    draw = examples.draw
    monkeypatch.setattr(
        examples,
        "draw",
        lambda *args, **fields: (rows.extend(fields["rows"]), draw(*args, **fields)),
    )
    score(source, draw=True).write(tmp_path)
    assert len(rows) == 3 and (tmp_path / "figures" / "val_examples.png").exists()
    for row in rows:
        assert row["image"].shape == (16, 16, K)
        assert row["label"].shape == row["pred"].shape == (16, 16)
    best = rows[0]
    np.testing.assert_array_equal(best["image"], source[0]["image"][::2, ::2])


def test_every_report_has_means_over_images():
    """Those of scikit-learn over each image's classes, void pairs left out by weight."""
    source = Overlaps(SIZES[2])
    iou, right = [], []
    for i in range(len(source)):
        example, own = source[i], []
        known = example["label"] < 2
        for c in range(K):
            at = known[..., c]
            pair = example["label"][..., c][at], example["image"][..., c][at]
            own.append(sklearn.jaccard_score(*pair))
        iou.append(np.mean(own))
        right.append((example["label"] == example["image"])[known].mean())
    result = score(source).result
    assert result["miou_per_image"] == pytest.approx(np.mean(iou))
    assert result["per_image"]["iou"] == result["miou_per_image"]
    assert result["per_image"]["accuracy"] == pytest.approx(np.mean(right))


class Empty(Overlaps):
    """Known everywhere to be of no class, which is what is predicted."""

    def __getitem__(self, index):
        label = np.zeros((*self.size, K), np.uint8)
        return {"image": label, "label": label, "name": str(index)}


def test_a_split_without_any_class_has_no_means_but_every_answer_right():
    result = score(Empty(SIZES[2]), intervals=5).result
    assert result["miou"] is result["miou_per_image"] is result["per_image"]["iou"] is None
    assert result["label_accuracy"] == result["per_image"]["accuracy"] == 1
    assert result["intervals"]["miou"] == [None, None]
    assert result["intervals"]["label_accuracy"] == [1.0, 1.0]


def test_all_that_is_logged_has_an_interval_around_it():
    result = score(Overlaps(SIZES[2]), intervals=200).result
    for name in multilabel.HEADLINES:
        low, high = result["intervals"][name]
        assert low <= result[name] <= high and low < high


def test_runs_are_compared_by_scores_of_their_own_kind_of_labels():
    """What is a function of the counts of class maps alone is no score of multi-label ones."""
    first = score(Overlaps(SIZES[2]), intervals=5).result
    table = first["per_example"]
    hit = [[0] * K, *table["hit"][1:]]
    second = {"per_example": table | {"hit": hit}}
    for name in multilabel.HEADLINES:
        found = intervals.compare(first, second, metric=name, resamples=50)
        assert found.first == pytest.approx(first[name]) and found.difference < 0
    for name in ("pixel_accuracy", "mean_accuracy", "miou_foreground", "kappa", "specificity"):
        with pytest.raises(UserError, match="is in neither report"):
            intervals.compare(first, second, metric=name)
    other = {"per_example": {key: value for key, value in table.items() if key != "known"}}
    with pytest.raises(UserError, match="is of other labels"):
        intervals.compare(first, other)


@pytest.mark.parametrize("metrics", [["hd95"], ["ece"], ["kappa"], [{"type": "region:volume"}]])
def test_metrics_of_class_maps_are_a_config_error(metrics):
    """Whatever they see: surfaces, probabilities, counts, labels."""
    with pytest.raises(ConfigError, match="config.evals.val.metrics=.*multi-label") as caught:
        score(Overlaps(SIZES[2]), metrics=metrics)
    assert "\n" not in str(caught.value)
