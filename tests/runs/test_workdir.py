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


TRAINED = ("metrics.jsonl", "trial1/metrics.jsonl", "checkpoints/20/x", "trial0/checkpoints/3/x")


def train(folder, file="metrics.jsonl"):
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text("{}\n")


@pytest.mark.parametrize("file", TRAINED)
def test_another_config_is_refused_by_its_keys(tmp_path, file):
    """A folder is a run's once something was trained: it logged or saved, it or a trial of it."""
    workdir.record(tmp_path, {"a": 1, "b": {"c": 2.0, "d": 0}}, {})
    other = {"a": 1, "b": {"c": 3.0, "d": 0}, "e": 5}
    workdir.check(tmp_path, other, allow_change=False)  # a first try that failed on its data
    train(tmp_path, file)
    with pytest.raises(ConfigError, match=r"b.c: 2.0 there, 3.0 now; e: 'absent' there, 5 now"):
        workdir.check(tmp_path, other, allow_change=False)
    workdir.check(tmp_path, {"a": 9}, allow_change=True)


def test_configs_that_made_a_run_are_kept(tmp_path):
    for config in ({"a": 1}, {"a": 1, "seed": 0}, {"a": 2}, {"a": 3}):  # 0 is the seed's default
        workdir.record(tmp_path, config, {})
    names = ("config.1.json", "config.2.json", "config.json")
    assert [json.loads((tmp_path / n).read_text())["a"] for n in names] == [1, 2, 3]
    assert len(list(tmp_path.glob("config*"))) == 3


def test_a_run_from_before_a_key_existed_goes_on(tmp_path):
    config = {"seed": 0, "input": {"threads": 2, "prefetch": 4, "size": [32, 32]}}
    old = {"seed": 0, "input": {"threads": 2, "size": [32, 32]}}
    for first, second in ((old, config), (config, old)):
        workdir.record(tmp_path, first, {})
        workdir.check(tmp_path, second, allow_change=False)
    changed = {"seed": 0, "input": {"threads": 2, "prefetch": 8, "size": [32, 32]}}
    workdir.record(tmp_path, old, {})
    train(tmp_path)
    with pytest.raises(ConfigError, match="input.prefetch: 4 there, 8 now"):
        workdir.check(tmp_path, changed, allow_change=False)


def test_a_folder_without_a_run_is_said(tmp_path):
    with pytest.raises(UserError, match="no config.json there"):
        workdir.load_config(tmp_path)
