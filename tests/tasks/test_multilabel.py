"""What a multi-label task asks of its losses, and what it makes of scores."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import quickstart
from segjax.assemble import parts
from segjax.config import lookup, sections
from segjax.data import core
from segjax.errors import ConfigError
from segjax.runs import train, writer
from segjax.structs import Classes, Outputs
from segjax.tasks import base

LOSSES = [{"type": "pixel:cross_entropy", "activation": "sigmoid", "weight": 1.0}]


def make(losses=LOSSES, **arguments):
    section = {"type": "multilabel", "losses": losses, **arguments}
    return lookup.build("tasks", section, where="config.task", num_classes=3)


def test_a_class_is_there_where_its_probability_is_above_its_threshold():
    """For one threshold or one for each class, in any dimension, to the last digit of logits."""
    logits = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32) * 3
    for threshold in (0.5, 0.2, [0.1, 0.5, 0.9]):
        task = make(threshold=threshold)
        assert isinstance(task, base.DenseTask)
        for size in ((5,), (5, 1), (1, 5, 1)):
            scores = task.scores(Outputs(jnp.asarray(logits.reshape(2, *size, 3))))
            pred = task.decide(scores)
            assert pred.dtype == jnp.uint8 and pred.shape == (2, *size, 3)
            expected = 1 / (1 + np.exp(-logits.astype(np.float64))) > threshold
            np.testing.assert_array_equal(np.asarray(pred).reshape(2, 5, 3), expected)
    assert not make().decide(jnp.zeros((1, 2, 3))).any()  # one half is not above one half
    assert make().decide(jnp.full((1, 2, 3), 1e-30)).all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"threshold": [0.5, 0.5]}, "threshold has 2 values, expected 3"),
        ({"threshold": 0.0}, "threshold=0.0: expected"),
        ({"threshold": [0.5, 1.0, 0.5]}, "threshold.*1.0.*expected"),
        ({"losses": [{"type": "pixel:cross_entropy", "weight": 1}]}, "activation='sigmoid'"),
        ({"losses": [{"type": "pixel:top_k", "weight": 1}]}, "Use a loss that has 'activation'"),
        ({"losses": [{"type": "lovasz:softmax", "weight": 1}]}, "Use a loss that has"),
    ],
)
def test_what_it_cannot_use_is_a_config_error(wrong, said):
    with pytest.raises(ConfigError, match=said):
        make(**wrong)


def test_counts_are_of_each_class_by_itself():
    label = jnp.asarray([[[1, 0, 255], [1, 0, 1]]], jnp.uint8)
    pred = jnp.asarray([[[1, 1, 1], [0, 0, 1]]], jnp.uint8)
    expected = [[[[0, 0], [1, 1]], [[1, 1], [0, 0]], [[0, 0], [0, 1]]]]
    np.testing.assert_array_equal(make().compare(pred, label), expected)


def test_it_needs_data_of_its_kind_and_knows_the_shape_without_data():
    classes, task = Classes(("a", "b", "c"), ((0, 0, 0),) * 3, 1), make()
    known = parts.select(None, task, classes)
    assert known["label"].shape == (3,) and known["label"].batch_dtype == "uint8"
    assert parts.select(core.multilabel_schema(1, 3), task, classes)["label"].kind == "labels"
    with pytest.raises(ConfigError, match="of kind 'labels'; that of .* is 'classes'"):
        parts.select(core.semantic_schema(1), task, classes)


def test_a_function_from_outside_is_given_both_shapes():
    """A plain function is a loss of multi-label targets as well; its weight is the label's."""

    def outside(logits, label):
        assert logits.shape == label.shape
        return jnp.sum(logits), jnp.sum(label < 2, dtype=logits.dtype)

    task = make()
    task.losses = {"outside": (1.0, base.as_loss(outside))}
    batch = {"label": jnp.zeros((1, 4, 4, 3), jnp.uint8)}
    (term,) = task.loss(Outputs(jnp.ones((1, 4, 4, 3))), batch, jax.random.key(0)).values()
    assert float(term.mean(task.weights(batch))) == 1.0


WAYS = {
    "data": {"mesh": {"data": 8}},
    "space": {"mesh": {"data": 4, "space": 2}},
    "microbatches": {"mesh": {"data": 8}, "microbatches": 2},
    "fixed order": {"mesh": {"data": 8}, "deterministic_reduction": 8},
}


@pytest.mark.slow
def test_a_run_by_config_with_deep_supervision_learns_the_same_however_it_is_dealt(tmp_path):
    """Loss and gradient of the first step, over devices, rows, microbatches and fixed sums.

    The model has no batch statistics, which parts of a batch would see one at a time.
    """
    logged = {}
    for way, changes in WAYS.items():
        plain = sections.plain(quickstart.get_config("multilabel,debug"))
        plain |= {"total_steps": 1, "log_steps": 1, "augment": []}
        plain["model"] |= {"widths": [8, 8, 8], "norm": "group", "deep_supervision": 1}
        plain["task"] |= {"deep_weights": [1.0, 0.5], "threshold": [0.5] * 7}
        plain["input"]["batch_size"] = plain["evals"]["val"]["batch_size"] = 16
        plain["mesh"] |= changes["mesh"]
        plain |= {key: value for key, value in changes.items() if key != "mesh"}
        path = tmp_path / way
        assert train.run(path, plain) == train.DONE
        logged[way] = {k: v for record in writer.read(path) for k, v in record.items()}
        result = json.loads((path / "eval" / "val.json").read_text())
        assert len(result["per_class"]) == 7 and result["num_examples"] == 8
        assert (path / "figures" / "val_class_answers.png").exists()
    names = [n for n in logged["data"] if n.startswith(("train/loss", "train/grad", "val/loss"))]
    assert {"train/loss_deep1_dice", "train/grad_norm", "val/loss"} <= {*names}
    for way, found in logged.items():
        for name in names:
            np.testing.assert_allclose(
                found[name], logged["data"][name], rtol=2e-4, err_msg=f"{way}: {name}"
            )
