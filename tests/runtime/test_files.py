"""Files are whole or not there; a folder has one writer."""

import json
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from segjax.errors import UserError
from segjax.runtime import files
from tests import program

HOLD = """
import pathlib, sys, time
from segjax.runtime import files
with files.locked(pathlib.Path(sys.argv[1]), what="--workdir=x"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_writer_is_told_who_the_first_is(tmp_path):
    path = tmp_path / "run" / ".lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    first = subprocess.Popen(command, cwd=program.ROOT, stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"--workdir=x: process {first.pid} on .* is writing"):
        with files.locked(path, what="--workdir=x"):
            pytest.fail("two hold it")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    time.sleep(0.1)
    with files.locked(path, what="--workdir=x"):
        pass  # the kernel released it


def test_a_lock_is_released_and_taken_again(tmp_path):
    for _ in range(2):
        with files.locked(tmp_path / ".lock", what="x"):
            assert (tmp_path / ".lock").read_text().startswith("process ")


def test_the_folder_of_a_user_who_is_not_there():
    assert files.expanded("~") == pathlib.Path.home()
    with pytest.raises(UserError, match="^~nobody_at_all/x: no such user's folder"):
        files.expanded("~nobody_at_all/x")


def test_a_name_that_is_too_long_is_shortened():
    with pytest.raises(UserError, match="File name too long") as error, files.named_os_errors():
        pathlib.Path("x" * 5000).stat()
    assert len(str(error.value)) < 500


def test_lists_of_numbers_are_a_line_each_and_what_is_read_is_what_was_written(tmp_path):
    """Whatever strings hold: brackets, quotes, commas and line ends."""
    content = {
        "matrix": [[1, 2.5], [None, -3e-7]], "empty": [], "deep": [[[True]], {"a": [1, 2]}],
        "odd": ["[\n 1,\n 2\n]", '"[', "[", "1", "]"], "[\n": [0], "mixed": [1, "[", 2, {}],
    }  # fmt: skip
    files.write_json(tmp_path / "x.json", content)
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == content
    assert "  [1, 2.5],\n  [null, -3e-07]\n" in text and '"[\\n": [0]' in text
    files.write_json(tmp_path / "x.json", content, indent=None)
    assert (tmp_path / "x.json").read_text() == json.dumps(content) + "\n"
