import os
import pathlib
import subprocess
import sys

import pytest

from segjax.errors import UserError
from segjax.runtime import xla
from tests import program


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


def test_memory_is_kept_where_the_cpu_computes(monkeypatch):
    kept = []
    monkeypatch.setattr(xla.quirks, "keep_memory", lambda: kept.append(True))
    monkeypatch.setattr(xla, "self_check", lambda: None)
    xla.prepare()
    assert kept == [True]
    monkeypatch.setattr(xla, "cpu_computes", lambda: False)
    xla.prepare()
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


def test_a_flag_that_would_end_the_process_is_named(tmp_path, monkeypatch):
    """XLA aborts, without an exception; what passed is not tried again."""
    monkeypatch.setenv("SEGJAX_CACHE", str(tmp_path))
    monkeypatch.setenv("XLA_FLAGS", f"--xla_nope=3 {xla.FUSION_FLAG}=")
    with pytest.raises(UserError, match="Unknown flag in XLA_FLAGS: --xla_nope=3. Mend XLA_FLAGS"):
        xla.check_flags()
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("XLA_FLAGS", f"--xla_cpu_enable_fast_math=false {xla.FUSION_FLAG}=")
    xla.check_flags()
    monkeypatch.setattr(xla.subprocess, "run", None)
    xla.check_flags()
    monkeypatch.setenv("XLA_FLAGS", f"{xla.FUSION_FLAG}=")
    xla.check_flags()  # ours alone is known


@pytest.mark.parametrize(
    "error",
    [RuntimeError("Unable to\n initialize backend 'x'."), ValueError("a"), AssertionError()],
)
def test_what_keeps_jax_from_starting_is_one_line(error, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "x")
    with pytest.raises(UserError, match="^JAX does not start with JAX_PLATFORMS='x': .*[.] Set"):
        with xla.starting():
            raise error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("JAX_PLATFORMS", "nope", "Unable to initialize backend 'nope'"),
        ("JAX_ENABLE_X64", "maybe", "invalid truth value 'maybe'"),
        ("JAX_NUM_CPU_DEVICES", "x", 'Invalid value "x"'),
        ("XLA_FLAGS", "nonsense", "Could not open file"),
        ("SLURM_STEP_NUM_TASKS", "x", "SLURM_STEP_NUM_TASKS='x'"),
        ("SEGJAX_STALL_SECONDS", "soon", "SEGJAX_STALL_SECONDS='soon'"),
        ("SEGJAX_CACHE", "~nobody_at_all/x", "no such user's folder"),
    ],
)
def test_a_wrong_variable_is_one_line_and_exit_code_2(name, value, said, tmp_path):
    config, workdir = "--config=configs/quickstart.py:debug", tmp_path / "run"
    code, text = program.run(config, f"--workdir={workdir}", **{name: value})
    assert code == 2 and said in text and text.startswith("error: ") and text.count("\n") == 1
    assert not workdir.exists()
