import json

import pytest

from segjax.config import schema
from segjax.errors import ConfigError, UserError
from segjax.runs import workdir


def test_the_record_is_complete_and_reads_back(tmp_path):
    config = {"seed": 0, "input": {"size": (4, 5)}}
    workdir.record(tmp_path / "run", config, {"devices": ["cpu"]})
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == {
        "seed": 0,
        "input": {"size": [4, 5]},
    }
    assert workdir.load_config(tmp_path / "run") == schema.fill(config)
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["devices"] == ["cpu"] and len(run["fingerprint"]) == 12 and run["command"]
    assert {"jax", "flax", "numpy"} <= set(run["packages"])
    workdir.check(tmp_path / "run", config, allow_change=False)


def test_another_config_is_refused_by_its_keys(tmp_path):
    workdir.record(tmp_path, {"a": 1, "b": {"c": 2.0, "d": 0}}, {})
    with pytest.raises(ConfigError, match=r"b.c: 2.0 there, 3.0 now; e: 'absent' there, 5 now"):
        workdir.check(tmp_path, {"a": 1, "b": {"c": 3.0, "d": 0}, "e": 5}, allow_change=False)
    workdir.check(tmp_path, {"a": 9}, allow_change=True)


def test_a_run_from_before_a_key_existed_goes_on(tmp_path):
    config = {"seed": 0, "input": {"threads": 2, "prefetch": 4, "size": [32, 32]}}
    old = {"seed": 0, "input": {"threads": 2, "size": [32, 32]}}
    for first, second in ((old, config), (config, old)):
        workdir.record(tmp_path, first, {})
        workdir.check(tmp_path, second, allow_change=False)
    changed = {"seed": 0, "input": {"threads": 2, "prefetch": 8, "size": [32, 32]}}
    workdir.record(tmp_path, old, {})
    with pytest.raises(ConfigError, match="input.prefetch: 4 there, 8 now"):
        workdir.check(tmp_path, changed, allow_change=False)


def test_a_folder_without_a_run_is_said(tmp_path):
    with pytest.raises(UserError, match="no config.json there"):
        workdir.load_config(tmp_path)
