"""One file a mode, its own flags, and no others."""

import subprocess
import sys
import types

import pytest

from segjax.commands import cli
from segjax.runs import log
from segjax.runtime import distributed
from segjax.views import progress
from tests import program


def test_modes_are_the_files():
    assert set(cli.modes()) >= {"train", "eval", "predict", "export", "summary", "plan"}


@pytest.mark.parametrize("mode", cli.modes())
def test_help_shows_the_modes_own_flags(mode, capsys):
    assert cli.main(["run.py", f"--mode={mode}", "--help"]) == 0
    text = capsys.readouterr().out
    assert f"--mode={mode}" in text and "All modes:" in text
    assert ("--publisher" in text) == (mode == "export")
    assert ("--profile_steps" in text) == (mode == "train")
    for names in cli.load(mode).NEEDS:
        assert all(f"--{name}" in text for name in names.split(" or "))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mode=summary", "--output=x"], "--output is a flag of"),
        (["--mode=eval", "--config=configs/quickstart.py"], "--config is a flag of"),
        (["--publisher=segjax"], "--publisher is a flag of --mode=export, not of --mode=train"),
        (["--mode=predict", "--devices=3"], "--devices is a flag of --mode=plan"),
        (["--mode", "fly"], "--mode='fly' is none of"),
        (["--mode=eval", "--workdri=x"], "Did you mean"),
        (["--mode=eval"], "--mode=eval needs --workdir or --model, e.g. --workdir=runs/quickstart"),
        (["--mode=eval", "workdir=x"], "unexpected argument 'workdir=x'"),
    ],
)
def test_a_wrong_flag_is_one_line_and_code_2(arguments, said, capsys):
    assert cli.main(["run.py", *arguments]) == 2
    text = capsys.readouterr().err
    assert said in text and text.startswith("error: ") and text.count("\n") == 1, text


def test_no_mode_imports_jax_to_show_its_flags():
    code = (
        "import sys; from segjax.commands import cli; [cli.flags_of(mode) for mode in cli.modes()];"
        "print('jax' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=program.ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False"]


@pytest.mark.parametrize(
    "error",
    [PermissionError(13, "Permission denied", "x/y"), IsADirectoryError(21, "A folder", "x/y")],
)
def test_an_error_of_a_file_is_one_line_wherever_it_comes_from(error, monkeypatch, capsys):
    def run(values):
        raise error

    monkeypatch.setattr(cli.load("eval"), "run", run)
    assert cli.main(["run.py", "--mode=eval", "--workdir=x"]) == 2
    assert capsys.readouterr().err == (
        f"error: x/y: {error.strerror}. Check that it is there and may be read and written, or "
        "name another one.\n"
    )


def test_config_keys_are_assignments():
    words = ["run.py", "--config=x", "--config.a.b=1", "-config.c", "x y", "--noconfig.d", "--e=1"]
    assert cli.assignments(words) == [
        "run.py", "--config=x", "--override=a.b=1", "--override=c=x y", "--override=d=False",
        "--e=1",
    ]  # fmt: skip
    assert cli.assignments(["--config.a", "--workdir=x"]) == ["--override=a=True", "--workdir=x"]


EVIL = "a\n\x1b[31merror: \u202e\udcff"


def test_names_cannot_forge_a_line(tmp_path, monkeypatch, capsys):
    """The rule, where all that is said leaves: errors, progress, words of a process, log.txt."""
    assert cli.main(["run.py", "--mode=summary", f"--config={tmp_path / EVIL}.py"]) == 2
    with progress.Progress(2, unit="images", title=EVIL) as bar:
        bar.message(EVIL)
        bar.update(2)
    distributed.say(EVIL)
    run = types.SimpleNamespace(path=tmp_path / "run")
    monkeypatch.setattr(sys, "argv", ["run.py", EVIL])
    with log.open_text([run]):
        pass
    said = capsys.readouterr().err
    kept = (tmp_path / "run/log.txt").read_text()
    assert said.count("\n") == 4 and kept.count("\n") == 1
    for line in (said + kept).splitlines():
        assert r"a\n\x1b[31merror: \u202e\udcff" in line and line.isprintable()
