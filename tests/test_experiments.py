"""What `python -m experiments.…` offers: each says what it takes before it does anything."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
COMMANDS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "experiments").rglob("*.py")
    if "__main__" in path.read_text()
)
COMPUTING = {"experiments.models.study", "experiments.speed.fixed_order"}
"""They compute in their own process, and import what they compute with."""


def test_the_commands_are_found():
    assert COMPUTING < set(COMMANDS) and "experiments.results" in COMMANDS and len(COMMANDS) >= 8


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in COMPUTING)) for n in COMMANDS]
)
def test_help_is_printed_and_is_all_that_happens(name):
    """`--help` prints how the command is used and ends with 0, with no jax where none computes.

    The rule for every file of experiments/ that can be run.
    """
    program = (
        "import runpy, sys\n"
        "sys.argv = ['study', '--help']\n"
        f"try: runpy.run_module({name!r}, run_name='__main__')\n"
        "except SystemExit as end: print('exit', end.code or 0, 'jax' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    *shown, last = done.stdout.splitlines()
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert shown[0].startswith("usage:") and len(shown) > 3
    assert last == f"exit 0 {name in COMPUTING}"


def test_a_folder_that_is_no_run_is_one_line():
    command = [sys.executable, "-m", "experiments.results", "experiments"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "experiments: no run.json there" in done.stderr
    assert "Traceback" not in done.stderr
