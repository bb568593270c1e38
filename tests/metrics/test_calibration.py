"""Probabilities against NumPy's, scikit-learn's and SciPy's own numbers."""

import numpy as np
import pytest
from scipy import optimize
from sklearn import metrics as sklearn

from segjax.errors import NonFiniteError
from segjax.metrics import base, calibration, ranking
from tests.metrics import scenes

NAMES = ("a", "b", "c", "d")


def example(seed, k=4, shape=(17, 19), scale=2.0):
    """Return label with void, and float32 probabilities that lean to it."""
    random = np.random.default_rng(seed)
    label = random.integers(0, k, shape).astype(np.uint8)
    logits = random.normal(size=(*shape, k)) * scale + 1.5 * np.eye(k)[label]
    probs = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    label[random.random(shape) < 0.1] = 255
    return label, probs.astype(np.float32)


def seen(label, probs):
    return scenes.seen(label, probs.argmax(-1), probs.shape[-1], probs)


def pixels(*pairs):
    """Return label and probabilities of all pixels that are not void."""
    labels = [label[label != 255] for label, _ in pairs]
    return np.concatenate(labels), np.concatenate([p[y != 255] for y, p in pairs])


def score(metric, *pairs, names=NAMES):
    return metric.summarize([metric(seen(*pair)) for pair in pairs], class_names=names)


def rounded(probs):
    """Return probabilities as multiples of 2^-14."""
    return np.round(probs.astype(np.float64) * 2**14) / 2**14


def ece(confidence, right, bins):
    """Return Guo et al.'s error, a loop over bins."""
    total, worst = 0.0, 0.0
    for number in range(bins):
        inside = (confidence >= number / bins) & (confidence < (number + 1) / bins)
        inside |= (number == bins - 1) & (confidence == 1)
        if inside.any():
            gap = abs(confidence[inside].mean() - right[inside].mean())
            total, worst = total + gap * inside.mean(), max(worst, gap)
    return total, worst


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_ece_equals_a_loop_over_bins(bins):
    pairs = [example(seed) for seed in range(3)]
    label, probs = pixels(*pairs)
    found = score(calibration.Ece(bins=bins), *pairs)
    levels = rounded(probs)
    total, worst = ece(levels.max(-1), probs.argmax(-1) == label, bins)
    assert found.value == pytest.approx(total, rel=1e-9)
    assert found.detail["mce"] == pytest.approx(worst, rel=1e-9)
    for number, name in enumerate(NAMES):
        expected, _ = ece(levels[:, number], label == number, bins)
        assert found.detail["per_class"][name] == pytest.approx(expected, rel=1e-9)
    exact, _ = ece(probs.max(-1).astype(np.float64), probs.argmax(-1) == label, bins)
    assert found.value == pytest.approx(exact, abs=2e-3)  # a pixel may change its bin
    assert sum(each["pixels"] for each in found.detail["bins"]) == len(label)


def test_brier_equals_scikit_learn_and_rounding_stays_within_its_bound():
    pairs = [example(seed) for seed in range(3)]
    label, probs = pixels(*pairs)
    found = score(calibration.Brier(), *pairs)
    exact = np.mean(np.sum((probs.astype(np.float64) - np.eye(4)[label]) ** 2, axis=-1))
    assert found.value == pytest.approx(exact, abs=2e-4)
    one = [sklearn.brier_score_loss(label == i, rounded(probs)[:, i]) for i in range(4)]
    np.testing.assert_allclose([found.detail["per_class"][n] for n in NAMES], one, rtol=1e-9)


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize(
    ("metric", "oracle"),
    [
        (ranking.Auroc(), sklearn.roc_auc_score),
        (ranking.AveragePrecision(), sklearn.average_precision_score),
    ],
    ids=["auroc", "average_precision"],
)
def test_ranking_equals_scikit_learn(metric, oracle, k):
    """Exactly for rounded probabilities; within the bound that it reports for the others."""
    pairs = [example(seed, k) for seed in range(3)]
    label, probs = pixels(*pairs)
    found = score(metric, *pairs, names=NAMES[:k])
    each = [oracle(label == i, rounded(probs)[:, i]) for i in range(k)]
    np.testing.assert_allclose([*found.detail["per_class"].values()], each, rtol=1e-10)
    assert found.value == pytest.approx(each[1] if k == 2 else np.mean(each))
    exact = [oracle(label == i, probs[:, i]) for i in range(k)]
    exact = exact[1] if k == 2 else np.mean(exact)
    assert abs(found.value - exact) <= found.detail["bound"] + 1e-12
    assert 0 < found.detail["bound"] < 0.02


def test_bounds_hold_where_rounding_hides_the_order():
    """Probabilities so small that many fall together: the bound is wide, and true."""
    random = np.random.default_rng(0)
    label = random.integers(0, 2, (30, 30)).astype(np.uint8)
    own = (random.random((30, 30)) + 0.5 * label) * 2e-4
    probs = np.stack([1 - own, own], axis=-1).astype(np.float32)
    for metric, oracle in (
        (ranking.Auroc(), sklearn.roc_auc_score),
        (ranking.AveragePrecision(), sklearn.average_precision_score),
    ):
        found = score(metric, (label, probs), names=NAMES[:2])
        exact = oracle(label.ravel(), probs[..., 1].ravel())
        assert 0.02 < found.detail["bound"] < 0.5
        assert abs(found.value - exact) <= found.detail["bound"]


ADDED = [
    calibration.Ece(), calibration.Brier(), ranking.Auroc(), ranking.AveragePrecision(),
]  # fmt: skip


@pytest.mark.parametrize("metric", ADDED, ids=repr)
def test_order_and_parts_change_no_bit(metric):
    """Statistics are integers, so any order of examples and any sums of some give one result."""
    pairs = [example(seed) for seed in range(4)]
    found = [metric(seen(*pair)) for pair in pairs]
    whole = metric.summarize(found, class_names=NAMES)
    for parts in (found[::-1], [found[0] + found[2], found[1] + found[3]]):
        other = metric.summarize(parts, class_names=NAMES)
        assert other.value == whole.value and other.detail == whole.detail


@pytest.mark.parametrize("metric", [*ADDED, calibration.Temperature()], ids=repr)
def test_void_changes_nothing_and_nothing_but_void_says_nothing(metric):
    label, probs = example(0)
    whole = score(metric, (label, probs))
    changed = np.where((label == 255)[..., None], np.float32([1, 0, 0, 0]), probs)
    assert score(metric, (label, changed)).value == whole.value
    assert score(metric, (np.full_like(label, 255), probs)).value is None


def nll(temperature, logits, label):
    scores = logits / temperature
    scores = scores - scores.max(axis=-1, keepdims=True)
    logs = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    return -logs[np.arange(len(label)), label].mean()


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_is_the_likeliest_and_the_one_that_drew_the_labels(true):
    random = np.random.default_rng(1)
    logits = random.normal(size=(20_000, 5)) * 3
    probs = np.exp(logits / true) / np.exp(logits / true).sum(axis=-1, keepdims=True)
    label = (random.random((len(probs), 1)) > probs.cumsum(axis=-1)[:, :-1]).sum(axis=-1)
    found = calibration.fit_temperature(logits, label)
    oracle = optimize.minimize_scalar(
        nll, bounds=(0.05, 20), args=(logits, label), method="bounded", options={"xatol": 1e-9}
    )
    assert found == pytest.approx(oracle.x, rel=1e-5)
    assert found == pytest.approx(true, rel=0.05)
    assert calibration.fit_temperature(logits + 1000, label) == pytest.approx(found, rel=1e-9)


def test_labels_that_are_all_right_or_all_wrong_have_no_likeliest_temperature():
    logits = np.array([[5.0, 0.0], [0.0, 4.0]])
    assert calibration.fit_temperature(logits, np.array([0, 1])) == pytest.approx(0.01)
    assert calibration.fit_temperature(logits, np.array([1, 0])) == pytest.approx(100)


def test_scaling_an_overconfident_network_lowers_its_error():
    """Of logits three times too large: the temperature is 3, and the error after it is small."""
    random = np.random.default_rng(2)
    logits = random.normal(size=(90, 90, 3)) * 2
    true = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    label = (random.random((90, 90, 1)) > true.cumsum(axis=-1)[..., :-1]).sum(axis=-1)
    probs = np.exp(3 * logits) / np.exp(3 * logits).sum(axis=-1, keepdims=True)
    pair = (label.astype(np.uint8), probs.astype(np.float32))
    found = score(calibration.Temperature(pixels=8000), pair, names=NAMES[:3])
    assert found.value == pytest.approx(3, rel=0.1)
    assert found.detail["ece"] > 0.1 > 0.03 > found.detail["ece_scaled"]
    assert found.detail["nll_scaled"] < found.detail["nll"] and found.detail["pixels"] == 8000


@pytest.mark.parametrize("metric", [*ADDED, calibration.Temperature()], ids=repr)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_probability_is_an_error_but_on_void(metric, bad):
    label, probs = example(0)
    probs[label == 255] = bad
    assert np.isfinite(score(metric, (label, probs)).value)
    probs[tuple(np.argwhere(label == 1)[0])] = bad
    with pytest.raises(NonFiniteError, match="x: a probability is NaN or infinite"):
        metric(seen(label, probs))


def test_levels_are_counted_by_class():
    label, probs = example(0)
    counts = seen(label, probs).levels()
    assert counts.shape == (4, 2, base.LEVELS + 1)
    for number in range(4):
        assert counts[number].sum() == np.sum(label != 255)
        assert counts[number, 1].sum() == np.sum(label == number)
