"""The command line: what a user types wrong, and what comes back."""

import json
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from segjax.commands import cli
from tests import program

DEBUG = "--config=configs/quickstart.py:debug"


def test_help_answers_without_jax():
    start = time.monotonic()
    code, text = program.run("--help")
    assert "--workdir" in text and "--mode" in text
    assert time.monotonic() - start < 2
    assert code in (0, 1)  # absl leaves with 1 after --help


def folder(root, *, size=(40, 48), label=1):
    """Write a two-class folder data set of four images."""
    for split in ("train", "val"):
        for part in ("images", "labels"):
            (root / split / part).mkdir(parents=True)
        for i in range(4):
            image = np.random.default_rng(i).integers(0, 255, (*size, 3), np.uint8)
            Image.fromarray(image).save(root / split / "images" / f"{i}.jpg")
            mask = np.full(size, label, np.uint8)
            mask[:20] = 0
            Image.fromarray(mask).save(root / split / "labels" / f"{i}.png")
    meta = {"class_names": ["ground", "thing"], "ignore_index": 255}
    (root / "meta.json").write_text(json.dumps(meta))
    return root


def remove_mask(root):
    (root / "train" / "labels" / "2.png").unlink()


def resize_mask(root):
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(root / "train" / "labels" / "2.png")


def label_out_of_range(root):
    Image.fromarray(np.full((40, 48), 7, np.uint8)).save(root / "train" / "labels" / "2.png")


def truncate_jpeg(root):
    file = root / "train" / "images" / "2.jpg"
    file.write_bytes(file.read_bytes()[:600])


def empty_split(root):
    for part in ("images", "labels"):
        shutil.rmtree(root / "train" / part)
        (root / "train" / part).mkdir()


def remove_root(root):
    shutil.rmtree(root)


FOLDER = "--config=tests/folder_config.py"
EIGHT = "--config.mesh.data=-1"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (remove_root, "set"),
        (empty_split, "train"),
        (remove_mask, "2"),
        (resize_mask, "2.png"),
        (label_out_of_range, "value 7"),
        (truncate_jpeg, "2.jpg"),
    ],
)
def test_bad_data_is_one_line_and_code_2(tmp_path, damage, said):
    root = folder(tmp_path / "set")
    damage(root)
    code, text = program.run(
        FOLDER, f"--config.input.source.root={root}", f"--workdir={tmp_path / 'run'}"
    )
    assert code == 2, text
    error = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and said in error[0], text
    assert "Traceback" not in text
    assert not list((tmp_path / "run").glob("checkpoints/*"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([DEBUG, "--config.optimizer.lrate=1"], "lrate"),
        ([DEBUG, "--config.optimizer.lr=fast"], "fast"),
        ([DEBUG, "--config.nothing=1"], "nothing"),
        ([DEBUG, "--config.model.type=unett"], "Did you mean 'unet'"),
        ([DEBUG, "--config.input.size=(16,16)"], "at least 32"),
        ([DEBUG, "--config.total_steps=-1"], "total_steps"),
        ([DEBUG, "--config.checkpoint.keep_best=val/moiu"], "Did you mean 'val/miou'"),
        ([DEBUG, "--config.mesh.data=3"], "does not make 8 devices"),
        (["--config=configs/quickstart.py:debgu"], "debgu"),
        (["--config=configs/no_such_file.py"], "no_such_file"),
        (["--config=configs/camvid.py:model=unett"], "model='unett' is none of unet"),
        (["--config=configs/unett_camvid.py:cpu"], "model='unett' is none of unet"),
        ([DEBUG, "--config.input.batch_size=0"], "batch_size=0: expected an integer from 1"),
        ([DEBUG, "--config.input={'threds': 2}"], "Did you mean 'threads'"),
        (["--mode=fly"], "fly"),
        ([], "--config"),
        (["--mode=eval"], "config.json"),
        (["--mode=predict"], "--input"),
        ([DEBUG, "--flag_that_is_not"], "flag_that_is_not"),
        ([DEBUG, "--profile_steps=9:3"], "1 <= first <= last <= 2"),
    ],
)
def test_wrong_flags_and_keys_are_code_2(tmp_path, arguments, said, capsys):
    """In this process, which has eight devices; from a shell it is no different, see below."""
    given = [EIGHT, *arguments] if DEBUG in arguments else arguments
    assert cli.main(["run.py", *given, f"--workdir={tmp_path / 'run'}"]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([DEBUG, "--config.optimizer.lrate=1"], "lrate"), (["--mode=predict"], "--input")],
)
def test_a_wrong_command_ends_with_code_2(tmp_path, arguments, said):
    code, text = program.run(*arguments, f"--workdir={tmp_path / 'run'}")
    assert code == 2, text
    assert said in text and "Traceback" not in text
    assert not (tmp_path / "run").exists()


def test_train_eval_predict_through_the_command_line(tmp_path):
    root, work = folder(tmp_path / "set"), tmp_path / "run"
    train = [FOLDER, f"--config.input.source.root={root}", f"--workdir={work}"]
    code, text = program.run(*train)
    assert code == 0, text
    for name in ("config.json", "run.json", "metrics.jsonl", "eval/val.json"):
        assert (work / name).exists(), name
    assert {p.name for p in (work / "figures").iterdir()} == {
        "learning_curves.png",
        "val_class_iou.png",
        "val_confusion_matrix.png",
        "val_examples.png",
    }
    run = json.loads((work / "run.json").read_text())
    assert run["fingerprint"] and run["packages"]["jax"] and run["mesh"]["data"] == 1
    assert run["device_step_flops"] > 1e6
    assert set(run["device_step_bytes"]) == {"state and batch", "results", "temporary"}
    assert "first step after" in text and "MB a device" in text
    names = {name for line in (work / "metrics.jsonl").open() for name in json.loads(line)}
    assert names >= {
        "step", "train/loss", "train/grad_norm", "train/lr", "val/miou", "val/loss",
        "time/step_ms", "time/data_wait_ms", "time/images_per_s", "time/mfu",
        "time/first_step_s", "memory/step_mb",
    }  # fmt: skip

    code, text = program.run(*train, "--config.seed=5")
    assert code == 2 and "config.seed" not in text and "seed: 0 there, 5 now" in text

    matrices = []
    for size in (1, 3, 8):
        override = f"--override=evals.val.batch_size={size}"
        code, text = program.run("--mode=eval", f"--workdir={work}", override)
        assert code == 0, text
        (written,) = (work / "eval").glob("val.??????.json")
        found = json.loads(written.read_text())
        assert found["overrides"] == [override.partition("=")[2]]
        matrices.append(found["confusion_matrix"])
        assert f"written to {written}" in text
        written.unlink()
    own = json.loads((work / "eval" / "val.json").read_text())
    assert matrices == [own["confusion_matrix"]] * 3
    assert own["overrides"] == [] and own["checkpoint"] == own["step"]
    assert own["canvas"] == {"size": [40, 48], "fit": "pad"}
    assert own["num_pixels"] == np.sum(own["confusion_matrix"]) == 4 * 40 * 48
    console = (work / "log.txt").read_text()
    assert "first step after" in console and "val: mIoU" in console and "--config" in console

    shutil.rmtree(root)  # prediction needs the run's folder only
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for name, size in (("small.png", (37, 50)), ("large.jpg", (150, 210))):
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(photos / name)
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    code, text = program.run(
        "--mode=predict", f"--workdir={work}", f"--input={photos}", f"--output={out}"
    )
    assert code == 2 and "broken.jpg" in text and "1 skipped" in text, text
    for name, size in (("small", (37, 50)), ("large", (150, 210))):
        label = Image.open(out / f"{name}_label.png")
        assert label.mode == "P" and label.size == size[::-1]
        assert set(np.unique(np.asarray(label))) <= {0, 1}
        assert Image.open(out / f"{name}_overlay.png").size == size[::-1]
        areas = json.loads((out / f"{name}.json").read_text())["classes"]
        assert sum(area["pixels"] for area in areas.values()) == size[0] * size[1]
