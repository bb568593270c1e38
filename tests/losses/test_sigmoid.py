"""The sigmoid form of losses: every class judged by itself, of class maps and multi-label targets.

The rule: a loss that has the form equals NumPy over the pairs of pixel and class that are known;
void (of one class alone too) adds nothing and gets no gradient; a class map is one against the
rest; the label alone decides the weight; losses without the form refuse multi-label targets.
"""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy import ndimage

from segjax.config import lookup
from segjax.errors import ConfigError
from segjax.losses import base, boundary, lovasz, pixel, region, topology
from tests import program
from tests.losses.differences import check_gradient, mean_loss

WEIGHTS = (1.0, 0.5, 2.0)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def pairs(cost, weights=(1.0, 1.0, 1.0)):
    """Make a reference of what a pair of pixel and class costs, given p of what is true of it."""

    def reference(z, t, v):
        true = np.where(t, sigmoid(z), 1 - sigmoid(z))
        w = np.broadcast_to(weights, z.shape)
        return (w * cost(true, t))[v].sum(), w[v].sum()

    return reference


def regions(score, counts=lambda t: t.any()):
    """Make a reference of what an image's class costs, from p and truth of its valid pixels."""

    def reference(z, t, v):
        total, number = 0.0, 0
        for i in range(len(z)):
            for c in range(z.shape[-1]):
                p, g = sigmoid(z[i, ..., c])[v[i, ..., c]], t[i, ..., c][v[i, ..., c]]
                if counts(g):
                    total, number = total + 1 - score(p, g), number + 1
        return total, number

    return reference


def generalized(z, t, v):
    total, number = 0.0, 0
    for p, g, known in zip(sigmoid(z), t, v, strict=True):
        p, g = p * known, (g & known).reshape(-1, 3)
        area, p = g.sum(0), p.reshape(-1, 3)
        here = area > 0
        if here.any():
            w = 1 / area[here] ** 2.0
            above, below = (p * g).sum(0)[here], (p + g).sum(0)[here]
            total, number = total + 1 - 2 * (w @ above) / (w @ below), number + 1
    return total, number


def batch_dice(z, t, v):
    p, g = (sigmoid(z) * v).reshape(-1, 3), (t & v).reshape(-1, 3)
    here = g.any(0)
    loss = 1 - (2 * (p * g).sum(0) + 1) / (p.sum(0) + g.sum(0) + 1)
    images = v.reshape(len(v), -1).any(1).sum()
    return images * loss[here].mean(), images


def matthews(p, g):
    hit, pred, true = (p * g).mean(), p.mean(), g.mean()
    return (hit - pred * true) / np.sqrt(pred * (1 - pred) * true * (1 - true))


def hinge(z, t, v):
    """The gradient of the Jaccard loss in the order of the errors, as algorithm 1 has it."""
    total, number = 0.0, 0
    for i in range(len(z)):
        for c in range(z.shape[-1]):
            known = v[i, ..., c]
            margin, g = z[i, ..., c][known], t[i, ..., c][known]
            error = np.maximum(0, 1 - np.where(g, margin, -margin))
            order = np.argsort(-error)
            g, before = g[order], 0.0
            for n in range(len(g)):
                missed, extra = g[: n + 1].sum(), (~g[: n + 1]).sum()
                jaccard = 1 - (g.sum() - missed) / (g.sum() + extra)
                total, before = total + error[order][n] * (jaccard - before), jaccard
            number += len(g) > 0
    return total, number


def of_maps(value):
    """Make a reference from a value of each pixel, whole maps given; the mean over valid ones."""

    def reference(z, t, v):
        total, number = 0.0, 0
        for i in range(len(z)):
            for c in range(z.shape[-1]):
                p, g, known = (x[i, ..., c] for x in (sigmoid(z) * v, t & v, v))
                if g.any():
                    total, number = total + value(p, g)[known].mean(), number + 1
        return total, number

    return reference


def border_distance(p, g):
    inside, outside = (ndimage.distance_transform_edt(x) for x in (g, ~g))
    return p * np.where(g, 1 - inside, outside)


def far_mistakes(p, g):
    def away(x):
        return ndimage.distance_transform_edt(x) + ndimage.distance_transform_edt(~x)

    return (p - g) ** 2 * (away(g) ** 2 + (away(p > 0.5) ** 2 if (p > 0.5).any() else 0))


def smooth_score(p, g, a=0.5, b=0.5, s=0.5):
    return (p @ g + s) / (p @ g + a * (p @ ~g) + b * ((1 - p) @ g) + s)


CASES = {
    "cross_entropy": (pixel.CrossEntropy(), pairs(lambda p, t: -np.log(p))),
    "weighted": (
        pixel.CrossEntropy(class_weights=WEIGHTS), pairs(lambda p, t: -np.log(p), WEIGHTS)
    ),
    "smoothed": (
        pixel.CrossEntropy(label_smoothing=0.2, class_weights=WEIGHTS),
        pairs(lambda p, t: -0.9 * np.log(p) - 0.1 * np.log(1 - p), WEIGHTS),
    ),
    "focal": (
        pixel.Focal(alpha=0.25, activation="sigmoid"),
        pairs(lambda p, t: np.where(t, 0.25, 0.75) * (1 - p) ** 2 * -np.log(p)),
    ),
    "focal_weighted": (
        pixel.Focal(gamma=0.5, class_weights=WEIGHTS),
        pairs(lambda p, t: (1 - p) ** 0.5 * -np.log(p), WEIGHTS),
    ),
    "poly1": (pixel.Poly1(epsilon=2.0), pairs(lambda p, t: -np.log(p) + 2 * (1 - p))),
    "dice": (region.Dice(), regions(smooth_score)),
    "dice_all": (
        region.Dice(classes="all", square=True),
        regions(
            lambda p, g: (2 * (p @ g) + 1) / (p @ p + g.sum() + 1), counts=lambda g: g.size > 0
        ),
    ),
    "jaccard": (region.Jaccard(), regions(lambda p, g: smooth_score(p, g, 1, 1, 1))),
    "tversky": (
        region.Tversky(gamma=0.75),
        regions(lambda p, g: 1 - (1 - smooth_score(p, g, 0.3, 0.7, 1)) ** 0.75),
    ),
    "generalized_dice": (region.GeneralizedDice(), generalized),
    "batch_dice": (region.BatchDice(), batch_dice),
    "mcc": (region.Mcc(), regions(matthews, counts=lambda g: g.any() and not g.all())),
    "hinge": (lovasz.Hinge(), hinge),
    "boundary": (boundary.Boundary(), of_maps(border_distance)),
    "hausdorff": (boundary.Hausdorff(), of_maps(far_mistakes)),
    "cl_dice": (topology.ClDice(classes=(0, 2), iterations=2), None),
}  # fmt: skip
CASES = {
    name: (dataclasses.replace(loss, activation="sigmoid"), reference)
    for name, (loss, reference) in CASES.items()
}
DEAR = {"hinge", "boundary", "hausdorff", "cl_dice", "tversky", "jaccard", "focal_weighted"}
LOOK_AROUND = ("boundary", "hausdorff", "cl_dice")


def among(names):
    return [pytest.param(n, marks=[pytest.mark.slow] * (n in DEAR)) for n in names]


def scene(batch=3, size=(4, 6), seed=0):
    """Return logits and multi-label targets with void of single classes, of all, and an absence.

    Class 1 does not occur in the first image, the last one is void throughout.
    """
    random = np.random.default_rng(seed)
    logits = 2 * random.normal(size=(batch, *size, 3))
    label = random.integers(0, 2, (batch, *size, 3)).astype(np.uint8)
    label[0, ..., 1] = 0
    label[:, 0] = 255
    label[:, 1, ..., 2] = 255
    label[:, -1, ..., 0] = 7  # neither 0 nor 1: void as well
    label[-1] = 255
    return logits, label


@pytest.mark.parametrize("size", [(24,), (4, 6), (3, 4, 4)], ids=["1D", "2D", "3D"])
@pytest.mark.parametrize("name", among(n for n in CASES if n != "cl_dice"))
def test_equals_numpy_over_known_pairs(name, size, float64):
    loss, reference = CASES[name]
    logits, label = scene(size=size)
    if len(size) == 1:
        label[:-1, 12:, 1] = 1 - label[:-1, 12:, 0] % 2
    got = jax.jit(loss)(jnp.asarray(logits), jnp.asarray(label))
    expected = reference(logits, label == 1, label < 2)
    exact = 1e-7 if name in LOOK_AROUND else 1e-10  # distances are float32
    np.testing.assert_allclose(got, expected, rtol=exact)
    assert got[1] > 0


@pytest.mark.slow
def test_cl_dice_of_one_logit_is_that_of_two_which_differ_by_it(float64):
    logits, label = (jnp.asarray(x) for x in scene(size=(9, 8)))
    total = number = 0.0
    two = topology.ClDice(classes=(1,), iterations=2)
    for c in (0, 2):
        z = jnp.stack([jnp.zeros_like(logits[..., c]), logits[..., c]], -1)
        found = two(z, label[..., c].astype(jnp.int32))
        total, number = total + found[0], number + found[1]
    loss, _ = CASES["cl_dice"]
    np.testing.assert_allclose(loss(logits, label), (total, number), rtol=1e-12)


@pytest.mark.parametrize("name", among(CASES))
def test_gradients_are_those_of_finite_differences_and_void_gets_none(name, float64):
    loss, _ = CASES[name]
    logits, label = scene()
    check_gradient(loss, logits, label)
    grad = jax.jit(jax.value_and_grad(mean_loss(loss)))
    value, slope = grad(jnp.asarray(logits), jnp.asarray(label))
    assert not np.asarray(slope)[label > 1].any() and np.asarray(slope)[label < 2].any()
    for content in (1e30, -np.inf, np.nan):
        other = np.where(label > 1, content, logits)
        other_value, other_slope = grad(jnp.asarray(other), jnp.asarray(label))
        assert other_value == value
        np.testing.assert_array_equal(other_slope, slope)


@pytest.mark.parametrize("name", among(CASES))
def test_weight_void_and_a_class_map(name, float64):
    """The label alone decides the weight, to the bit; all void gives 0; a map is one hot."""
    loss, _ = CASES[name]
    logits, label = (jnp.asarray(x) for x in scene())
    one = np.random.default_rng(1).integers(0, 3, (3, 4, 6))
    one[0], one[:, 0] = one[0] % 2 * 2, 255
    hot = np.where(one[..., None] == 255, 255, one[..., None] == np.arange(3)).astype(np.uint8)

    @jax.jit
    def all_of_it(logits, label, one, hot):
        void = jnp.full_like(label, 255)
        return {
            "multi": loss(logits, label),
            "alone": loss.weight(label, num_classes=3, multilabel=True),
            "map": loss(logits, one),
            "map alone": loss.weight(one, num_classes=3),
            "hot": loss(logits, hot),
            "void": (*loss(logits, void), jax.grad(mean_loss(loss))(logits, void)),
        }

    found = jax.device_get(all_of_it(logits, label, jnp.asarray(one, jnp.int32), jnp.asarray(hot)))
    assert found["alone"].tobytes() == found["multi"][1].tobytes()
    assert found["map alone"].tobytes() == found["map"][1].tobytes()
    np.testing.assert_allclose(found["map"], found["hot"], rtol=1e-12)
    assert all(np.all(x == 0) for x in found["void"])


@pytest.mark.parametrize("name", among(n for n in CASES if n not in LOOK_AROUND))
def test_the_order_of_pixels_does_not_matter(name, float64):
    loss, _ = CASES[name]
    logits, label = (x.reshape(3, 24, 3) for x in scene())
    order = np.random.default_rng(2).permutation(24)
    straight, mixed = (
        jax.jit(loss)(jnp.asarray(z), jnp.asarray(y))
        for z, y in ((logits, label), (logits[:, order], label[:, order]))
    )
    np.testing.assert_allclose(mixed, straight, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("spec", [("data",), ("data", "space")], ids=str)
def test_eight_devices_give_the_numbers_of_one(spec, float64):
    sizes = (8,) if len(spec) == 1 else (4, 2)
    mesh = jax.make_mesh(sizes, spec, axis_types=(AxisType.Auto,) * len(spec))
    batch = [jnp.asarray(x) for x in scene(batch=8)]

    @jax.jit
    def grads(logits, label):
        means = {name: mean_loss(loss) for name, (loss, _) in CASES.items()}
        return {name: jax.value_and_grad(mean)(logits, label) for name, mean in means.items()}

    sharded = jax.device_put(batch, NamedSharding(mesh, PartitionSpec(*spec)))
    expected, found = grads(*batch), grads(*sharded)
    for name, (value, grad) in found.items():
        np.testing.assert_allclose(value, expected[name][0], rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(grad, expected[name][1], rtol=1e-9, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "dice"])
def test_bfloat16_and_large_logits_stay_finite(name):
    loss, _ = CASES[name]
    logits, label = scene()
    low = jnp.asarray(logits * 1e3, jnp.bfloat16)
    value, weight = loss(low, jnp.asarray(label))
    exact, _ = loss(low.astype(jnp.float32), jnp.asarray(label))
    assert value.dtype == weight.dtype == jnp.float32
    np.testing.assert_allclose(value, exact, rtol=1e-6)
    assert np.isfinite(value)
    assert np.isfinite(jax.grad(mean_loss(loss))(low, jnp.asarray(label)).astype(float)).all()


def test_the_docs_say_which_losses_have_the_form_and_the_others_refuse():
    """A loss without it, and one set to softmax, is a `ConfigError` before anything is computed."""
    page = (program.ROOT / "docs" / "losses.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+:\w+)` \|.*\| (yes|no) \|$", page, re.M))
    assert len(rows) == 15
    for type_, has in rows.items():
        build = functools.partial(
            lookup.build, "losses", where="config.loss", takes=("logits", "label")
        )
        softmax = build({"type": type_})
        with pytest.raises(ConfigError, match="expects one class for each pixel.*Set|Use a loss"):
            softmax.check(3, multilabel=True)
        if has == "yes":
            build({"type": type_, "activation": "sigmoid"}).check(3, multilabel=True)
            assert isinstance(softmax, base.OfEither)
        else:
            assert not isinstance(softmax, base.OfEither)
            with pytest.raises(ConfigError, match="activation"):
                build({"type": type_, "activation": "sigmoid"})
    assert {type(loss) for loss, _ in CASES.values()} == {
        lookup.resolve("losses", t, where="here") for t, has in rows.items() if has == "yes"
    }
    with pytest.raises(
        ConfigError, match="alpha=0.25 with activation='softmax'.*Set class_weights"
    ):
        pixel.Focal(alpha=0.25)
