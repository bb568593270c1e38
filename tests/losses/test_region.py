import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.config import lookup
from segjax.errors import ConfigError
from segjax.losses import region


def scene():
    """Return logits and a label of three images, where class 2 occurs only in the first."""
    random = np.random.default_rng(2)
    logits = 2 * random.normal(size=(3, 4, 5, 3))
    label = random.integers(0, 2, (3, 4, 5)).astype(np.int32)
    label[0, 0], label[1, :2], label[2] = 2, 255, 255
    return logits, label


def reference(logits, label, *, kind, smooth, classes, square=False):
    """Score image by image and class by class on the valid pixels alone."""
    total, pairs = 0.0, 0
    for z, y in zip(logits, label, strict=True):
        z, y = z[y < 3], y[y < 3]
        p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
        for c in range(3):
            if not y.size or (classes == "present" and c not in y):
                continue
            g = (y == c).astype(float)
            overlap, predicted = p[:, c] @ g, (p[:, c] ** (2 if square else 1)).sum()
            if kind == "dice":
                score = (2 * overlap + smooth) / (predicted + g.sum() + smooth)
            else:
                score = (overlap + smooth) / (predicted + g.sum() - overlap + smooth)
            total, pairs = total + 1 - score, pairs + 1
    return total, pairs


@pytest.mark.parametrize(
    ("kind", "kwargs", "pairs"),
    [
        ("dice", {"smooth": 1.0, "classes": "present"}, 5),
        ("dice", {"smooth": 0.0, "classes": "present", "square": True}, 5),
        ("dice", {"smooth": 0.5, "classes": "all"}, 6),
        ("jaccard", {"smooth": 0.0, "classes": "present"}, 5),
        ("jaccard", {"smooth": 1.0, "classes": "all"}, 6),
    ],
)
def test_equals_numpy(kind, kwargs, pairs, float64):
    logits, label = scene()
    loss = getattr(region, kind.capitalize())(**kwargs)
    got = jax.jit(loss)(jnp.asarray(logits), jnp.asarray(label))
    expected = reference(logits, label, kind=kind, **kwargs)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert got[1] == pairs


def test_hand_worked_example():
    """Certain predictions of 4 pixels: class 0 has 2 of its 3 right, class 1 its 1 and one more."""
    pred, label = jnp.array([[[0, 0, 1, 1]]]), jnp.array([[[0, 0, 0, 1]]], jnp.int32)
    logits = 200 * jax.nn.one_hot(pred, 2)
    total, weight = region.Dice(smooth=0.0)(logits, label)
    np.testing.assert_allclose(total / weight, 1 - (4 / 5 + 2 / 3) / 2, rtol=1e-6)
    total, weight = region.Jaccard(smooth=0.0)(logits, label)
    np.testing.assert_allclose(total / weight, 1 - (2 / 3 + 1 / 2) / 2, rtol=1e-6)


def test_only_all_classes_punishes_probability_on_an_absent_class():
    """Nine pixels of class 0, a third of each on every class: 1 - 7/13, and 1 - 1/4 twice."""
    logits, label = jnp.zeros((1, 3, 3, 3)), jnp.zeros((1, 3, 3), jnp.int32)
    for classes, expected in (("present", (6 / 13, 1)), ("all", (6 / 13 + 3 / 4 + 3 / 4, 3))):
        got = jax.jit(region.Dice(classes=classes))(logits, label)
        np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_pixels_of_one_class_are_pooled_per_image_not_per_batch(float64):
    """Batch Dice of these two images would be another number: the area of the second dominates."""
    label = np.ones((2, 4, 4), np.int32)
    label[0, 0, 0], label[1, :3] = 0, 0
    logits = np.random.default_rng(3).normal(size=(2, 4, 4, 2))
    loss = region.Dice(smooth=0.0)
    total, weight = jax.jit(loss)(jnp.asarray(logits), jnp.asarray(label))
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    target = label[..., None] == np.arange(2)
    scores = 2 * (probs * target).sum((1, 2)) / (probs + target).sum((1, 2))
    pooled = 2 * (probs * target).sum((0, 1, 2)) / (probs + target).sum((0, 1, 2))
    np.testing.assert_allclose(1 - total / weight, scores.mean(), rtol=1e-12)
    assert abs(scores.mean() - pooled.mean()) > 0.01


@pytest.mark.parametrize(
    ("loss", "kwargs", "message"),
    [
        (region.Dice, {"classes": "some"}, "expected 'present' or 'all'"),
        (region.Jaccard, {"smooth": -1.0}, "smooth=-1.0: expected a number from 0"),
        (region.Dice, {"smooth": 0, "classes": "all"}, "expected smooth > 0"),
    ],
)
def test_unusable_options_are_config_errors(loss, kwargs, message):
    with pytest.raises(ConfigError, match=message):
        lookup.build("losses", {"type": f"region:{loss.__name__}", **kwargs}, where="config.loss")
