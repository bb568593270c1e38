"""From files to a prepared data set, to a run that knows which data it is of."""

import json
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from segjax.commands import cli
from segjax.data import folder, hashes, prepared, synthetic
from segjax.runs import data_record
from tests import program

DEBUG = "--config=configs/quickstart.py:debug"


def test_every_split_is_written_once_and_said(tmp_path, capsys):
    arguments = ["run.py", "--mode=prepare", DEBUG, f"--output={tmp_path / 'out'}"]
    assert cli.run(arguments) == 0
    first = capsys.readouterr().out
    assert cli.run(arguments) == 0
    again = capsys.readouterr().out
    for split in ("train", "val"):
        found = prepared.Source(split=split, root=str(tmp_path / "out"))
        assert (
            f"{split}: {len(found)} examples found, 0 were written before, {len(found)} now"
            in first
        )
        assert (
            f"{split}: {len(found)} examples found, {len(found)} were written before, 0 now"
            in again
        )
        assert found.manifest_hash[:12] in first and found.manifest_hash[:12] in again
    assert f'{{"type": "prepared", "root": "{tmp_path / "out"}"}}' in first
    assert cli.run([*arguments, "--config.input.source.seed=3"]) == 2
    assert "holds a split of other data: made_from differ" in capsys.readouterr().err


def write(root, *, count=3):
    """Write a data set of 16-bit images."""
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / split / kind).mkdir(parents=True)
        for number in range(count):
            image = random.integers(0, 4096, (40, 48), np.uint16)
            tifffile.imwrite(root / split / f"images/{number}.tif", image)
            label = Image.fromarray((image > 2000).astype(np.uint8))
            label.save(root / split / f"labels/{number}.png")
    (root / "meta.json").write_text(json.dumps({"class_names": ["a", "b"]}))


def test_a_folder_is_known_by_its_files(tmp_path):
    """Names, sizes and times; an unchanged one, and one that was moved, are the same."""
    write(tmp_path / "a")

    def state(name="a"):
        return hashes.of_source(folder.Source(split="train", root=str(tmp_path / name)))

    first = state()
    assert state() == first and first["examples"] == 3 and first["hash"] and first["times"]
    shutil.copytree(tmp_path / "a", tmp_path / "b")  # with its times
    assert state("b") == first
    path = tmp_path / "a/train/labels/1.png"
    content = path.read_bytes()
    path.write_bytes(content)
    assert state() == first | {"times": state()["times"]} != first
    path.write_bytes(content + b"x")
    assert state()["hash"] != first["hash"]
    path.write_bytes(content)
    (tmp_path / "a/train/images/3.tif").write_bytes(
        (tmp_path / "a/train/images/2.tif").read_bytes()
    )
    shutil.copy(path, tmp_path / "a/train/labels/3.png")
    assert state()["examples"] == 4 and state()["hash"] != first["hash"]
    drawn = hashes.of_source(synthetic.Source(split="val", num_examples=5))
    assert drawn == {"examples": 5, "hash": "", "times": ""}


@pytest.mark.parametrize(
    "facts", [{}, {"data": 3}, {"data": {"train": 5}}, {"data": {"train": {}}}]
)
def test_a_run_that_recorded_no_data_is_compared_with_nothing(facts, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(facts))
    now = {"train": {"examples": 1, "hash": "x", "times": ""}}
    assert data_record.changes(tmp_path, now) == []
    assert data_record.reading_of_prepared(tmp_path, "train") == {}


def test_only_what_reads_files_is_taken_of_a_strangers_record(tmp_path):
    about = {"exif": 3, "dtype": "uint16", "label_suffix": ["x"], "root": "/", "type": "a.b:c"}
    record = {"data": {"train": {"reading": about}}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert data_record.reading_of_prepared(tmp_path, "train") == {"dtype": "uint16"}


@pytest.mark.slow
def test_a_run_on_prepared_data_knows_it_and_predicts_as_the_files_are(tmp_path):
    """The rule: the same scores as of the files; an edit is named when it goes on or is scored."""
    files, out, work = tmp_path / "files", tmp_path / "out", tmp_path / "run"
    write(files)
    source = {"type": "folder", "root": str(files), "dtype": "uint16"}
    usual = (
        DEBUG,
        "--config.input.size=[32,32]",
        "--config.input.fit=window",
        "--config.normalize={'type': 'normalize:per_image'}",
        "--config.augment=[]",
    )
    code, text = program.run("--mode=prepare", *usual, f"--config.input.source={source}",
                             f"--output={out}")  # fmt: skip
    assert code == 0 and "train: 3 examples found" in text, text
    scores = {}
    for name, given in (("run", {"type": "prepared", "root": str(out)}), ("plain", source)):
        code, text = program.run(*usual, f"--config.input.source={given}",
                                 f"--workdir={tmp_path / name}")  # fmt: skip
        assert code == 0, text
        scores[name] = json.loads((tmp_path / name / "eval/val.json").read_text())
    assert scores["run"] == scores["plain"]
    found = json.loads((work / "run.json").read_text())["data"]
    opened = prepared.Source(split="train", root=str(out))
    assert found["train"]["hash"] == opened.manifest_hash
    assert found["train"]["reading"] == {"dtype": "uint16"} and found["val"]["examples"] == 3

    code, text = program.run("--mode=predict", f"--workdir={work}", f"--output={tmp_path / 'p'}",
                             f"--input={files / 'val/images'}")  # fmt: skip
    assert code == 0, text
    assert "changed" not in program.run("--mode=eval", f"--workdir={work}")[1]
    (files / "val/labels/2.png").unlink()
    (files / "val/images/2.tif").unlink()
    code, text = program.run("--mode=eval", f"--workdir={tmp_path / 'plain'}")
    assert (
        code == 0 and "val: the data has changed since the run was made: 3 examples then, 2" in text
    )
    code, text = program.run(*usual, f"--config.input.source={source}",
                             f"--workdir={tmp_path / 'plain'}")  # fmt: skip
    assert code == 0 and "val: the data has changed since the run was made" in text, text
