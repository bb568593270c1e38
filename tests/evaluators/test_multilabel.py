"""The multi-label evaluator's integers do not depend on how a split is dealt, nor on its sizes."""

import json
import types

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.data import core, fit
from segjax.errors import ConfigError
from segjax.evaluators import multilabel, semantic
from segjax.inference import network
from segjax.inference.layout import Layout
from segjax.inference.network import Forward
from segjax.runtime import sharding
from segjax.structs import Classes, Outputs
from segjax.tasks import multilabel as task_lib

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


def score(source, batch_size=3, data=1, draw=False, canvas=None):
    losses = [{"type": "pixel:cross_entropy", "activation": "sigmoid", "weight": 1.0}]
    forward = Forward(
        Network(), task_lib.Task(losses=losses, num_classes=K), normalize=lambda x: x,
        mesh=sharding.make_mesh(data=data, space=8 // data if len(source.size) == 2 else 1,
                                fsdp=1 if len(source.size) == 2 else 8 // data),
        schema=source.schema, layout=Layout(canvas or fit.Canvas(source.size, "pad", 0)),
    )  # fmt: skip
    scored = multilabel.Evaluator(
        split="val", batch_size=batch_size, name="val", source=source, classes=CLASSES
    )
    bar = types.SimpleNamespace(update=lambda count: None)
    report = scored.evaluate(network.Network(forward, {}), step=4, progress=bar, draw=draw)
    assert set(report.scalars) == set(scored.metrics())
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
