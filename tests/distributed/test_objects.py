"""Real processes share the examples of a split, and score it as one does, to the last bit."""

import json
import os
import socket
import subprocess
import sys

import pytest

from tests import program


def scores(path, count):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(program.ROOT)}
    command = [sys.executable, "-m", "tests.distributed.object_scores", str(path), address]
    started = [
        subprocess.Popen([*command, str(i), str(count)], cwd=program.ROOT, env=env)
        for i in range(count)
    ]
    assert [process.wait(300) for process in started] == [0] * count
    return json.loads(path.read_text())


@pytest.mark.slow
def test_the_scores_of_objects_are_those_of_one_process(tmp_path):
    *alone, lengths = scores(tmp_path / "1.json", 1)
    assert lengths == [1] and alone[0]["AP"] > 0 and alone[1]["PQ"] > 0
    for count in (2, 4):
        *together, lengths = scores(tmp_path / f"{count}.json", count)
        assert together == alone and lengths == [1, 4, 7, 10][:count]
