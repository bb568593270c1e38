"""What every loss promises: void counts nothing, sums are linear, shards stay where they are."""

import dataclasses
import functools
import importlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from segjax import structs
from segjax.config import lookup
from segjax.errors import ConfigError
from segjax.losses import base, boundary, lovasz, pixel, region, topology
from tests import program
from tests.losses.differences import mean_loss

LOSSES = {
    "cross_entropy": pixel.CrossEntropy(),
    "weighted_smoothed": pixel.CrossEntropy(class_weights=(1.0, 0.5, 2.0), label_smoothing=0.1),
    "focal": pixel.Focal(),
    "focal_gamma_half": pixel.Focal(gamma=0.5, class_weights=[1.0, 0.5, 2.0]),
    "dice": region.Dice(),
    "dice_all_squared": region.Dice(classes="all", square=True),
    "dice_without_smooth": region.Dice(smooth=0.0),
    "jaccard": region.Jaccard(),
    "poly1": pixel.Poly1(epsilon=2.0, class_weights=(1.0, 0.5, 2.0)),
    "top_k": pixel.TopK(share=0.3),
    "tversky": region.Tversky(),
    "focal_tversky": region.Tversky(alpha=0.5, beta=0.5, gamma=0.75, classes="all"),
    "generalized_dice": region.GeneralizedDice(),
    "batch_dice": region.BatchDice(),
    "mcc": region.Mcc(),
    "lovasz": lovasz.Softmax(),
    "boundary": boundary.Boundary(),
    "hausdorff": boundary.Hausdorff(),
    "cl_dice": topology.ClDice(classes=(0, 2), iterations=2),
}
LOOK_AROUND = ("boundary", "hausdorff", "cl_dice")
"""Losses for which it matters which pixels lie beside each other."""
SEE_WHOLE_IMAGES = ("lovasz", "top_k", *LOOK_AROUND)
"""Losses that gather the rows of an image where these are shared out."""


DEAR = {*LOSSES} - {
    "cross_entropy", "weighted_smoothed", "focal", "dice", "dice_all_squared", "tversky", "lovasz"
}  # fmt: skip
"""What only the slow tier puts through all that every loss promises; each has tests of its own."""


def among(names):
    """Return names as parameters, those that are `DEAR` for the slow tier."""
    return [pytest.param(n, marks=[pytest.mark.slow] * (n in DEAR)) for n in names]


@pytest.fixture(params=among(LOSSES))
def loss(request):
    return LOSSES[request.param]


def scene(batch=2, height=4, width=6, num_classes=3, seed=0):
    """Return logits and a label with every class, a void pixel in each row and an odd one out."""
    random = np.random.default_rng(seed)
    logits = 2 * random.normal(size=(batch, height, width, num_classes))
    label = random.integers(0, num_classes, (batch, height, width)).astype(np.int32)
    label[:, :, 0] = 255
    label[:, 0, 1], label[:, 0, 2] = num_classes, -1  # out of range: void as well
    return logits, label


@pytest.mark.parametrize(
    "name", among(n for n in LOSSES if n not in ("weighted_smoothed", "boundary"))
)
def test_perfect_prediction_costs_nothing(name):
    loss = LOSSES[name]
    _, label = scene()
    logits = 100.0 * jax.nn.one_hot(label, 3)
    value, grad = jax.jit(jax.value_and_grad(mean_loss(loss)))(logits, jnp.asarray(label))
    assert 0 <= value < 1e-6
    assert np.abs(grad).max() < 1e-6


def test_void_pixels_change_nothing_and_get_no_gradient(loss, float64):
    logits, label = scene()
    void = (label < 0) | (label > 2)
    grad = jax.jit(jax.value_and_grad(mean_loss(loss)))
    value, slope = grad(jnp.asarray(logits), jnp.asarray(label))
    for content in (1e30, -np.inf, np.nan):
        other = np.where(void[..., None] & (np.arange(3) == 1), content, logits)
        other_value, other_slope = grad(jnp.asarray(other), jnp.asarray(label))
        assert other_value == value
        np.testing.assert_array_equal(other_slope, slope)
    assert np.all(np.asarray(slope)[void] == 0)
    if loss is not LOSSES["top_k"]:
        assert np.all(np.any(np.asarray(slope)[~void] != 0, axis=-1))


def test_all_void_gives_zero_and_a_finite_gradient(loss):
    logits, label = scene()
    logits, label = jnp.asarray(logits, jnp.float32), jnp.full_like(jnp.asarray(label), 255)
    result, grad = jax.jit(lambda z, y: (loss(z, y), jax.grad(mean_loss(loss))(z, y)))(
        logits, label
    )
    assert [float(x) for x in result] == [0.0, 0.0]
    assert np.all(np.asarray(grad) == 0)


@pytest.mark.parametrize("name", among(name for name in LOSSES if name != "batch_dice"))
def test_sum_and_weight_are_linear_over_examples_and_padding_adds_nothing(name, float64):
    loss = LOSSES[name]
    logits, label = scene(batch=3)
    logits, label = jnp.asarray(logits), jnp.asarray(label).at[2].set(255)
    compiled = jax.jit(loss)
    whole = np.array(compiled(logits, label))
    parts = np.array([compiled(logits[i : i + 1], label[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(parts.sum(0), whole, rtol=1e-12)
    assert np.all(parts[2] == 0) and np.all(parts[:2] > 0)


@pytest.mark.parametrize("x64", [False, True])
def test_the_weight_of_labels_alone_is_the_weight_of_the_loss_to_the_bit(loss, x64):
    with jax.enable_x64(x64):
        logits, label = (jnp.asarray(x) for x in scene(batch=3, height=37, width=41))
        _, weight = jax.jit(loss)(logits, label)
        alone = jax.jit(functools.partial(loss.weight, num_classes=3))(label)
    weight, alone = np.asarray(weight), np.asarray(alone)
    assert weight > 0 and alone.dtype == weight.dtype == (np.float64 if x64 else np.float32)
    assert alone.tobytes() == weight.tobytes()


@pytest.mark.parametrize("size", [(24,), (4, 6), (2, 3, 4)])
@pytest.mark.parametrize("name", among(name for name in LOSSES if name not in LOOK_AROUND))
def test_any_number_of_axes_gives_what_the_same_pixels_give_in_a_row(name, size, float64):
    loss = LOSSES[name]
    logits, label = (jnp.asarray(x) for x in scene())
    expected = jax.jit(loss)(logits, label)
    got = jax.jit(loss)(logits.reshape(2, *size, 3), label.reshape(2, *size))
    np.testing.assert_allclose(got, expected, rtol=1e-13)


def test_a_loss_is_one_and_a_plain_function_is_made_one():
    def outside(logits, label):
        valid = label != 255
        return jnp.sum(jnp.where(valid, logits[..., 0], 0)), jnp.sum(valid, dtype=logits.dtype)

    for loss in LOSSES.values():
        assert isinstance(loss, base.Loss) and base.as_loss(loss) is loss
        assert hash(loss) == hash(dataclasses.replace(loss))
        loss.check(3)
    made = base.as_loss(outside)
    logits, label = (jnp.asarray(x) for x in scene())
    for weight in (made(logits, label)[1], made.weight(label, num_classes=3)):
        assert float(weight) == float((label != 255).sum()) > 0
    made.check(3)


def test_bfloat16_logits_are_computed_in_float32(loss):
    logits, label = scene()
    logits, label = jnp.asarray(logits, jnp.bfloat16), jnp.asarray(label)
    value, weight = jax.jit(loss)(logits, label)
    exact, _ = jax.jit(loss)(logits.astype(jnp.float32), label)
    assert value.dtype == weight.dtype == jnp.float32
    np.testing.assert_allclose(value, exact, rtol=1e-6)
    assert jax.eval_shape(jax.grad(mean_loss(loss)), logits, label).dtype == jnp.bfloat16


@pytest.mark.parametrize("spec", [("data",), ("data", "space")], ids=str)
def test_sharded_batch_gives_the_same_numbers_without_gathering(spec, float64):
    names = [name for name in LOSSES if name not in {*DEAR, *SEE_WHOLE_IMAGES}]
    text = agree_when_sharded(spec, names)
    assert "all-reduce" in text and "all-gather" not in text


@pytest.mark.slow
@pytest.mark.parametrize("spec", [("data",), ("data", "space")], ids=str)
def test_all_losses_agree_when_sharded(spec, float64):
    names = [name for name in LOSSES if len(spec) == 1 or name not in SEE_WHOLE_IMAGES]
    text = agree_when_sharded(spec, names)
    assert "all-reduce" in text and "all-gather" not in text


@pytest.mark.slow
def test_losses_that_see_whole_images_agree_over_shared_rows_too(float64):
    agree_when_sharded(("data", "space"), SEE_WHOLE_IMAGES)


def agree_when_sharded(spec, names):
    """Compare with one device; return the program's text."""
    sizes = (8,) if len(spec) == 1 else (4, 2)
    mesh = jax.make_mesh(sizes, spec, axis_types=(AxisType.Auto,) * len(spec))

    @jax.jit
    def grads(logits, label):  # of all losses, in one program: they compile together
        return {n: jax.value_and_grad(mean_loss(LOSSES[n]))(logits, label) for n in names}

    batch = [jnp.asarray(x) for x in scene(batch=8)]
    expected = grads(*batch)
    sharded = jax.device_put(batch, NamedSharding(mesh, PartitionSpec(*spec)))
    program = grads.lower(*sharded).compile()
    for name, (value, grad) in program(*sharded).items():
        np.testing.assert_allclose(value, expected[name][0], rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(grad, expected[name][1], rtol=1e-10, atol=1e-14, err_msg=name)
    return program.as_text()


def term_mean(loss):
    """Return the mean as the train step takes it."""

    def mean(logits, label):
        total, weight = loss(logits, label)
        return structs.Term(total, weight).mean({})

    return mean


WEIGHTED = {
    "cross_entropy": pixel.CrossEntropy,
    "smoothed": functools.partial(pixel.CrossEntropy, label_smoothing=0.1),
    "focal": pixel.Focal,
}


@pytest.mark.parametrize("shape", [(1,), (2, 3), (2, 2, 3)], ids=["1D", "2D", "3D"])
@pytest.mark.parametrize("name", WEIGHTED)
def test_where_every_label_weighs_nothing_there_is_nothing_to_learn(name, shape):
    """A mean over weights of 0 is 0 with gradient 0, whatever the sum above it.

    PyTorch gives infinity for smoothed cross-entropy, NaN for the rest. With a label that counts
    beside them the weights of 0 are PyTorch's again: they add their share of the smoothing.
    """
    mean = jax.jit(jax.value_and_grad(term_mean(WEIGHTED[name](class_weights=(1, 0)))))
    logits = jnp.zeros((1, *shape, 2))
    value, grad = mean(logits, jnp.ones((1, *shape), jnp.int32))
    assert value == 0 and not np.asarray(grad).any()
    value, grad = mean(logits, jnp.ones((1, *shape), jnp.int32).at[(0,) * (1 + len(shape))].set(0))
    assert value > 0 and np.isfinite(grad).all() and np.asarray(grad).any()


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1e-3, 1e9, 5e29])
@pytest.mark.parametrize("name", WEIGHTED)
def test_only_the_ratios_of_class_weights_matter(name, scale):
    """No floor bends a small weight: 1e-9 for both classes is what 1 for both is."""
    logits, label = (jnp.asarray(x) for x in scene(num_classes=2))
    logits = logits.astype(jnp.float32)
    means = [
        jax.jit(jax.value_and_grad(term_mean(WEIGHTED[name](class_weights=weights))))
        for weights in ((1.0, 2.0), (scale, 2 * scale))
    ]
    (expected, slope), (value, grad) = (mean(logits, label) for mean in means)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(grad, slope, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize(
    "loss",
    [
        pixel.CrossEntropy(),
        pixel.CrossEntropy(label_smoothing=0.2, class_weights=(1.0, 3.0)),
        pixel.Focal(),
        pixel.Focal(gamma=0.5, class_weights=(1.0, 3.0)),
        region.Dice(smooth=0.0),
        region.Jaccard(),
    ],
    ids=repr,
)
def test_an_offset_common_to_all_classes_costs_no_digit(loss, dtype):
    """Softmax is blind to it, so value and gradient are, to the last digit, those without it.

    Of any logits that the type can tell apart: 16384 and 16383 in float32, 256 and 255 in bfloat16.
    """
    high = {jnp.float32: 16384.0, jnp.bfloat16: 256.0, jnp.float16: 2048.0}[dtype]
    logits = jnp.asarray([[[0.0, -1.0], [-1.0, 0.0], [-1.0, 0.0]]], dtype)
    label = jnp.asarray([[0, 0, 1]])
    mean = jax.jit(jax.value_and_grad(term_mean(loss)))
    for offset in (high, -high + 1):
        value, grad = mean(logits + jnp.asarray(offset, dtype), label)
        expected, slope = mean(logits, label)
        assert value == expected
        np.testing.assert_array_equal(np.asarray(grad, float), np.asarray(slope, float))


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_values_that_were_wrong(name):
    loss = {"cross_entropy": pixel.CrossEntropy, "focal": functools.partial(pixel.Focal, gamma=0)}
    make, label = loss[name], jnp.zeros((1, 1), jnp.int32)

    def value(logits, **options):
        return float(term_mean(make(**options))(jnp.asarray([[logits]], jnp.float32), label))

    assert value([16384, 16383]) == pytest.approx(0.31326, abs=5e-6)
    assert value([0, 0], class_weights=(1e-9, 1e-9)) == pytest.approx(0.6931, abs=5e-5)
    assert value([0, 0], class_weights=(0, 1)) == 0


def test_a_term_hides_neither_nan_nor_a_negative_weight():
    for weight, right in ((2.0, 1.5), (0.0, 0.0), (-2.0, -1.5), (np.nan, np.nan)):
        term = structs.Term(jnp.float32(3), jnp.float32(weight))
        np.testing.assert_equal(float(term.mean({})), right)
        np.testing.assert_equal(
            float(dataclasses.replace(term, divisor="w").mean({"w": term.weight})), right
        )


BAD_WEIGHTS = {
    "all 0": (0.0, 0.0),
    "negative": (1.0, -1e-9),
    "NaN": (1.0, float("nan")),
    "infinite": (1.0, float("inf")),
    "too small for float32": (1.0, 1e-40),
    "too large for float32": (1.0, 1e39),
}


@pytest.mark.parametrize("bad", BAD_WEIGHTS)
@pytest.mark.parametrize("name", WEIGHTED)
def test_weights_that_mean_nothing_are_config_errors(name, bad):
    with pytest.raises(ConfigError, match="class_weights=.*at least one above 0.*Use 0 to leave"):
        WEIGHTED[name](class_weights=BAD_WEIGHTS[bad])


@pytest.mark.parametrize("shape", [(2,), (1, 2), (2, 1), (1, 1, 2), (2, 1, 1)], ids=str)
@pytest.mark.parametrize(("loss", "right"), [(region.Dice, 2 / 3), (region.Jaccard, 3 / 4)])
def test_areas_are_summed_over_all_axes_of_space(shape, loss, right):
    """Two places, both predicted 0, labels 0 and 1: Dice of class 0 is 2/3, of class 1 it is 0."""
    label = jnp.asarray([0, 1]).reshape(1, *shape)
    logits = jnp.broadcast_to(jnp.asarray([1000.0, 0.0]), (1, *shape, 2))
    value = term_mean(loss(smooth=0.0))(logits, label)
    assert float(value) == pytest.approx(right, abs=1e-6)


def test_the_table_of_losses_has_all_of_them():
    page = (program.ROOT / "docs" / "losses.md").read_text()
    listed = re.findall(r"^\| `(\w+:\w+)` \|", page, re.M)
    found = [
        f"{module}:{lookup.snake_case(name)}"
        for module in lookup.modules("losses")
        if module != "queries"  # of the tasks of queries, which are given it whole
        for name, symbol in vars(importlib.import_module(f"segjax.losses.{module}")).items()
        if dataclasses.is_dataclass(symbol) and isinstance(symbol, type) and name[0] != "_"
    ]
    assert sorted(listed) == sorted(found) and len(found) == 15
    assert f"and {len(found) - 2} more" in (program.ROOT / "README.md").read_text()
