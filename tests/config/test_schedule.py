import pytest

from segjax.config import schedule
from segjax.errors import ConfigError

CLOCK = schedule.Clock(batch_size=8, num_examples=100, total_steps=250)


@pytest.mark.parametrize(
    ("key", "value", "steps"),
    [("x_steps", 7, 7), ("x_epochs", 2, 25), ("x_examples", 80, 10), ("x_percent", 10, 25),
     ("x_epochs", 0.001, 1), ("x_steps", 0, 0)],
)  # fmt: skip
def test_each_unit_becomes_steps(key, value, steps):
    assert schedule.in_steps({key: value, "y": 1}, ("x",), CLOCK, "c") == {"x_steps": steps, "y": 1}


def test_a_name_that_is_not_there_stays_away():
    assert schedule.in_steps({"y": 1}, ("x",), CLOCK, "c") == {"y": 1}


@pytest.mark.parametrize(
    ("section", "said"),
    [({"x_steps": 1, "x_epochs": 1}, "x_steps and x_epochs"),
     ({"x_steps": -1}, "expected an integer from 0"),
     ({"x_epochs": "2"}, "expected a number"), ({"x_epochs": float("inf")}, "expected a number")],
)  # fmt: skip
def test_wrong_durations_are_errors(section, said):
    with pytest.raises(ConfigError, match=said):
        schedule.in_steps(section, ("x",), CLOCK, "config")


def test_percent_of_an_unknown_total_is_an_error():
    with pytest.raises(ConfigError, match="needs another unit"):
        schedule.in_steps({"x_percent": 1}, ("x",), CLOCK._replace(total_steps=0), "config")


def test_due_steps():
    assert [s for s in range(1, 11) if schedule.itstime(s, 4, 10)] == [4, 8, 10]
    assert [s for s in range(1, 11) if schedule.itstime(s, 0, 10)] == [10]
