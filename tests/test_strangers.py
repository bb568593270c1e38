"""The rule: a stranger's run folder executes nothing and writes nowhere but where it is told to."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import segjax
from tests import program

HOOKED = """
import json, os, sys
seen = {"processes": [], "written": [], "imported": []}
FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
def hook(event, details):
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pty.spawn"):
        seen["processes"].append(f"{event} {details[0]}")
    elif event == "open" and isinstance(details[0], (str, bytes)) and isinstance(details[2], int):
        if details[2] & FLAGS:
            seen["written"].append(os.path.abspath(os.fsdecode(details[0])))
    elif event in ("os.rename", "os.remove", "os.mkdir", "os.symlink", "os.link", "os.truncate"):
        seen["written"] += [os.path.abspath(os.fsdecode(p)) for p in details[:2] if isinstance(p, (str, bytes))]
    elif event == "import":
        seen["imported"].append(details[0])
sys.addaudithook(hook)
report, *arguments = sys.argv[1:]
from segjax.commands import cli
code = cli.main(["run.py", *arguments])
with open(report, "w") as file:
    json.dump({**seen, "code": code}, file)
"""  # noqa: E501
FONTS = {"subprocess.Popen fc-list"}
"""What Matplotlib asks the system once, to remember it in its cache."""
CACHES = ("/dev/", "/proc/", "/tmp/.", "__pycache__")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from configs import quickstart

    return segjax.train(
        quickstart.get_config("debug"), tmp_path_factory.mktemp("trained") / "run"
    ).path


def watched(folder: pathlib.Path, *arguments) -> dict:
    """Return what a command did, as an audit hook saw it."""
    cache = folder / "cache"
    env = {
        **os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(program.ROOT),
        "SEGJAX_CACHE": str(cache), "MPLCONFIGDIR": str(cache), "TMPDIR": str(cache),
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    cache.mkdir(exist_ok=True)
    report = folder / "report.json"
    command = [sys.executable, "-c", HOOKED, str(report), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert report.exists(), done.stderr
    return {**json.loads(report.read_text()), "said": done.stderr, "cache": cache}


def commands(path, folder):
    image = folder / "image.png"
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(image)
    output, workdir = folder / "out", f"--workdir={path}"
    output.mkdir(exist_ok=True)
    return {
        "eval": ("--mode=eval", workdir),
        "predict": ("--mode=predict", workdir, f"--input={image}", f"--output={output}"),
        "tune": ("--mode=tune", workdir),
        "export": ("--mode=export", workdir, "--publisher=segjax", f"--output={output}/x"),
        "train": (f"--config={path}/config.json", f"--workdir={output}/again"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["eval", "predict", "export"])
def test_a_run_writes_where_it_is_told_to_and_starts_nothing(run, tmp_path, mode):
    path = tmp_path / "run"
    shutil.copytree(run, path)
    found = watched(tmp_path, *commands(path, tmp_path)[mode])
    assert found["code"] == 0, found["said"]
    assert not set(found["processes"]) - FONTS
    own = {"eval": path}.get(mode, tmp_path / "out")
    allowed = [str(own), str(found["cache"]), str(tmp_path / "report.json")]
    elsewhere = [
        file
        for file in found["written"]
        if not file.startswith(tuple(allowed)) and not any(part in file for part in CACHES)
    ]
    assert not elsewhere


@pytest.mark.slow
def test_planted_code_is_neither_imported_nor_run(run, tmp_path):
    """As an installed module, as one of Python's, and as a file beside the run, in every mode."""
    marker = tmp_path / "ran"
    path = tmp_path / "runs" / "x"
    shutil.copytree(run, path)
    (tmp_path / "runs" / "__init__.py").write_text("")
    evil = f"open({str(marker)!r}, 'w')\n"
    (path / "__init__.py").write_text(evil)
    (path / "evil.py").write_text(evil)
    config = json.loads((run / "config.json").read_text())
    plants = {"ctypes._aix:Popen": {"args": f"touch {marker}", "shell": True}, "runs.x.evil:f": {}}
    for type_, arguments in plants.items():
        planted = {**config, "normalize": {"type": type_, **arguments}}
        (path / "config.json").write_text(json.dumps(planted))
        for mode, command in commands(path, tmp_path).items():
            found = watched(tmp_path, *command)
            assert found["code"] == 2 and "--trust_code" in found["said"], (mode, found["said"])
            assert not set(found["processes"]) - FONTS and not marker.exists()
            assert not {type_.partition(":")[0], "runs"} & set(found["imported"])
    found = watched(tmp_path, *commands(path, tmp_path)["eval"], "--trust_code")
    assert found["code"] != 0 and marker.exists()  # the plant is one: trusted, it runs


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["/abs/path", "../../x", "..", "a/b", "", "x\ny", "\x1b[31m", "a" * 300]
)
def test_names_of_a_stranger_are_plain(run, tmp_path, name):
    """An evaluation gives its name to files."""
    path = tmp_path / "run"
    shutil.copytree(run, path)
    config = json.loads((run / "config.json").read_text())
    config["evals"] = {name: config["evals"]["val"]}
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(segjax.errors.UserError, match="config.json: config.evals"):
        segjax.open_run(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("input", "size"), [200_000, 200_000], r"take [\d.]+ GiB, expected at most"),
        (("evals", "val", "batch_size"), 10**7, r"take [\d.]+ GiB, expected at most"),
        (("resolved", "class_names"), ["x"] * 300, "a list of 1 to 255 names"),
        (("resolved", "channels"), 10**6, "an integer from 1 to 65536"),
        (("model", "widths"), [8] * 1000, "of 2 to 16 items"),
        (("input", "source", "num_examples"), 10**12, "an integer from 0 to 100000000"),
        (("augment",), [{"type": "geometry:flip"}] * 10**5, "items|a list|at most"),
        (("evals", "val", "split"), "../../x", "no such split"),
    ],
)
def test_sizes_and_lists_of_a_stranger_are_bounded(run, tmp_path, path, value, said):
    """What would take all memory or time is refused by what it says, before it is computed."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    config = json.loads((run / "config.json").read_text())
    section = config
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(segjax.errors.UserError, match=said):
        segjax.open_run(folder).evaluate()
