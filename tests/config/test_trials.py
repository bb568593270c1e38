import pytest

from segjax.config import schema, trials
from segjax.errors import ConfigError


def test_each_trial_s_config_is_that_of_a_run_alone(tiny_config):
    config = tiny_config(trials__seed=[3, 4], trials__lr=[1, 0.5], mesh__data=2)
    assert trials.count(config) == 2
    first, second = trials.configs(config)
    assert (first["seed"], first["optimizer"]["lr"], first["mesh"]["data"]) == (3, 1.0, -1)
    assert (second["seed"], second["optimizer"]["lr"]) == (4, 0.5)
    for own in (first, second):
        schema.check(own)
        assert trials.count(own) == 0 and trials.configs(own) == [own]


def test_checkpoints_elsewhere_are_each_trial_s_own(tiny_config):
    config = tiny_config(trials__seed=[3, 4], checkpoint__root="gs://bucket/run/")
    roots = [own["checkpoint"]["root"] for own in trials.configs(config)]
    assert roots == ["gs://bucket/run/trial0", "gs://bucket/run/trial1"]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"seed": [1], "lr": []}, "at least two values"),
        ({"seed": [1, 2], "lr": [0.1, 0.2, 0.3]}, "as many of one as of the other"),
    ],
)
def test_what_makes_no_trials_is_refused(section, message):
    with pytest.raises(ConfigError, match=message):
        trials.count({"trials": section})


def test_an_unknown_key_is_refused(tiny_config):
    config = tiny_config() | {"trials": {"seed": [], "rate": [0.1, 0.2]}}
    with pytest.raises(ConfigError, match="config.trials.rate: no such key"):
        schema.check(config)
