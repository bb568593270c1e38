"""Intervals and tests against SciPy's, and against counting every possibility."""

import itertools
import json

import numpy as np
import pytest
from scipy import stats

from segjax.errors import UserError
from segjax.metrics import confusion, intervals, matrix

NAMES = ("a", "b", "c")


def counts(seed, n=40, right=0.8):
    """Return the margins [3 n k] and matrices of examples of unequal size and difficulty."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        label = random.integers(0, 3, random.integers(20, 200))
        own = right + 0.15 * random.standard_normal()
        pred = np.where(random.random(len(label)) < own, label, random.integers(0, 3, len(label)))
        found.append(confusion.counts_of(pred, label, num_classes=3))
    return confusion.margins(np.stack(found)), np.stack(found)


def report(margins, values=None, groups=None):
    """Return what `eval/<name>.json` holds of single examples."""
    parts = dict(zip(("hit", "label", "pred"), margins.tolist(), strict=True))
    table = {"name": [str(i) for i in range(margins.shape[1])], "values": values or {}} | parts
    return {"per_example": table | ({"group": groups} if groups else {})}


def test_a_score_of_weights_is_that_of_the_examples_repeated():
    """Whole numbers of examples: the same integers, so the same score to the last bit."""
    margins, matrices = counts(0)
    random = np.random.default_rng(1)
    for name, score in intervals.scores_of_margins().items():
        scored = intervals.of_margins(margins, score=score)
        for _ in range(3):
            picks = random.integers(0, 40, 40)
            total = matrices[picks].sum(axis=0)
            whole = confusion.summarize(total, class_names=NAMES)
            margin = confusion.margins(total)
            expected = whole[name] if name in whole else intervals.OF_MARGINS[name].score(margin)
            assert scored(np.bincount(picks, minlength=40)) == expected, name


def test_intervals_equal_scipys():
    """Of a mean of values, and of the accuracy, a ratio of sums: percentile bootstrap."""
    margins, _ = counts(0)
    values = np.random.default_rng(3).gamma(2.0, size=(40, 1))
    scores = {
        "mean": intervals.of_values(values),
        "accuracy": intervals.of_margins(
            margins, score=lambda c: confusion.means(*c)["pixel_accuracy"]
        ),
    }
    found = intervals.bootstrap(scores, np.arange(40), resamples=2000)
    hit, label = margins[0].sum(axis=1), margins[1].sum(axis=1)
    options = {"n_resamples": 2000, "method": "percentile", "vectorized": False}
    ratio = stats.bootstrap(
        (hit, label), lambda a, b: a.sum() / b.sum(), paired=True, rng=0, **options
    )
    mean = stats.bootstrap((values[:, 0],), np.mean, rng=0, **options)
    for name, theirs in (("mean", mean), ("accuracy", ratio)):
        low, high = theirs.confidence_interval
        np.testing.assert_allclose(found[name], [low, high], atol=0.1 * (high - low))


def test_cases_are_drawn_whole():
    """Two cases that differ: their slices together, so only 0, 1/2 and 1 can come out."""
    values = np.repeat([0.0, 1.0], 10)[:, None]
    seen = set()

    def score(weights):
        seen.add(intervals.of_values(values)(weights))
        return intervals.of_values(values)(weights)

    found = intervals.bootstrap({"x": score}, np.repeat([0, 1], 10), resamples=200)
    assert seen == {0.0, 0.5, 1.0} and found["x"] == [0.0, 1.0]
    apart = intervals.bootstrap({"x": intervals.of_values(values)}, np.arange(20), resamples=200)
    assert apart["x"][0] > 0.2 and apart["x"][1] < 0.8


def test_undefined_resamples_do_not_count_and_nothing_has_no_interval():
    values = np.array([[np.nan], [np.inf], [2.0], [2.0]])
    score = {"x": intervals.of_values(values)}
    assert intervals.bootstrap(score, np.arange(4), resamples=100)["x"] == [2.0, 2.0]
    nothing = {"x": intervals.of_values(values[:2])}
    assert intervals.bootstrap(nothing, np.arange(2), resamples=100)["x"] == [None, None]


def test_the_p_value_is_that_of_all_exchanges():
    """Ten examples have 1024 exchanges: the drawn ones come near, SciPy's are the same."""
    first, second = counts(0, n=10, right=0.7), counts(0, n=10, right=0.78)
    found = intervals.compare(
        report(first[0]), report(second[0]), metric="pixel_accuracy", resamples=1000
    )
    accuracies = [m[0].sum() / m[1].sum() for m in (first[0], second[0])]
    assert (found.first, found.second) == pytest.approx(accuracies)
    assert found.difference == pytest.approx(accuracies[1] - accuracies[0])
    hits = [m[0].sum(axis=1) for m in (first[0], second[0])]
    extreme = 0
    for signs in itertools.product((False, True), repeat=10):
        a, b = np.where(signs, hits[1], hits[0]), np.where(signs, hits[0], hits[1])
        extreme += abs(b.sum() - a.sum()) >= abs(hits[1].sum() - hits[0].sum())
    assert found.p_value == pytest.approx(extreme / 1024, abs=0.05)


@pytest.mark.parametrize("metric", ["hd95", "miou"])
def test_comparing_values_equals_scipy(metric):
    """A metric with values for each example by SciPy's permutation test, miou by its margins."""
    random = np.random.default_rng(5)
    margins, _ = counts(0, n=25)
    first = random.gamma(2.0, size=(25, 1))
    second = first + 0.3 * random.standard_normal((25, 1)) - 0.08
    one = report(margins, {"hd95": first.tolist()})
    other = report(margins, {"hd95": second.tolist()})
    found = intervals.compare(
        one, other, metric=metric, resamples=500 if metric == "miou" else 2000
    )
    if metric == "miou":
        assert found.difference == 0 and found.p_value == 1 and found.interval == [0, 0]
        return
    theirs = stats.permutation_test(
        (second[:, 0], first[:, 0]), lambda a, b: np.mean(a - b), permutation_type="samples",
        n_resamples=4000, rng=0, vectorized=False,
    )  # fmt: skip
    assert found.difference == pytest.approx(np.mean(second - first))
    assert found.p_value == pytest.approx(theirs.pvalue, abs=0.03)
    assert found.interval[0] < found.difference < found.interval[1]


def test_a_clear_difference_is_found_and_none_is_not():
    margins, _ = counts(0, n=30, right=0.6)
    better, _ = counts(0, n=30, right=0.9)
    found = intervals.compare(report(margins), report(better), metric="kappa", resamples=300)
    assert found.p_value == pytest.approx(1 / 301) and found.interval[0] > 0.1
    swapped = intervals.compare(report(better), report(margins), metric="kappa", resamples=300)
    assert swapped.difference == -found.difference and swapped.p_value == found.p_value


def test_a_comparison_is_one_line():
    found = intervals.Comparison("miou", 0.5, 0.625, 0.125, [0.0625, 0.1875], 0.03, "case", 12)
    assert intervals.describe(found) == (
        "miou: 0.5000 and 0.6250, difference +0.1250, 95 % interval +0.0625 to +0.1875, "
        "p = 0.0300 (12 cases)"
    )


def test_cases_are_exchanged_whole():
    """Twelve slices of two cases: one result in two has the difference of the whole."""
    first = np.zeros((12, 1))
    second = first + 1
    margins = np.ones((3, 12, 3), int)
    groups = [0] * 6 + [1] * 6
    found = intervals.compare(
        report(margins, {"hd95": first.tolist()}, groups),
        report(margins, {"hd95": second.tolist()}, groups),
        metric="hd95", resamples=2000,
    )  # fmt: skip
    assert (found.unit, found.number) == ("case", 2)
    assert found.p_value == pytest.approx(0.5, abs=0.05)


def test_files_are_read_and_what_does_not_fit_is_said(tmp_path):
    margins, _ = counts(0, n=5)
    (tmp_path / "a.json").write_text(json.dumps(report(margins)))
    found = intervals.compare(tmp_path / "a.json", str(tmp_path / "a.json"), resamples=10)
    assert found.number == 5 and found.unit == "example"
    others = report(margins)
    others["per_example"]["name"][0] = "other"
    labels = report(margins + 1)
    for second, said in (
        (tmp_path / "b.json", "not there. Name the eval"),
        ({"miou": 0.5}, "says nothing of single examples. Score the run again"),
        (others, "is of other examples than"),
        (labels, "is of other labels than"),
    ):
        with pytest.raises(UserError, match=said):
            intervals.compare(tmp_path / "a.json", second)
    with pytest.raises(UserError, match="metric='miu' is in neither .* Did you mean 'miou'"):
        intervals.compare(report(margins), report(margins), metric="miu")


def test_the_scores_of_a_matrix_that_need_no_argument_can_be_compared():
    """Every metric of counts whose fields all have meanings that a report does not hold."""
    assert intervals.OF_MARGINS == {
        "specificity": matrix.Specificity(), "kappa": matrix.Kappa(), "mcc": matrix.Mcc(),
    }  # fmt: skip
