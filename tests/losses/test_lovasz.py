"""Lovász losses against their definition: the Jaccard loss of sets, extended (Berman et al.)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.errors import ConfigError
from segjax.losses import lovasz
from tests.losses.differences import check_gradient


def extension(error, truth):
    """Return sum over i of e[i] (J({1..i}) - J({1..i-1})), e sorted, J of sets of mistakes (eq. 9).

    J(M) = |M| / |truth or M| is the Jaccard loss of the prediction that is wrong exactly on M.
    """
    order = np.argsort(-error, kind="stable")
    truth_set = set(np.flatnonzero(truth))
    total, before, mistakes = 0.0, 0.0, set()
    for pixel in order:
        mistakes.add(pixel)
        loss = len(mistakes) / len(truth_set | mistakes)
        total += error[pixel] * (loss - before)
        before = loss
    return total


def scene(num_classes, seed=0):
    random = np.random.default_rng(seed)
    logits = 2 * random.normal(size=(3, 4, 5, num_classes))
    label = random.integers(0, num_classes, (3, 4, 5)).astype(np.int32)
    label[0, 0], label[1], label[2] = 255, 0, np.where(label[2] == 1, 0, label[2])
    return logits, label


@pytest.mark.parametrize("seed", range(3))
def test_softmax_is_the_extension_of_each_image_and_class(float64, seed):
    logits, label = scene(3, seed)
    expected, pairs = 0.0, 0
    for z, y in zip(logits, label, strict=True):
        z, y = z[y < 3], y[y < 3]
        p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
        for c in set(y):
            expected += extension(np.abs((y == c) - p[:, c]), y == c)
            pairs += 1
    got = jax.jit(lovasz.Softmax())(jnp.asarray(logits), jnp.asarray(label))
    np.testing.assert_allclose(got, (expected, pairs), rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_hinge_is_the_extension_of_the_margins(float64, seed):
    logits, label = scene(2, seed)
    expected = 0.0
    for z, y in zip(logits, label, strict=True):
        z, y = z[y < 2], y[y < 2]
        margin = (z[:, 1] - z[:, 0]) * np.where(y == 1, 1, -1)
        expected += extension(np.maximum(1 - margin, 0), y == 1)
    got = jax.jit(lovasz.Hinge())(jnp.asarray(logits), jnp.asarray(label))
    np.testing.assert_allclose(got, (expected, 3), rtol=1e-12)
    with pytest.raises(ConfigError, match="for two classes, got 3"):
        lovasz.Hinge().check(3)


def test_at_certain_predictions_it_is_the_jaccard_loss():
    """Four pixels, class 1 is 2 of them, one of which is predicted, and another one: 1 - 1/3."""
    pred, label = jnp.array([[[1, 0, 1, 0]]]), jnp.array([[[1, 1, 0, 0]]], jnp.int32)
    total, weight = lovasz.Softmax()(200 * jax.nn.one_hot(pred, 2), label)
    np.testing.assert_allclose((total, weight), (2 * (1 - 1 / 3), 2), rtol=1e-6)


@pytest.mark.parametrize(("loss", "k"), [(lovasz.Softmax(), 3), (lovasz.Hinge(), 2)], ids=repr)
def test_gradients_are_those_of_finite_differences(float64, loss, k):
    logits, label = scene(k)
    check_gradient(loss, logits, label)
