"""A long video needs less than 600 MB, the network included, however long it is."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests import clips, program

MOST = 600e6
CHILD = """
import pathlib, sys
from segjax.commands import cli
try:
    cli.program()
except SystemExit as end:
    code = end.code
status = pathlib.Path("/proc/self/status").read_text()  # ru_maxrss is also the parent's
print("peak", int(status.partition("VmHWM:")[2].split()[0]) << 10, "exit", code or 0)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("trained") / "run"
    code, text = program.run("--config=configs/quickstart.py:debug", f"--workdir={path}")
    assert code == 0, text
    return path


@pytest.mark.slow
def test_300_frames_need_less_than_600_megabytes(tmp_path, trained):
    base = np.random.default_rng(0).integers(0, 255, (480, 854, 3), np.uint8)
    clips.write(
        tmp_path / "a.mp4", [np.roll(base, 3 * number, axis=1) for number in range(300)],
        codec="libx264", pixels="yuv420p", options={"preset": "ultrafast"},
    )  # fmt: skip
    command = [
        sys.executable, "-c", CHILD, "--mode=predict", f"--workdir={trained}",
        f"--input={tmp_path}/a.mp4", f"--output={tmp_path}/out", "--smooth=5",
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=pathlib.Path(program.ROOT),
        env=None, timeout=550,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    peak = int(words[words.index("peak") + 1])
    print(f"{peak / 1e6:.0f} MB")
    assert words[-1] == "0" and peak < MOST
    assert len(list((tmp_path / "out/a_label").iterdir())) == 300
    assert len(clips.times(tmp_path / "out/a_overlay.mp4")) == 300
