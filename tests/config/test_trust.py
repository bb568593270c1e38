"""A run's folder is data: what it names is looked up in segjax, unless its user trusts it."""

import sys

import pytest

from segjax.config import load, lookup, trust
from segjax.errors import ConfigError
from segjax.runs import run, workdir

EVIL = ("ctypes._aix:Popen", "os.path:join", "runs.x.evil:run", "subprocess.x:y", "a.b", ".:x")
PLACES = (
    "model.type", "model.encoder.type", "task.type", "task.losses[0].type", "normalize.type",
    "augment[0].type", "optimizer.type", "optimizer.schedule.type", "input.source.type",
    "evals.val.type",
)  # fmt: skip


def planted(config, place, value):
    """Return a config with a value at a place, whose sections are made if they are not there."""
    head, _, key = place.rpartition(".")
    section = config
    for name in head.split("."):
        name, _, index = name.partition("[")
        section = section.setdefault(name, {})
        section = section[int(index[:-1])] if index else section
    section[key] = value
    return config


@pytest.mark.parametrize("place", PLACES)
def test_code_from_outside_is_refused_wherever_a_type_stands(tmp_path, tiny_config, place):
    """Nothing is imported, whether the run is opened or its config is trained again."""
    trust.check(tiny_config(), where="x")
    for evil in EVIL:
        workdir.record(tmp_path, planted(tiny_config(), place, evil), {})
        before = set(sys.modules)
        for read in (
            lambda: run.read_config(tmp_path),
            lambda: run.open_run(tmp_path),
            lambda: run.list_runs(tmp_path),
            lambda: load.load(str(tmp_path / "config.json")),
        ):
            with pytest.raises(ConfigError, match=r"would run code that is not of segjax.*--trust"):
                read()
        assert set(sys.modules) == before
    assert load.load(str(tmp_path / "config.json"), trust_code=True)


@pytest.mark.parametrize("type_", ["ctypes._aix:Popen", "json.decoder:JSONDecoder", "jax.nn:relu",
                                   "antigravity.x:y", "numpy.linalg:norm"])  # fmt: skip
def test_what_a_config_file_names_is_of_the_project(type_):
    """A config file is a program, and still a slip in it reaches no installed package."""
    before = set(sys.modules)
    with pytest.raises(ConfigError, match=r"is not of this project|no module"):
        lookup.resolve("losses", type_, where="config.task.losses[0]")
    assert set(sys.modules) == before


def test_only_classes_and_functions_of_the_module_itself(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    code = "from subprocess import Popen, run\ndef own(x): pass\nvalue = Popen\nclass Own: pass\n"
    (tmp_path / "mine" / "parts.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("own", "Own"):
        assert lookup.resolve("losses", f"mine.parts:{name}", where="x").__module__ == "mine.parts"
    for name in ("Popen", "run", "value", "__builtins__", "__doc__"):
        with pytest.raises(ConfigError, match="has no"):
            lookup.resolve("losses", f"mine.parts:{name}", where="x")
