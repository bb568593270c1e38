"""Distances against SciPy, losses against what their papers' formulas give in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from segjax.losses import boundary, topology
from tests.losses.differences import check_gradient

SIZES = [(23,), (9, 14), (5, 6, 7)]


def softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def scene(size, seed=0):
    """Return logits and labels of blobs, with void, and an image that is one class throughout."""
    random = np.random.default_rng(seed)
    logits = 2 * random.normal(size=(3, *size, 3))
    label = ndimage.uniform_filter(random.random((3, *size)), (0, *[3] * len(size)))
    label = np.digitize(label, [0.45, 0.55]).astype(np.int32)
    label[0].flat[:3], label[2] = 255, 1
    return logits, label


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_distances_are_scipys(size):
    random = np.random.default_rng(1)
    masks = random.random((2, *size, 2)) < 0.8
    masks[1, ..., 1] = True  # nothing else there: no distance
    got = np.asarray(jax.jit(boundary.to_others)(jnp.asarray(masks)))
    for b, k in np.ndindex(2, 2):
        mask = masks[b, ..., k]
        expected = ndimage.distance_transform_edt(mask) if not mask.all() else np.zeros(size)
        np.testing.assert_allclose(got[b, ..., k], expected, rtol=1e-6)


def per_pair(logits, label, value):
    """Return the sum over images and the classes in them of a mean over valid pixels."""
    total, pairs = 0.0, 0
    for z, y in zip(logits, label, strict=True):
        valid = y < 3
        p = softmax(z) * valid[..., None]
        for c in np.unique(y[valid]):
            total += value(p[..., c], y == c)[valid].mean()
            pairs += 1
    return total, pairs


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_boundary_is_the_papers(size, float64):
    def value(p, g):
        if g.all():
            return np.zeros_like(p)
        inside, outside = ndimage.distance_transform_edt(g), ndimage.distance_transform_edt(~g)
        return p * (outside * ~g - (inside - 1) * g)  # their one_hot2dist

    logits, label = scene(size)
    got = jax.jit(boundary.Boundary())(jnp.asarray(logits), jnp.asarray(label))
    np.testing.assert_allclose(got, per_pair(logits, label, value), rtol=1e-6)


@pytest.mark.parametrize("alpha", [1.0, 2])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_hausdorff_is_the_papers(size, alpha, float64):
    def field(mask):
        if mask.all() or not mask.any():
            return np.zeros(mask.shape)
        return ndimage.distance_transform_edt(mask) + ndimage.distance_transform_edt(~mask)

    def value(p, g):
        return (p - g) ** 2 * (field(g) ** alpha + field(p > 0.5) ** alpha)

    logits, label = scene(size)
    got = jax.jit(boundary.Hausdorff(alpha=alpha))(jnp.asarray(logits), jnp.asarray(label))
    np.testing.assert_allclose(got, per_pair(logits, label, value), rtol=1e-6)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_cl_dice_is_algorithm_1(size, float64):
    axes = range(len(size))

    def erode(x):
        lines = [ndimage.minimum_filter1d(x, 3, axis=a, mode="nearest") for a in axes]
        return np.min(lines, axis=0)

    def opened(x):
        return ndimage.maximum_filter(erode(x), 3, mode="nearest")

    def skeleton(x):
        found = np.maximum(x - opened(x), 0)
        for _ in range(3):
            x = erode(x)
            ridge = np.maximum(x - opened(x), 0)
            found += np.maximum(ridge - found * ridge, 0)
        return found

    logits, label = scene(size)
    total, pairs = 0.0, 0
    for z, y in zip(logits, label, strict=True):
        p = softmax(z) * (y < 3)[..., None]
        for c in {1, 2} & set(y.flat):
            g, s = (y == c).astype(float), p[..., c]
            precision, recall = (
                ((skeleton(a) * b).sum() + 0.5) / (skeleton(a).sum() + 0.5)
                for a, b in ((s, g), (g, s))
            )
            total, pairs = total + 1 - 2 * precision * recall / (precision + recall), pairs + 1
    loss = topology.ClDice(classes=(1, 2), iterations=3, smooth=0.5)
    got = jax.jit(loss)(jnp.asarray(logits), jnp.asarray(label))
    np.testing.assert_allclose(got, (total, pairs), rtol=1e-10)


@pytest.mark.parametrize(
    "loss", [boundary.Boundary(), boundary.Hausdorff(), topology.ClDice(iterations=2)], ids=repr
)
def test_gradients_are_those_of_finite_differences(loss, float64):
    logits, label = scene((9, 14))
    check_gradient(loss, logits, label)


def test_thin_things_keep_their_skeleton():
    """A line of three pixels' width has its middle for a skeleton; a wider blur has one too."""
    mask = np.zeros((1, 15, 15, 1), np.float32)
    mask[0, 6:9] = 1
    found = np.asarray(topology.skeleton(jnp.asarray(mask), 3))[0, ..., 0]
    assert (found[7, 2:-2] == 1).all() and found.sum(0).max() == 1
