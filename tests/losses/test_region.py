import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.config import lookup
from segjax.errors import ConfigError
from segjax.losses import region
from tests.losses.differences import check_gradient


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


def per_pair(logits, label, value, *, images=False):
    """Return the sum over (image, class) pairs of a value of softmax and truth on valid pixels."""
    total, count = 0.0, 0
    for z, y in zip(logits, label, strict=True):
        z, y = z[y < 3], y[y < 3]
        p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
        g = (y[:, None] == np.arange(3)).astype(float)
        found = [value(p, g)] if images else [value(p[:, c], g[:, c]) for c in set(y)]
        found = [x for x in found if x is not None and y.size]
        total, count = total + sum(found), count + len(found)
    return total, count


@pytest.mark.parametrize(
    ("alpha", "beta", "gamma"), [(0.3, 0.7, 1.0), (1.0, 1.0, 1), (0.5, 2, 0.75)]
)
def test_tversky_equals_numpy(alpha, beta, gamma, float64):
    def value(p, g):
        index = (p @ g + 0.5) / (p @ g + alpha * (p @ (1 - g)) + beta * ((1 - p) @ g) + 0.5)
        return (1 - index) ** gamma

    logits, label = scene()
    loss = region.Tversky(alpha=alpha, beta=beta, gamma=gamma, smooth=0.5)
    got = jax.jit(loss)(jnp.asarray(logits), jnp.asarray(label))
    np.testing.assert_allclose(got, per_pair(logits, label, value), rtol=1e-12)


def test_tversky_is_dice_and_jaccard(float64):
    """At alpha = beta = 1/2, the smoothing halved, and at alpha = beta = 1."""
    logits, label = (jnp.asarray(x) for x in scene())
    for ours, known in (
        (region.Tversky(alpha=0.5, beta=0.5, smooth=0.5), region.Dice(smooth=1.0)),
        (region.Tversky(alpha=1, beta=1, smooth=1.0), region.Jaccard(smooth=1.0)),
    ):
        np.testing.assert_allclose(ours(logits, label), known(logits, label), rtol=1e-13)


def test_generalized_dice_equals_numpy(float64):
    def value(p, g):
        here = g.sum(0) > 0
        w = 1 / g.sum(0)[here] ** 2
        return 1 - 2 * (w @ (p * g).sum(0)[here]) / (w @ (p + g).sum(0)[here])

    logits, label = scene()
    got = jax.jit(region.GeneralizedDice())(jnp.asarray(logits), jnp.asarray(label))
    with np.errstate(all="ignore"):
        expected = per_pair(logits[:2], label[:2], value, images=True)  # the third is all void
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_mcc_equals_scikit_learns_where_predictions_are_certain(float64):
    from sklearn.metrics import matthews_corrcoef

    random = np.random.default_rng(1)
    pred, label = random.integers(0, 3, (2, 2, 6, 7))
    label[0, 0] = 255
    expected = sum(
        1 - matthews_corrcoef(y[y < 3] == c, x[y < 3] == c)
        for x, y in zip(pred, label, strict=True)
        for c in range(3)
    )
    logits = 200.0 * jax.nn.one_hot(jnp.asarray(pred), 3)
    got = jax.jit(region.Mcc())(logits, jnp.asarray(label, jnp.int32))
    np.testing.assert_allclose(got, (expected, 6), rtol=1e-12)


def test_batch_dice_pools_areas_of_all_images(float64):
    """As if all images were one; its weight is their number, so that means of batches add up."""
    logits, label = scene()
    joined = region.Dice(smooth=0.5)(
        jnp.asarray(logits).reshape(1, -1, 3), jnp.asarray(label).reshape(1, -1)
    )
    total, weight = region.BatchDice(smooth=0.5)(jnp.asarray(logits), jnp.asarray(label))
    assert weight == 2  # the third is all void
    np.testing.assert_allclose(total / weight, joined[0] / joined[1], rtol=1e-12)


@pytest.mark.parametrize(
    "loss",
    [region.Tversky(gamma=0.75), region.GeneralizedDice(), region.BatchDice(), region.Mcc()],
    ids=repr,
)
def test_gradients_are_those_of_finite_differences(loss, float64):
    logits, label = scene()
    check_gradient(loss, logits, label)
