"""Means, intervals and paired tests, against SciPy's and R's numbers."""

import numpy as np
import pytest
from scipy import stats

from segjax.studies import statistics


@pytest.mark.parametrize("n", [2, 3, 10])
def test_the_interval_of_a_mean_is_students(n):
    values = np.random.default_rng(n).normal(0.6, 0.05, n)
    found = statistics.mean(values.tolist())
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose(found.interval, (low, high), rtol=1e-12)
    np.testing.assert_allclose([found.mean, found.std], [values.mean(), values.std(ddof=1)])


def test_one_run_has_a_mean_and_no_interval():
    assert statistics.mean([0.5]) == (1, 0.5, None, None)
    assert statistics.difference({1: 0.5}, {1: 0.25, 2: 9.0}) == (1, 0.25, None, None, None)
    assert statistics.difference({1: 0.5}, {2: 0.25}) is None


@pytest.mark.parametrize("seed", range(5))
def test_a_difference_is_the_paired_t_test_over_the_seeds_that_both_have(seed):
    draw = np.random.default_rng(seed)
    one = {i: draw.normal() for i in range(6)}
    other = {i: draw.normal() for i in reversed(range(2, 9))}
    found = statistics.difference(one, other)
    common = sorted(one.keys() & other.keys())
    expected = stats.ttest_rel([one[i] for i in common], [other[i] for i in common])
    assert found.n == len(common) == 4
    np.testing.assert_allclose(found.p_value, expected.pvalue, rtol=1e-10)
    interval = expected.confidence_interval(0.95)
    np.testing.assert_allclose(found.interval, (interval.low, interval.high), rtol=1e-10)


def test_differences_that_do_not_vary_are_sure():
    base = {0: 0.25, 1: 0.5}
    assert statistics.difference({0: 0.5, 1: 0.75}, base).p_value == 0.0
    assert statistics.difference(base, base).p_value == 1.0


def test_holm_corrects_as_r_does():
    """`p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")` is 0.03 0.06 0.06 0.02."""
    raw = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}
    found = statistics.holm(raw)
    assert {name: round(p, 12) for name, p in found.items()} == {
        "a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02
    }  # fmt: skip
    assert statistics.holm({"a": 0.7, "b": 0.6}) == {"b": 1.0, "a": 1.0}
    assert statistics.holm({}) == {}


def test_all_rows_are_corrected_together_and_the_baseline_is_not_one_of_them():
    draw = np.random.default_rng(0)
    rows = {name: {i: draw.normal() for i in range(5)} for name in "abcd"} | {"one": {0: 0.5}}
    found = statistics.differences(rows, "b")
    assert list(found) == ["a", "c", "d", "one"]
    raw = {name: found[name].p_value for name in "acd"}
    assert {name: found[name].adjusted for name in "acd"} == statistics.holm(raw)
    assert found["one"].adjusted is None
