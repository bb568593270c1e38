"""The rule: a run's folder in any state ends each mode well, or in one line with exit code 2."""

import contextlib
import io
import json
import os
import pathlib
import shutil
import time

import numpy as np
import pytest
from PIL import Image

import segjax
from segjax.commands import cli
from segjax.runs import checkpoint, workdir
from tests import program


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from configs import quickstart

    config = quickstart.get_config("debug")
    config.mesh.data = 8
    return segjax.train(config, tmp_path_factory.mktemp("runs") / "run").path


def edited(change):
    """Return what changes a run's config in place."""

    def ruin(path):
        config = json.loads((path / "config.json").read_text())
        change(config)
        (path / "config.json").write_text(json.dumps(config))

    return ruin


def replaced(name, by):
    """Return what puts something of another kind in the place of a file or folder."""

    def ruin(path):
        place = path / name
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        if by == "a folder":
            place.mkdir()
        elif by == "a file":
            place.write_text("x")
        elif by == "a dangling link":
            place.symlink_to("/nonexistent/x")

    return ruin


def step(name, kind):
    """Return what adds something to the checkpoints."""

    def ruin(path):
        place = path / "checkpoints" / name
        if kind == "a copy":
            shutil.copytree(path / "checkpoints" / "2", place)
        else:
            replaced(f"checkpoints/{name}", kind)(path)

    return ruin


def fewer(config):
    resolved = config["resolved"]
    resolved["class_names"], resolved["palette"] = ["a", "b"], [[0, 0, 0], [1, 1, 1]]


KINDS = ("a file", "a folder", "a dangling link")
GONE = {f"checkpoints: {by}": replaced("checkpoints", by) for by in ("gone", *KINDS)}
REFUSED = {
    **{f"config {by}": replaced("config.json", by) for by in KINDS},
    "another model": edited(lambda c: c["model"].update(widths=[4, 8])),
    "fewer classes": edited(fewer),
    "other channels": edited(lambda c: c["resolved"].update(channels=4)),
    "no resolved": edited(lambda c: c.pop("resolved")),
    **GONE,
}
"""What no mode can do anything with, and training does not go on from."""
STEPS = {
    **{f"a step that is {by}": step("7", by) for by in KINDS},
    **{f"step {name}": step(name, "a folder") for name in ("\u00b2", "\u0663", "-1", "9")},
    "step 999": step("999", "a copy"),
    "step 007": step("007", "a copy"),
}
FILES = {
    f"{name}: {by}": replaced(name, by)
    for name in ("metrics.jsonl", "log.txt", "run.json", "eval", "figures", "tensorboard", ".lock")
    for by in KINDS
}


def call(*arguments):
    """Return a command's exit code and what it wrote to standard error."""
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = cli.main(["run.py", *map(str, arguments)])
    return code, said.getvalue()


def modes(path: pathlib.Path, output: pathlib.Path) -> dict[str, tuple]:
    image, workdir = output / "image.png", f"--workdir={path}"
    output.mkdir()
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(image)
    return {
        "eval": ("--mode=eval", workdir),
        "predict": ("--mode=predict", workdir, f"--input={image}", f"--output={output}/o"),
        "export": ("--mode=export", workdir, "--publisher=segjax", f"--output={output}/x"),
        "train": ("--config=configs/quickstart.py:debug", "--config.mesh.data=8", workdir),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", [*REFUSED, *STEPS, *FILES])
def test_every_mode_ends_well_or_in_one_line(run, tmp_path, name):
    path = tmp_path / "run"
    commands = modes(path, tmp_path / "out")
    if name in FILES:  # of which training writes all, evaluation two, and prediction reads one
        read = {"run.json": "predict", "eval": "eval", "figures": "eval"}.get(name.split(":")[0])
        commands = {mode: commands[mode] for mode in filter(None, (read, "train"))}
    for mode, command in commands.items():
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(run, path)
        {**REFUSED, **STEPS, **FILES}[name](path)
        before = snapshot(path)
        code, said = call(*command)
        assert code in (0, 2), (mode, said)
        assert "Traceback" not in said
        if name in REFUSED or (name == "step 999" and mode == "train"):
            assert code == 2, mode
        if code == 2:
            errors = [line for line in said.splitlines() if line.startswith("error: ")]
            assert len(errors) == 1 and said.endswith(f"{errors[0]}\n"), (mode, said)
        if mode != "train" and name in REFUSED:
            assert snapshot(path) == before, mode
        steps = {p.name for p in (path / "checkpoints").glob("[0-9]*")}
        assert name in GONE or steps >= {"1", "2"}, mode


def snapshot(path):
    """Return every file with its content; of links where they lead to."""
    return {
        file: os.readlink(file) if file.is_symlink() else file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_symlink() or file.is_file()
    }


@pytest.mark.slow
def test_what_a_run_had_learned_is_never_forgotten_without_a_word(run, tmp_path):
    """Its log stays where its checkpoints are gone, and its config where another cannot go on."""
    path = tmp_path / "run"
    shutil.copytree(run, path)
    train = modes(path, tmp_path / "out")["train"]
    code, said = call(*train, "--config.model.widths=(4,8)", "--allow_config_change")
    assert code == 2 and "is not of this config" in said
    assert (path / "config.json").read_text() == (run / "config.json").read_text()
    assert not list(path.glob("checkpoints/*.damaged*"))
    shutil.rmtree(path / "checkpoints")
    assert (path / checkpoint.NEWEST).read_text() == "2\n"
    code, said = call(*train)
    assert code == 2 and "checkpoint 2 of this run was saved" in said
    assert (path / "metrics.jsonl").read_text() == (run / "metrics.jsonl").read_text()


@pytest.mark.slow
def test_classes_that_changed_since_the_training_are_noticed(run, tmp_path):
    """Reordered, renamed, more or fewer: their numbers would mean other things."""
    path = tmp_path / "run"
    shutil.copytree(run, path)
    names = segjax.open_run(run).config["resolved"]["class_names"]
    for found, said in (
        (names[::-1], "in another order"),
        ([*names[:-1], "new"], "it has wire, it lacks new"),
    ):
        edited(lambda c, found=found: c["resolved"].update(class_names=found))(path)
        code, text = call("--mode=eval", f"--workdir={path}")
        assert code == 2 and said in text, text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lost", "code"), [("renamed", 2), ("deleted", 2), ("checkpoints deleted", 0)]
)
def test_folders_that_vanish_while_a_run_trains(tmp_path, lost, code):
    """Without its folder it ends in a line; without its checkpoints it saves anew and goes on.

    (One that was on its way when its folder vanished is an error of saving, which is a line too.)
    """
    path = tmp_path / "run"
    process = program.start(
        "--config=configs/quickstart.py:debug", f"--workdir={path}", "--config.total_steps=120",
        "--config.checkpoint.save_percent=50", "--config.evals.val.every_percent=100",
        "--config.log_steps=5",
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not workdir.steps_in(path / "checkpoints") and time.monotonic() < deadline:
        time.sleep(0.02)
    if lost == "renamed":
        path.rename(tmp_path / "moved")
    else:
        gone = path if lost == "deleted" else path / "checkpoints"
        while gone.exists():  # a save may be on its way there
            shutil.rmtree(gone, ignore_errors=True)
            if lost != "deleted":
                break
    out, said = process.communicate(timeout=240)
    assert process.returncode == code, out + said
    assert "Traceback" not in said
    if code:
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and said.endswith(f"{errors[0]}\n"), said
    else:
        assert (path / "checkpoints" / "120").exists()
