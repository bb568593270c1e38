"""The front door: every command runs, every link resolves, every number comes from a file."""

import os
import re
import shlex

import numpy as np
import pytest
from PIL import Image

from experiments import results
from tests import camvid, program

README = (program.ROOT / "README.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", README, re.S)
    for line in block.splitlines()
    if line and not line.startswith("#")
]


def test_links_and_pictures_resolve():
    links = re.findall(r"\]\((?!https?://|#)([^)]+)\)", README)
    assert links
    for link in links:
        assert (program.ROOT / link).exists(), link


def test_the_results_table_is_drawn_from_the_records():
    records = results.load()
    assert records, "experiments/results.jsonl is empty"
    assert results.redraw(README, records) == README
    prose = re.sub(r"```.*?```", "", README, flags=re.S)
    for number in re.findall(r"\d+\.\d{3}", prose):
        assert any(f"{r['miou']:.3f}" == number or f"{r['pixel_accuracy']:.3f}" == number
                   for r in records), number  # fmt: skip


def test_ci_runs_the_readmes_commands():
    """What the other test cannot run inside itself: the install and the test command."""
    ci = (program.ROOT / ".ci" / "run").read_text()
    venv, tests = "python3 -m venv .venv", ".venv/bin/python -m pytest -n 2"
    assert sum(venv in line for line in COMMANDS) == 2 and venv in ci
    assert tests in COMMANDS and tests in ci
    assert ".venv/bin/pip install -q -r requirements.txt" in ci


@pytest.mark.slow
def test_every_run_py_command_runs(tmp_path):
    """In order, in short form: `:debug` configs, a folder of this test's own, made-up photos."""
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "photos" / "a.jpg")
    camvid.write(tmp_path)
    lines = [shlex.split(line) for line in COMMANDS if "run.py" in line]
    assert len(lines) >= 5
    for words in lines:
        arguments = words[words.index("run.py") + 1 :]
        for place in ("runs/", "photos/", "out"):
            arguments = [re.sub(rf"=(?={place})", f"={tmp_path}/", a) for a in arguments]
        arguments = [re.sub(r"(configs/quickstart\.py)", r"\1:debug", a) for a in arguments]
        arguments = [re.sub(r"(camvid\.py:model=\w+)\S*", r"\1,size=debug", a) for a in arguments]
        code, text = program.run(*arguments, SEGJAX_DATA=str(tmp_path))
        assert code == 0, (arguments, text)
    assert (tmp_path / "out" / "a_label.png").exists()
    record = results.record(tmp_path / "runs" / "quickstart")[0]
    assert record["split"] == "val" and 0 <= record["miou"] <= 1
    assert os.path.basename(record["command"].split()[1]) == "run.py"
