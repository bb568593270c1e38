"""The loss of queries: what is not known does not count, and gradients are those of differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.layers.queries import Answers, Outputs
from segjax.losses import queries
from segjax.losses.points import Seen
from segjax.tasks import query_semantic
from tests.losses import differences

SIZE = (16, 24)
TASK = query_semantic.Task(num_classes=3, queries=4, num_points=32)


def outputs(dtype="float32", layers=1):
    rng = np.random.default_rng(0)
    answers = [
        Answers(
            jnp.asarray(rng.normal(size=(2, 4, 4)), dtype),
            jnp.asarray(rng.normal(size=(2, 4, 6, 4)), dtype),
        )
        for _ in range(layers + 1)
    ]
    return Outputs(answers[-1], tuple(answers[:-1]), SIZE)


def batch(label=None):
    label = np.random.default_rng(1).integers(0, 3, (2, *SIZE)) if label is None else label
    return {"label": jnp.asarray(label, jnp.int32), "index": jnp.asarray([4, 7], jnp.int32)}


@jax.jit
def total(outputs, batch):
    terms = TASK.loss(outputs, batch, jax.random.key(0))
    return sum(term.mean(TASK.weights(batch)) for term in terms.values())


def test_gradients_are_those_of_differences(float64):
    """Of classes and of masks at points that are held, void among them."""
    rng = np.random.default_rng(0)
    known = jnp.asarray(rng.uniform(size=(3, 10)) * (rng.uniform(size=(3, 10)) > 0.3))
    seen = Seen(jnp.asarray(rng.uniform(size=(3, 10))), known)
    there = jnp.asarray([True, True, False])

    def masks(logits, there):
        return (sum(queries.at_points(logits, seen, there)),)

    def classes(logits, label):
        query = jnp.asarray([2, 0, -1], jnp.int32)
        return (TASK.matched.of_classes(logits, label, query, jnp.asarray(True)),)

    differences.check_gradient(masks, rng.normal(size=(3, 10)), there)
    label = jnp.asarray([1, 0, -1], jnp.int32)
    differences.check_gradient(classes, rng.normal(size=(4, 4)), label)


def test_void_pixels_count_nothing_and_have_no_gradient():
    """Whatever the logits are there, and though points fall on them."""
    label = np.asarray(batch()["label"]).copy()
    label[:, :, 12:] = 255
    given = outputs()
    moved = given.last.masks.at[:, :, 4:].add(5.0)  # beyond the reach of a pixel that is known
    other = given.replace(last=given.last.replace(masks=moved))
    slope = jax.grad(total)(given, batch(label)).last.masks
    assert (slope[:, :, :3] != 0).any() and (slope[:, :, 4:] == 0).all()
    where = jnp.asarray(np.random.default_rng(0).uniform(size=(64, 2)), "float32")
    cost = functools.partial(TASK.matched.costs, where=where)
    truth, *_ = TASK.truth(batch(label), jax.random.key(0))
    one = jax.tree.map(lambda x: x[0], truth)
    np.testing.assert_allclose(
        cost(given.last.classes[0], given.last.masks[0], one),
        cost(other.last.classes[0], other.last.masks[0], one),
        atol=1e-5,
    )


@pytest.mark.parametrize("value", [255, 9])
def test_where_nothing_is_known_there_is_no_loss(value):
    """Nor where a label has no class that there is; gradients are finite."""
    label = np.full((2, *SIZE), value)
    loss, slopes = jax.value_and_grad(total)(outputs(), batch(label))
    assert loss == 0 and all((x == 0).all() for x in jax.tree.leaves(slopes))


def test_an_example_draws_the_same_points_wherever_it_is():
    """By its position alone; so parts of a batch, divided by the weights of all, give its loss."""
    given, whole = outputs(), batch()
    weights = TASK.weights(whole)
    parts = []
    for i in (0, 1):
        part = jax.tree.map(lambda x, i=i: x[i : i + 1], (given, whole))
        terms = TASK.loss(part[0].replace(size=SIZE), part[1], jax.random.key(0))
        parts.append(sum(term.mean(weights) for term in terms.values()))
    np.testing.assert_allclose(sum(parts), total(given, whole), rtol=1e-5)


def test_any_number_of_regions_is_one_program():
    before = total._cache_size()
    for classes in range(4):
        label = np.full((2, *SIZE), 255)
        label[0, :, : 4 * classes] = np.arange(4 * classes) // 4
        slopes = jax.grad(lambda x, label=label: total(x, batch(label)))(outputs())
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(slopes))
    assert total._cache_size() <= before + 2  # the loss, and its gradient
