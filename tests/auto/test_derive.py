"""From a folder to a config: it is whole, it is the same again, it can be written and trained."""

import json

import numpy as np
import pytest
from PIL import Image

from configs import auto
from segjax.auto import derive
from segjax.config import as_file, load, schema, sections
from segjax.errors import ConfigError
from tests import benchmark_files, program

RANDOM = np.random.default_rng(0)


def raw_folder(root, count=12):
    """Write pictures and black-and-white masks of squares, without splits or a description."""
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for i in range(count):
        mask = np.zeros((40, 48), np.uint8)
        y, x = RANDOM.integers(2, 24, 2)
        mask[y : y + 12, x : x + 12] = 255
        image = (mask // 3 + RANDOM.integers(0, 60, mask.shape)).astype(np.uint8)
        Image.fromarray(image).save(root / f"images/{i}.png")
        Image.fromarray(mask).save(root / f"masks/{i}.png")
    return root


def plain(arg):
    return load.load(f"configs/auto.py:{arg}".rstrip(":"))


def test_a_raw_folder_becomes_a_whole_config(tmp_path):
    config = plain(f"root={raw_folder(tmp_path / 'raw')},classes=ground+square")
    schema.check(config)
    source = config["input"]["source"]
    assert (source["type"], source["source"]["type"]) == ("folds", "folder")
    assert source["source"]["class_names"] == ["ground", "square"]
    assert [*config["evals"]] == ["val"] and config["input"]["size"] == [40, 48]
    reasons = auto.get_reasons(f"root={tmp_path / 'raw'},classes=ground+square")
    known = sections.flatten(config)
    for key, why in reasons.items():
        assert why and any(each == key or each.startswith((f"{key}.", f"{key}[")) for each in known)


@pytest.mark.parametrize("make", ["msd", "isbi2012", "fluorescence"])
def test_volumes_stacks_and_objects_become_one_too(tmp_path, make):
    getattr(benchmark_files, f"make_{make}")(tmp_path)
    (root,) = tmp_path.iterdir()
    config = plain(f"root={root}")
    schema.check(config)
    assert len(config["input"]["size"]) == (3 if make == "msd" else 2)
    assert {"val", "test"} == {*config["evals"]}
    if make == "msd":
        assert config["input"]["intensity"] and config["normalize"]["mean"] == 0.5


def test_what_is_written_is_the_same_config(tmp_path):
    """As Python, with the reasons beside it; a file that is there stays."""
    name = f"configs/auto.py:root={raw_folder(tmp_path / 'raw')}"
    config, path = load.load(name), tmp_path / "own.py"
    reasons = as_file.reasons_of(name)
    path.write_text(as_file.write(config, reasons, title='A "title" of """ three'))
    assert load.load(str(path)) == config
    text = path.read_text()
    assert all(len(line) <= 100 for line in text.splitlines()[1:] if "root=" not in line)
    assert f"# {reasons['input.cache']}" in text
    with pytest.raises(ConfigError, match="is there already"):
        as_file.check_path(path)
    with pytest.raises(ConfigError, match="End its name with .py"):
        as_file.check_path(tmp_path / "own.json")
    assert as_file.reasons_of("configs/quickstart.py:debug") == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [({"0": 0, "*": 1}, '{"0": 0, "*": 1}'), ({"b": 1, "type": "x"}, 'dict(type="x", b=1)'),
     ({"from": "a'b"}, '{"from": "a\'b"}'), ([], "[]"), ({}, "dict()"), ('"', "'\"'")],
)  # fmt: skip
def test_plain_data_is_written_as_by_hand(value, text):
    assert as_file.literal(value) == [text]
    assert eval(text) == value
    (first, *rest), long = as_file.literal([value] * 40, before="x = "), {}
    exec("\n".join([first, *rest]), long)
    assert long["x"] == [value] * 40


def test_the_same_config_on_every_machine(monkeypatch):
    first = derive.derive(root="")
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert derive.derive(root="") == first


@pytest.mark.parametrize(
    ("arg", "said"),
    [
        ("size=huge", "size='huge' is none of cpu, gpu, debug"),
        ("size=cpu,gpu_gb=40", "gpu_gb=40 alone"),
        ("size=gpu", "gpu_gb=40 alone"),
        ("minutes=0", "minutes above 0"),
        ("minutes=nan", "minutes above 0"),
        ("minuts=3", "Did you mean 'minutes'"),
    ],
)
def test_arguments_that_cannot_be_are_said(arg, said):
    with pytest.raises(ConfigError, match=said):
        auto.get_config(arg)


@pytest.mark.slow
def test_one_command_from_a_raw_folder_to_scores(tmp_path):
    """And the written config trains as well, here for ten steps."""
    raw = raw_folder(tmp_path / "raw")
    name = f"--config=configs/auto.py:root={raw},steps=10"
    code, text = program.run("--mode=plan", name, f"--output={tmp_path / 'own.py'}")
    assert code == 0 and "input.size = [40, 48]\n    all images are 40x48" in text, text
    code, text = program.run(name, f"--workdir={tmp_path / 'run'}")
    assert code == 0, text
    result = json.loads((tmp_path / "run/eval/val.json").read_text())
    assert result["num_examples"] == 3 and 0 <= result["miou"] <= 1
    code, text = program.run(f"--config={tmp_path / 'own.py'}", f"--workdir={tmp_path / 'run'}")
    assert code == 0, text
    code, text = program.run("--mode=plan", name, f"--output={tmp_path / 'own.py'}")
    assert code == 2 and "is there already" in text
