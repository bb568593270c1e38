"""Formats of annotations on the command line."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from segjax.commands import cli
from segjax.data import folder
from segjax.data.formats import kinds
from tests import program
from tests.data.formats import made


def run(*arguments):
    return cli.main(["run.py", "--mode=convert", *map(str, arguments)])


def flags(source, output, *, read="labelme", write="folder"):
    return [f"--from={read}", f"--to={write}", f"--input={source}", f"--output={output}"]


def test_it_says_what_it_found_dropped_lost_and_wrote(tmp_path, capsys):
    source = made.labelme(tmp_path / "in")
    found = run(*flags(source, tmp_path / "out"), "--class_map=cat=-,dog=pet", "--target=instances")
    lines = capsys.readouterr().out.splitlines()
    assert found == 0 and lines == [
        "labelme: 1 images, 5 objects of 2 of 3 classes, 1 void ones, 1 tags of images",
        "1 dropped: of class cat, as --class_map says",
        "folder cannot hold: 2 attributes of objects are left out: a map holds none",
        "folder cannot hold: 8 pixels are claimed by objects of several classes: the last has them",
        "folder cannot hold: 1 tags of images are left out",
        f"folder: 5 files written to {tmp_path / 'out'}",
    ]  # fmt: skip


def test_the_folder_is_what_training_reads(tmp_path):
    run(*flags(made.labelme(tmp_path / "in"), tmp_path / "out"), "--background=ground")
    source = folder.Source(split="train", root=str(tmp_path / "out"))
    assert source.class_names == ("ground", "car", "cat", "dog") and len(source) == 1
    assert source.check() == {(40, 50)}
    label = source[0]["label"]
    assert sorted(np.unique(label).tolist()) == [0, 1, 2, 3, 255]
    assert (label == np.asarray(Image.open(tmp_path / "out/train/labels/x/a.png"))).all()


@pytest.mark.parametrize(("arguments", "match"), [
    (["--from=labelme"], "needs --to"), (["--from=x", "--to=folder"], "'x'"),
    (["--from=labelme", "--to=y"], "'y'"), (["--split=a/b"], "--split=a/b"),
    (["--crowd=all"], "--crowd"), (["--divisor=-1"], "divisor"), (["--workdir=x"], "of --mode="),
    (["--class_map=nope=x"], "no class 'nope'"), (["--class_names=car"], "not among"),
    (["--input=/nowhere"], "no such folder"), (["--split=train=0.5,val=0"], "shares above 0"),
    (["--class_map=*=-"], "no object is left; dropped"), (["--class_names=/no.txt"], "no such"),
    (["--images=/nowhere", "--from=folder"], "--images means nothing"),
], ids=str)  # fmt: skip
def test_wrong_input_is_one_line_and_nothing_is_written(arguments, match, tmp_path, capsys):
    source = made.labelme(tmp_path / "in")
    given = {one.partition("=")[0] for one in arguments}
    usual = [one for one in flags(source, tmp_path / "out") if one.partition("=")[0] not in given]
    usual = [one for one in usual if not (match == "needs --to" and one.startswith("--to"))]
    assert run(*usual, *arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ") and match in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_nothing_that_is_there_is_overwritten(tmp_path, capsys):
    source = made.labelme(tmp_path / "in")
    out = tmp_path / "out"
    out.mkdir()
    assert run(*flags(source, out)) == 0  # an empty folder is as good as none
    before = sorted(path.stat().st_mtime_ns for path in out.rglob("*"))
    assert run(*flags(source, out)) == 2
    assert "is not empty, and nothing in it is overwritten" in capsys.readouterr().err
    assert sorted(path.stat().st_mtime_ns for path in out.rglob("*")) == before
    (tmp_path / "file").write_text("mine")
    assert run(*flags(source, tmp_path / "file")) == 2
    assert (tmp_path / "file").read_text() == "mine"
    capsys.readouterr()
    assert run(*flags(source, source / "x/deeper")) == 2
    assert "lies in --input" in capsys.readouterr().err


def test_help_names_every_format(capsys):
    assert run("--help") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in kinds.FORMATS)


def test_it_runs_without_jax(tmp_path):
    """As every mode that computes nothing: it starts at once, and on machines without it."""
    source = made.labelme(tmp_path / "in")
    text = (
        "import sys; from segjax.commands import cli; from segjax.data.formats import kinds; "
        "code = cli.main(['run.py', '--mode=convert', *sys.argv[1:]]); "
        "all(kinds.load(name) for name in kinds.FORMATS); "
        "sys.exit(code or 9 * ('jax' in sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", text, *flags(source, tmp_path / "out")], cwd=program.ROOT
    )
    assert found.returncode == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_kill_leaves_no_output_and_the_next_run_cleans_up(how, tmp_path):
    """The folder is whole or not there; what a killed process was writing goes with the next."""
    source = made.labelme(tmp_path / "in")
    content = json.loads((source / "x/a.json").read_text())
    for k in range(400):
        made.dump(source / f"x/{k}.json", {**content, "imagePath": f"{k}.png"})
        (source / f"x/{k}.png").symlink_to(source / "x/a.png")
    process = program.start("--mode=convert", *flags(source, tmp_path / "out"))
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".out.*.tmp/*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(how)
    process.communicate(timeout=60)
    assert not (tmp_path / "out").exists()
    assert bool(list(tmp_path.glob(".out.*"))) == (how == signal.SIGKILL)
    assert run(*flags(source, tmp_path / "out")) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    assert len(list((tmp_path / "out").rglob("labels/**/*.png"))) == 401
