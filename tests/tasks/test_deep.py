"""Deep supervision: the same losses on labels at a half, a quarter, … of the resolution.

The rule: each of a model's deep logits has a share of the loss, shares add up to 1, the label of a
cell is that of a pixel in it, and the weight is known from labels alone, for class maps and
multi-label ones, in any dimension.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.config import lookup
from segjax.errors import ConfigError
from segjax.structs import Outputs
from segjax.tasks import base

SIZES = {"1D": (37,), "2D": (13, 18), "3D": (5, 9, 16)}


def make(kind, weights):
    activation = {"semantic": "softmax", "multilabel": "sigmoid"}[kind]
    losses = [
        {"type": name, "activation": activation, "weight": factor}
        for name, factor in (("pixel:cross_entropy", 1.0), ("region:dice", 0.5))
    ]
    section = {"type": kind, "losses": losses, "deep_weights": weights}
    return lookup.build("tasks", section, where="config.task", num_classes=3)


def scene(kind, size, *, levels=2, batch=4):
    """Return outputs and a batch, with void."""
    random = np.random.default_rng(0)
    sizes = [tuple(-(-n // 2**i) for n in size) for i in range(levels + 1)]
    logits = [jnp.asarray(random.normal(size=(batch, *s, 3))) for s in sizes]
    behind = (3,) if kind == "multilabel" else ()
    label = random.integers(0, 2 if behind else 3, (batch, *size, *behind))
    label[random.random(label.shape) < 0.2] = 255
    dtype = np.uint8 if behind else np.int32
    return Outputs(logits[0], deep=tuple(logits[1:])), {"label": jnp.asarray(label.astype(dtype))}


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_the_pixel_of_a_cell_lies_in_it(stride):
    for length in range(1, 70):
        found = base.middles(length, stride)
        np.testing.assert_array_equal(found // stride, np.arange(-(-length // stride)))
        assert found.max() < length


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("kind", ["semantic", "multilabel"])
def test_each_resolution_has_its_share_of_the_same_losses(kind, size, float64):
    task = make(kind, [1.0, 0.5, 0.25])
    outputs, batch = scene(kind, size)
    terms, weights = task.loss(outputs, batch, jax.random.key(0)), task.weights(batch)
    expected = {}
    for level, logits in enumerate([outputs.logits, *outputs.deep]):
        label = np.asarray(batch["label"])
        for axis, n in enumerate(size, start=1):
            cells = [min(i * 2**level + 2**level // 2, n - 1) for i in range(logits.shape[axis])]
            label = label.take(cells, axis)
        for name, (factor, loss) in task.losses.items():
            total, weight = loss(logits, jnp.asarray(label))
            key = f"deep{level}_{name}" if level else name
            expected[key] = factor * 0.5**level / 1.75 * total / weight
            np.testing.assert_array_equal(weights[key], weight)
    assert terms.keys() == weights.keys() == expected.keys()
    for key, term in terms.items():
        np.testing.assert_allclose(term.mean(weights), expected[key], rtol=1e-12)


@pytest.mark.parametrize("kind", ["semantic", "multilabel"])
def test_parts_of_a_batch_add_up_to_the_whole(kind, float64):
    """As microbatches and devices do: sums over parts, divided by the weights of all."""
    task = make(kind, [4.0, 2.0, 1.0])
    outputs, batch = scene(kind, SIZES["2D"])
    weights, key = task.weights(batch), jax.random.key(0)
    whole = task.loss(outputs, batch, key)
    halves = [
        task.loss(*jax.tree.map(lambda x, s=s: x[s], (outputs, batch)), key)
        for s in (slice(0, 1), slice(1, 4))
    ]
    for name, term in whole.items():
        both = sum(half[name].mean(weights) for half in halves)
        np.testing.assert_allclose(both, term.mean(weights), rtol=1e-12)


def test_evaluation_has_the_loss_of_the_logits_alone():
    """Where nobody asks for deep logits they are None, and the logits have all of the loss."""
    deep, plain = make("semantic", [1.0, 0.5]), make("semantic", [])
    outputs, batch = scene("semantic", (8, 8))
    for task, given in ((deep, outputs.replace(deep=None)), (plain, outputs.replace(deep=()))):
        terms = task.loss(given, batch, jax.random.key(0))
        assert {name: term.factor for name, term in terms.items()} == {
            "cross_entropy": 1.0, "dice": 0.5,
        }  # fmt: skip
    assert plain.weights(batch).keys() == {"cross_entropy", "dice"}


@pytest.mark.parametrize(
    ("weights", "levels", "said"),
    [
        ([], 2, r"has 0 weights.*2 deep ones. Set deep_weights=\(1.0, 0.5, 0.25\)"),
        ([1, 0.5], 2, r"has 2 weights.*or config.model.deep_supervision=1"),
        (
            [1, 0.5, 0.25],
            0,
            r"has 3 weights.*0 deep ones. Set deep_weights=\(\), .*deep_supervision=2",
        ),
    ],
)
def test_weights_for_other_logits_than_the_models_are_a_config_error(weights, levels, said):
    outputs, batch = scene("semantic", (8, 8), levels=levels)
    with pytest.raises(ConfigError, match=said):
        make("semantic", weights).loss(outputs, batch, jax.random.key(0))


def test_weights_that_mean_nothing_are_a_config_error():
    with pytest.raises(ConfigError, match=r"deep_weights=\[0, 0.0\]: expected one above 0"):
        make("semantic", [0, 0.0])
    with pytest.raises(ConfigError, match=r"deep_weights\[1\]=-1: expected a number from 0"):
        make("semantic", [1, -1])
