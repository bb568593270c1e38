"""The evaluator's integers and means do not depend on how the split is dealt into batches."""

import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.assemble import parts as assemble
from segjax.data import core
from segjax.evaluators import semantic
from segjax.runtime import sharding
from segjax.structs import Outputs
from segjax.tasks import semantic as task_lib
from segjax.training import step

K = 3


class Scenes:
    """Seven images whose first channel is a noisy copy of the label."""

    class_names, palette = ("a", "b", "c"), ((0, 0, 0),) * K
    schema = core.semantic_schema(3)

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
    losses = [dict(type="pixel:cross_entropy", weight=1.0), dict(type="region:dice", weight=0.5)]
    task = task_lib.Task(losses=losses, num_classes=K)
    mesh = sharding.make_mesh(data=data, space=8 // data)
    whole, batch = sharding.replicated(mesh), sharding.batch_sharding(mesh, Scenes.schema)
    parts = types.SimpleNamespace(
        task=task,
        mesh=mesh,
        schema=Scenes.schema,
        canvas=assemble.Canvas((32, 32), "pad", 0),
        classes=assemble.classes_of(Scenes()),
        eval_step=jax.jit(
            step.make_eval_step(Network(), task, normalize=lambda x: x),
            in_shardings=(None, batch),
            out_shardings={"pred": batch["label"], "counts": whole, "loss": whole, "mask": whole},
        ),
    )
    return semantic.Evaluator(
        split="val", batch_size=batch_size, name="val", source=Scenes(), parts=parts
    )


def score(batch_size, data=1):
    bar = types.SimpleNamespace(update=lambda count: None)
    return evaluator(batch_size, data).run({}, step=4, progress=bar)


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
    np.testing.assert_array_equal(report.scores, other.scores)
    assert report.scalars["val/loss"] == pytest.approx(other.scalars["val/loss"], rel=1e-5)


def test_best_median_and_worst_are_the_right_pictures():
    scored = score(3)
    rows = evaluator(3).examples({}, scored.scores)
    assert [row["title"] for row in rows] == ["best", "median", "worst"]
    assert [row["name"] for row in rows] == ["0", "3", "6"]
    assert rows[0]["miou"] == 1.0 and rows[2]["miou"] == scored.scores.min()
    for row in rows:
        np.testing.assert_array_equal(row["image"], Scenes()[int(row["name"])]["image"])
        np.testing.assert_array_equal(row["pred"], row["image"][..., 0])
