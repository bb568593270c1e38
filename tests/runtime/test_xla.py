import os
import pathlib
import subprocess
import sys

import pytest

from segjax.errors import UserError
from segjax.runtime import xla


def test_the_users_own_flags_stay(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/nowhere")
    xla.set_xla_flags()
    xla.set_xla_flags()
    assert os.environ["XLA_FLAGS"] == f"--xla_dump_to=/nowhere {xla.FUSION_FLAG}="
    monkeypatch.setenv("XLA_FLAGS", f"{xla.FUSION_FLAG}=reduce")
    xla.set_xla_flags()
    assert os.environ["XLA_FLAGS"] == f"{xla.FUSION_FLAG}=reduce"


def test_this_environment_computes_right_and_remembers_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGJAX_CACHE", str(tmp_path))
    xla.self_check()
    assert len(list(tmp_path.glob("numerics-*.json"))) == 1
    monkeypatch.setattr(xla, "gradient_errors", lambda: {"anything": 1.0})
    xla.self_check()  # not computed again: that would fail


def test_wrong_numbers_stop_the_run(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGJAX_CACHE", str(tmp_path))
    for error in (0.5, float("nan")):
        monkeypatch.setattr(xla, "gradient_errors", lambda e=error: {"a LayerNorm gradient": e})
        with pytest.raises(UserError, match="a LayerNorm gradient is off by"):
            xla.self_check()
    assert not list(tmp_path.iterdir())


def test_the_check_catches_the_faulty_fusions(tmp_path):
    """With XLA's default fusions, the pinned jaxlibs are wrong: the check must see it."""
    code = "from segjax.runtime import xla; print(max(xla.gradient_errors().values()))"
    env = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert float(done.stdout) > xla.TOLERANCE, done.stderr


def plugins(*names):
    return lambda group: names if group == "jax_plugins" else ()


def test_memory_is_kept_by_training_on_a_cpu_alone(monkeypatch):
    kept = []
    monkeypatch.setattr(xla.quirks, "keep_memory", lambda: kept.append(True))
    monkeypatch.setattr(xla, "self_check", lambda: None)
    xla.prepare()
    assert not kept, "no other mode changes the process's memory"
    xla.prepare(keep_memory=True)
    assert kept == [True]
    monkeypatch.setattr(xla, "cpu_computes", lambda: False)
    xla.prepare(keep_memory=True)
    assert kept == [True]


def test_where_the_cpu_computes_is_known_before_jax_starts(monkeypatch):
    monkeypatch.setattr(xla.importlib.metadata, "entry_points", plugins())
    for platforms, expected in (("cpu", True), ("cpu,cuda", True), ("cuda,cpu", False), ("", True)):
        monkeypatch.setenv("JAX_PLATFORMS", platforms)
        assert xla.cpu_computes() == expected
    monkeypatch.setattr(xla.importlib.metadata, "entry_points", plugins("xla_cuda13"))
    assert not xla.cpu_computes()
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert xla.cpu_computes()


@pytest.mark.parametrize("place", ["/dev/null/x", "/proc/x", "file/x"])
def test_a_cache_that_cannot_be_written_stops_nothing(place, monkeypatch, tmp_path, capsys):
    """What is only remembered to be faster is done without where it cannot be written."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEGJAX_CACHE", str(tmp_path / place))
    monkeypatch.setattr(xla, "gradient_errors", lambda: {"a case": 0.0})
    xla.self_check()
    assert xla.writable_cache() is None
    said = capsys.readouterr().err
    assert said.startswith("no cache of compiled programs: ") and said.count("\n") == 1
    monkeypatch.setenv("SEGJAX_CACHE", str(tmp_path / "new"))
    assert xla.writable_cache() == str(tmp_path / "new" / "xla")


def test_an_empty_cache_variable_is_none(monkeypatch):
    """`SEGJAX_CACHE=` means the default, not the folder that the command was started in."""
    monkeypatch.setenv("SEGJAX_CACHE", "")
    assert xla.cache_dir() == pathlib.Path("~/.cache/segjax").expanduser()
