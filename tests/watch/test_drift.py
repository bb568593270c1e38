"""PSI, KS and their limits: against formulas, on independent and on grouped streams."""

import numpy as np
import pytest
from scipy import stats

from segjax.errors import DataError
from segjax.watch import drift

RNG = np.random.default_rng


def clips(seed: int, *, count: int = 6, length: int = 120, apart: float = 3.0) -> tuple:
    """Return values of clips that differ from each other more than frames of one do."""
    rng = RNG(seed)
    means = rng.uniform(0, apart, count)
    values = np.concatenate([rng.normal(mean, 0.5, length) for mean in means])
    return values, [f"clip{number}" for number in range(count) for _ in range(length)]


def test_psi_is_the_formula():
    edges, shares = np.array([0.0, 1.0]), np.array([0.2, 0.5, 0.3])
    values = np.array([-1.0, 0.5, 0.5, 2.0])
    own = np.array([1.5, 2.5, 1.5]) / 5.5
    assert drift.psi(values, edges, shares) == pytest.approx(
        sum((own - shares) * np.log(own / shares))
    )


def test_ks_is_scipys_exact_distance():
    one, other = RNG(0).normal(size=90), RNG(1).normal(0.3, size=70)
    found = stats.ks_2samp(one, other).statistic
    assert drift.ks(one, other) == pytest.approx(found)


def test_independent_images_pass_and_small_shifts_do_not():
    """400 windows of the same law raise at most a few alerts; half a deviation raises one."""
    values, groups = RNG(0).normal(size=800), [f"g{i // 100}" for i in range(800)]
    limits = drift.learn({"x": values}, groups)
    rng = RNG(1)
    alarms = sum(
        drift.compare({"x": rng.normal(size=100)}, limits)[0].passes for _ in range(400)
    )  # fmt: skip
    assert alarms <= 8
    assert drift.compare({"x": rng.normal(1.0, size=100)}, limits)[0].passes


def test_a_new_clip_is_no_alert_and_what_no_clip_was_is():
    """Every clip is far from the rest by textbook limits."""
    values, groups = clips(0)
    limits = drift.learn({"x": values}, groups)
    textbook = 0
    for seed in range(1, 40):
        fresh = clips(seed, count=1)[0][:100]
        (shift,) = drift.compare({"x": fresh}, limits)
        assert not shift.passes, shift.describe()
        textbook += shift.psi > 0.25
    assert textbook == 39
    assert drift.compare({"x": RNG(0).normal(8, 0.5, 100)}, limits)[0].passes


def test_a_constant_is_known():
    limits = drift.learn({"size": np.full(300, 480.0)}, [f"g{i // 50}" for i in range(300)])
    assert not drift.compare({"size": np.full(100, 480.0)}, limits)[0].passes
    assert drift.compare({"size": np.full(100, 640.0)}, limits)[0].passes


def test_what_is_missing_is_left_out():
    values = RNG(0).normal(size=300)
    groups = [f"g{i // 50}" for i in range(300)]
    table = {"x": values, "never": np.full(300, np.nan)}
    limits = drift.learn(table, groups)
    assert list(limits) == ["x"]
    assert drift.compare({"x": np.full(100, np.nan)}, limits) == []
    assert drift.compare({}, limits) == []


def test_groups_are_guessed():
    names = ["0006R0_f00930.jpg", "0016E5_00901.png", "synthetic/val/00001"]
    assert [*map(drift.group_of, names)] == ["0006R0_f", "0016E5_", "synthetic/val/"]
    alone = drift.tell_apart(["one"] * 80)
    assert len(set(alone)) == drift.BLOCKS and alone == sorted(alone)
    assert len(set(drift.tell_apart([str(i) for i in range(80)]))) == drift.BLOCKS
    assert drift.tell_apart(["a"] * 9 + ["b"] * 9) == ["a"] * 9 + ["b"] * 9


def test_too_few_are_one_line():
    with pytest.raises(DataError, match="20 reference images in 7 groups. Expected at least 100"):
        drift.learn({"x": np.zeros(20)}, drift.tell_apart(["a"] * 20))
