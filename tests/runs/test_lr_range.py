"""The rate that is suggested is where a loss falls fastest, well below where it diverges."""

import csv
import math

import numpy as np
import pytest

from segjax.commands import cli
from segjax.errors import ConfigError
from segjax.runs import lr_range
from segjax.views import rates
from tests.views.png import near, read_png

RATES = np.geomspace(1e-5, 10, 120).tolist()


def valley(rate: float) -> float:
    """A loss that falls fastest at 1e-3, by the rate's logarithm, and grows from 1 on."""
    fall = 1 / (1 + math.exp(-2 * (math.log10(rate) + 3)))
    return 2 - 1.5 * fall + max(0.0, rate) ** 2


def test_the_steepest_rate_is_found_and_the_test_stops_where_it_diverges():
    taken = []

    def points():
        for rate in RATES:
            taken.append(rate)
            yield rate, valley(rate)

    found = lr_range.find(points())
    assert found.steepest == pytest.approx(1e-3, rel=0.35)
    assert 1 < found.diverged < 5 and taken[-1] == found.diverged, "nothing is taken after it"
    assert found.suggested() == found.steepest <= found.diverged / 10


def test_noise_moves_it_little():
    noise = np.random.default_rng(0).normal(size=len(RATES)) * 0.05
    points = ((rate, valley(rate) + x) for rate, x in zip(RATES, noise, strict=True))
    assert 2e-4 < lr_range.find(points).steepest < 5e-3


def test_it_is_at_most_a_tenth_of_the_one_that_diverges():
    """As where the loss falls up to a cliff."""
    points = ((rate, 3 - i / 60 if rate < 0.1 else math.nan) for i, rate in enumerate(RATES))
    found = lr_range.find(points)
    assert found.diverged == pytest.approx(0.1, rel=0.15)
    assert found.suggested() <= found.diverged / 10
    assert all(map(math.isfinite, found.losses))


def test_one_that_never_diverges_says_so():
    found = lr_range.find((rate, valley(min(rate, 0.1))) for rate in RATES)
    assert math.isnan(found.diverged) and found.suggested() == found.steepest


def test_what_cannot_be_tested_is_said(tiny_config):
    with pytest.raises(ConfigError, match="diverges after 2 steps already.*lower --start"):
        lr_range.find(iter([(1.0, 2.0), (2.0, math.inf)]))
    with pytest.raises(ConfigError, match="expected rates above 0 that rise"):
        lr_range.config_of(tiny_config(), start=1.0, end=0.1, steps=10)
    config = tiny_config(trials__seed=[1, 2])
    with pytest.raises(ConfigError, match="a test is of one run"):
        lr_range.config_of(config, start=0.1, end=1.0, steps=10)


def test_the_figure_shows_the_rate(tmp_path):
    found = lr_range.find((rate, valley(rate)) for rate in RATES)
    rates.draw_range(
        tmp_path / "x.png", found.rates, found.losses, found.smoothed,
        suggested=found.suggested(), diverged=found.diverged,
    )  # fmt: skip
    pixels = read_png(tmp_path / "x.png")
    assert pixels.shape == (690, 1200, 3)
    assert near(pixels, rates.BLUE) > 500 and near(pixels, rates.ORANGE) > 100


@pytest.mark.slow
def test_the_command_writes_table_and_figure_and_no_run(tmp_path, capsys):
    arguments = ["--config=configs/quickstart.py:debug", f"--output={tmp_path / 'out'}"]
    arguments += ["--steps=12", "--start=1e-4", "--end=1e-1", "--config.input.batch_size=8"]
    assert cli.main(["run.py", "--mode=lr_range", *arguments]) == 0
    assert "suggested: optimizer.lr=" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["lr_range.csv", "lr_range.png"]
    rows = list(csv.DictReader((tmp_path / "out" / "lr_range.csv").open()))
    tried = [float(row["learning_rate"]) for row in rows]
    np.testing.assert_allclose(tried, np.geomspace(1e-4, 1e-1, 12), rtol=1e-4)
    assert cli.main(["run.py", "--mode=lr_range", *arguments, "--start=5"]) == 2
    assert "expected rates above 0 that rise" in capsys.readouterr().err
