import json

import pytest

from segjax.config import schema
from segjax.errors import ConfigError, UserError
from segjax.runs import run, workdir


def test_the_record_is_complete_and_reads_back(tmp_path):
    config = {"seed": 0, "model": {}, "input": {"size": (4, 5)}}
    workdir.record(tmp_path / "run", config, {"devices": ["cpu"]})
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == {
        "seed": 0,
        "model": {},
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
    workdir.record(tmp_path, {"model": {}, "a": 1, "b": {"c": 2.0, "d": 0}}, {})
    other = {"model": {}, "a": 1, "b": {"c": 3.0, "d": 0}, "e": 5}
    workdir.check(tmp_path, other, allow_change=False)  # a first try that failed on its data
    train(tmp_path, file)
    with pytest.raises(ConfigError, match=r"b.c: 2.0 there, 3.0 now; e: 'absent' there, 5 now"):
        workdir.check(tmp_path, other, allow_change=False)
    workdir.check(tmp_path, {"a": 9}, allow_change=True)


def test_configs_that_made_a_run_are_kept(tmp_path):
    for config in ({"a": 1}, {"a": 1, "seed": 0}, {"a": 2}, {"a": 3}):  # 0 is the seed's default
        workdir.record(tmp_path, {"model": {}, **config}, {})
    names = ("config.1.json", "config.2.json", "config.json")
    assert [json.loads((tmp_path / n).read_text())["a"] for n in names] == [1, 2, 3]
    assert len(list(tmp_path.glob("config*"))) == 3


def test_a_run_from_before_a_key_existed_goes_on(tmp_path):
    config = {"model": {}, "input": {"threads": 2, "prefetch": 4, "size": [32, 32]}}
    old = {"model": {}, "input": {"threads": 2, "size": [32, 32]}}
    for first, second in ((old, config), (config, old)):
        workdir.record(tmp_path, first, {})
        workdir.check(tmp_path, second, allow_change=False)
    changed = {"model": {}, "input": {"threads": 2, "prefetch": 8, "size": [32, 32]}}
    workdir.record(tmp_path, old, {})
    train(tmp_path)
    with pytest.raises(ConfigError, match="input.prefetch: 4 there, 8 now"):
        workdir.check(tmp_path, changed, allow_change=False)


def test_a_folder_without_a_run_is_said(tmp_path):
    with pytest.raises(UserError, match="no config.json there"):
        workdir.load_config(tmp_path)


def test_a_run_without_its_config_is_no_new_one(tmp_path):
    train(tmp_path, "checkpoints/20/x")
    with pytest.raises(ConfigError, match="no config.json that says of which config"):
        workdir.check(tmp_path, {"model": {}}, allow_change=False)
    workdir.check(tmp_path, {"model": {}}, allow_change=True)


def test_only_plain_numbers_are_steps(tmp_path):
    """What Python takes for digits beyond 0 to 9 names no checkpoint."""
    for name in ("\u00b2", "\u0663", "-3", "3.damaged", "3 ", ""):
        assert not workdir.is_step(name)
        (tmp_path / "checkpoints" / name).mkdir(parents=True, exist_ok=True)
    assert workdir.is_step("20") and not workdir.has_trained(tmp_path)


BROKEN = {
    "empty": "", "torn": '{"model": {"type": "un', "a list": "[1, 2]", "a number": "7",
    "no text": b"\xff\xfe\x00", "no model": "{}", "a model of another kind": '{"model": [1]}',
    "deep": "[" * 10**5, "deep sections": '{"model": {}, "a": ' + '{"a": ' * 900 + "1" + "}" * 901,
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_config_that_is_none_is_named_in_a_line(tmp_path, name):
    content = BROKEN[name]
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "config.json").write_bytes(content)
    for read in (workdir.load_config, run.read_config):
        with pytest.raises(ConfigError) as error:
            read(tmp_path)
        said = str(error.value)
        assert "\n" not in said and ("config.json" in said or "in each other" in said)


@pytest.fixture
def recorded(tmp_path, tiny_config):
    """Return a function that records a run's config with changes to its section `resolved`."""

    def record(**changes):
        resolved = {
            "class_names": ["a", "b"], "palette": [[0, 0, 0], [1, 2, 3]], "channels": 3,
            "batch_size": 8, "num_examples": 8, "total_steps": 2,
        }  # fmt: skip
        workdir.record(tmp_path, {**tiny_config(), "resolved": {**resolved, **changes}}, {})
        return tmp_path

    return record


@pytest.mark.parametrize(
    "changes",
    [
        {"class_names": "ab"}, {"class_names": ["a"]}, {"class_names": []}, {"class_names": [1, 2]},
        {"palette": [["a", 1, 2], [0, 0, 0]]}, {"palette": [[0, 0, 300], [0, 0, 0]]},
        {"palette": 3}, {"channels": 0}, {"channels": 1 << 40}, {"total_steps": "x"},
        {"batch_size": None}, {"num_examples": -1},
    ],
)  # fmt: skip
def test_what_the_data_had_added_is_checked(recorded, changes):
    assert run.read_config(recorded())["resolved"]["channels"] == 3
    with pytest.raises(ConfigError, match=r"config\.json: config\.resolved"):
        run.read_config(recorded(**changes))


@pytest.mark.parametrize("scales", ["abc", [1], [1, None], {"a": 1}, [float("nan"), 1], [-1, 2]])
def test_facts_of_another_kind_are_not_known(tmp_path, scales):
    (tmp_path / "run.json").write_text(json.dumps({"image_scales": scales}))
    assert workdir.image_scales(workdir.load_facts(tmp_path)) == []
    (tmp_path / "run.json").write_text(json.dumps({"image_scales": [0.5, 2]}))
    assert workdir.image_scales(workdir.load_facts(tmp_path)) == [0.5, 2]
