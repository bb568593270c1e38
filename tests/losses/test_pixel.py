import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.config import lookup
from segjax.errors import ConfigError
from segjax.losses import pixel

WEIGHTS = (0.25, 1.0, 3.0, 0.0)


def scene():
    random = np.random.default_rng(1)
    logits = 3 * random.normal(size=(2, 3, 5, 4))
    label = random.integers(0, 4, (2, 3, 5)).astype(np.int32)
    label[0, 1], label[1, 0, 2] = 255, 17
    return logits, label


def reference(logits, label, *, weights=(1, 1, 1, 1), smoothing=0.0, gamma=0.0):
    """Sum pixel by pixel: each valid pixel's target distribution against its log-probabilities."""
    total = weight = 0.0
    for z, y in zip(logits.reshape(-1, 4), label.ravel(), strict=True):
        if y > 3:
            continue
        p = np.exp(z) / np.exp(z).sum()
        target = np.full(4, smoothing / 4)
        target[y] += 1 - smoothing
        total += (1 - p[y]) ** gamma * sum(-target[c] * weights[c] * np.log(p[c]) for c in range(4))
        weight += weights[y]
    return total, weight


@pytest.mark.parametrize("weights", [(), WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_equals_numpy(weights, smoothing, float64):
    logits, label = scene()
    loss = pixel.CrossEntropy(class_weights=weights, label_smoothing=smoothing)
    got = jax.jit(loss)(jnp.asarray(logits), jnp.asarray(label))
    expected = reference(logits, label, weights=weights or (1,) * 4, smoothing=smoothing)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("weights", [(), WEIGHTS])
def test_focal_equals_numpy(weights, gamma, float64):
    logits, label = scene()
    loss = pixel.Focal(gamma=gamma, class_weights=weights)
    got = jax.jit(loss)(jnp.asarray(logits), jnp.asarray(label))
    expected = reference(logits, label, weights=weights or (1,) * 4, gamma=gamma)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_cross_entropy_equals_torch(float64):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    logits, label = scene()
    label = np.where(label > 3, 255, label)
    loss = pixel.CrossEntropy(class_weights=WEIGHTS, label_smoothing=0.2)
    total, weight = loss(jnp.asarray(logits), jnp.asarray(label))
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(logits).movedim(-1, 1),
        torch.tensor(label).long(),
        weight=torch.tensor(WEIGHTS, dtype=torch.float64),
        ignore_index=255,
        label_smoothing=0.2,
    )
    np.testing.assert_allclose(total / weight, float(expected), rtol=1e-12)


def test_gradient_is_probability_minus_target(float64):
    logits, label = scene()
    grad = jax.jit(jax.grad(lambda z: pixel.CrossEntropy()(z, jnp.asarray(label))[0]))(logits)
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = probs - (label[..., None] == np.arange(4))
    np.testing.assert_allclose(grad, np.where(label[..., None] < 4, expected, 0), atol=1e-14)


def test_uniform_logits_cost_the_entropy_of_a_coin_with_k_sides():
    logits, label = jnp.zeros((1, 2, 3, 7)), jnp.ones((1, 2, 3), jnp.int32)
    total, weight = jax.jit(pixel.CrossEntropy())(logits, label)
    assert weight == 6
    np.testing.assert_allclose(total / weight, np.log(7), rtol=1e-6)


def test_focal_without_focus_is_cross_entropy(float64):
    logits, label = (jnp.asarray(x) for x in scene())

    def value_and_grad(loss):
        fn = jax.value_and_grad(lambda z: loss(z, label), has_aux=True)
        (total, weight), grad = jax.jit(fn)(logits)
        return total, weight, grad

    focal = value_and_grad(pixel.Focal(gamma=0))
    for got, expected in zip(focal, value_and_grad(pixel.CrossEntropy()), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2, 5])
def test_focal_gradient_is_finite_where_the_prediction_is_certain(gamma):
    logits = jnp.array([[[[200.0, 0.0], [0.0, 200.0], [0.0, 1e-9]]]])
    label = jnp.zeros((1, 1, 3), jnp.int32)
    loss = jax.value_and_grad(lambda z: pixel.Focal(gamma=gamma)(z, label)[0])
    value, grad = jax.jit(loss)(logits)
    assert np.isfinite(value) and np.all(np.isfinite(grad))


def test_weight_is_exact_where_float32_cannot_count():
    @jax.jit
    def weight(label):
        logits = jnp.zeros((*label.shape, 1), jnp.bfloat16)
        loss = pixel.CrossEntropy()
        return loss(logits, label)[1], loss.weight(label, num_classes=1)

    label = jnp.zeros((17, 1024, 1024), jnp.int8).at[0, 0, 0].set(-1)
    assert list(weight(label)) == [np.float32(17 * 2**20 - 1)] * 2


@pytest.mark.parametrize(
    ("loss", "kwargs", "message"),
    [
        (
            pixel.Focal,
            {"class_weights": (1.0, 2.0, -1.0, 1.0)},
            r"class_weights\[2\]=-1.0: expected a number from 0",
        ),
        (pixel.Focal, {"class_weights": (0.0,) * 4}, "at least one above 0"),
        (pixel.CrossEntropy, {"label_smoothing": 1.0}, "expected a number from 0 to below 1"),
        (pixel.Focal, {"gamma": -1.0}, "gamma=-1.0: expected a number from 0"),
        (pixel.Focal, {"gamma": float("nan")}, "gamma=nan"),
        (pixel.Focal, {"class_weights": ["a"]}, r"class_weights\[0\]='a': expected a number"),
    ],
)
def test_unusable_options_are_config_errors(loss, kwargs, message):
    with pytest.raises(ConfigError, match=message):
        lookup.build("losses", {"type": f"pixel:{loss.__name__}", **kwargs}, where="config.loss")


@pytest.mark.parametrize("loss", [pixel.CrossEntropy, pixel.Focal])
def test_weights_for_other_classes_are_config_errors(loss):
    logits, label = scene()
    loss = loss(class_weights=(1.0, 2.0))
    loss.check(2)
    for use in (
        lambda: loss.check(4),
        lambda: loss(jnp.asarray(logits), jnp.asarray(label)),
        lambda: loss.weight(jnp.asarray(label), num_classes=4),
    ):
        with pytest.raises(ConfigError, match="has 2 values, expected 4"):
            use()


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.parametrize("epsilon", [-1.0, 0.0, 2])
def test_poly1_equals_numpy(epsilon, float64):
    logits, label = scene()
    weights = (1.0, 2.0, 0.5, 1.5)
    valid = label < 4
    log_p = np.take_along_axis(log_softmax(logits), np.where(valid, label, 0)[..., None], -1)[
        ..., 0
    ]
    w = np.asarray(weights)[np.where(valid, label, 0)] * valid
    expected = (w * (-log_p + epsilon * (1 - np.exp(log_p)))).sum(), w.sum()
    loss = pixel.Poly1(epsilon=epsilon, class_weights=weights)
    got = jax.jit(loss)(jnp.asarray(logits), jnp.asarray(label))
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("share", [0.01, 0.3, 1])
def test_top_k_takes_the_hardest_of_each_image(share, float64):
    """Rounded up; all of them is cross-entropy."""
    logits, label = scene()
    total, count = 0.0, 0
    for z, y in zip(logits, label, strict=True):
        z, y = z[y < 4], y[y < 4]
        hardest = np.sort(-log_softmax(z)[np.arange(len(y)), y])[::-1]
        taken = int(np.ceil(np.float32(share) * np.float32(len(y))))
        total, count = total + hardest[:taken].sum(), count + taken
    loss = pixel.TopK(share=share)
    got = jax.jit(loss)(jnp.asarray(logits), jnp.asarray(label))
    np.testing.assert_allclose(got, (total, count), rtol=1e-12)
    if share == 1:
        other = pixel.CrossEntropy()(jnp.asarray(logits), jnp.asarray(label))
        np.testing.assert_allclose(got, other, rtol=1e-12)
