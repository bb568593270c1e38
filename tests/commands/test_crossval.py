"""`--mode=crossval` as a user starts it: several at once, one of them killed, and what is left."""

import json
import os
import pathlib
import signal
import time

import numpy as np
import pytest
from PIL import Image

from experiments import results
from segjax.assemble import parts as parts_lib
from segjax.commands import cli
from segjax.data import core
from segjax.errors import UserError
from segjax.metrics import confusion
from segjax.runs import run as run_lib
from segjax.runs import workdir, writer
from segjax.studies import finished
from tests import program

CONFIG = """
from configs import quickstart


def get_config(arg=""):
    config = quickstart.get_config("debug")
    config.input.source.num_examples = 10
    config.evals.val.metrics = ["hd95"]
    config.evals.test = dict(type="semantic", split="test", batch_size=8)
    return config
"""


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--folds=1"], "flag --folds=1"),
        (["--kind=random"], "flag --kind=random: value should be one of <plain|consecutive|strat"),
        (["--folds_only=a"], "--folds_only=a: expected numbers of folds"),
        (["--folds_only=7"], "--folds_only=7: there are the folds 0 to 4"),
        (["--splits=tarin"], "split='tarin': synthetic has no such split"),
        (["--kind=grouped", "--groups=patient"], "groups='patient': finds nothing in 'synthetic/"),
        (["--folds=1000"], "1000 folds of 16 examples"),
        (["--input=x"], "--input is a flag of --mode="),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(tmp_path, flags, message, capsys):
    root = tmp_path / "root"
    config = "--config=configs/quickstart.py:debug"
    given = ["run.py", "--mode=crossval", config, f"--workdir={root}", *flags]
    assert cli.run(given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
    assert not root.exists()


def wait_for(path: pathlib.Path, process) -> None:
    end = time.monotonic() + 240
    while not path.exists():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.05)


@pytest.mark.slow
def test_two_workers_one_of_them_killed_make_what_one_makes(tmp_path, capsys):
    """The rules: every fold is a run by itself; folds are shared out; SIGKILL costs no result."""
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    (tmp_path / "config.py").write_text(CONFIG)
    given = ["--mode=crossval", f"--config={tmp_path / 'config.py'}", "--folds=3"]
    given.append("--keep_predictions")
    code, text = program.run(*given, f"--workdir={alone}")
    assert code == 0 and "folds: 3 found, 0 finished before, 3 done now" in text, text

    first = program.start(*given, f"--workdir={shared}")
    wait_for(shared / "fold0/metrics.jsonl", first)
    second = program.start(*given, f"--workdir={shared}")
    wait_for(shared / "fold1/metrics.jsonl", second)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    out, err = second.communicate(timeout=300)
    assert second.returncode == 0, out + err
    code, text = program.run(*given, f"--workdir={shared}")
    assert code == 0 and "3 finished before, 0 done now" in text, text

    one, other = (json.loads((root / "crossval.json").read_text()) for root in (alone, shared))
    assert one == other
    assert {path.name for path in (alone / "figures").iterdir()} >= {"val_examples.png"}

    source = parts_lib.make_source(workdir.load_config(alone / "fold0"), "val")
    assert isinstance(source, core.Subset)
    joined, total = source.source, 0
    for root in (alone, shared):
        record, total = json.loads((root / "predictions/out_of_fold.json").read_text()), 0
        for i in range(len(joined)):
            example = joined[i]
            file = root / "predictions" / record[example["name"]]["files"][0]
            total = total + confusion.counts_of(
                np.asarray(Image.open(file)), example["label"], num_classes=8
            )
        found = json.loads((root / "eval/val.json").read_text())
        np.testing.assert_array_equal(found["confusion_matrix"], total)
    (record,) = results.record(alone)
    logs = [writer.read(alone / f"fold{fold}") for fold in range(3)]
    minutes = sum(finished.costs(lines)["minutes"] for lines in logs)
    assert (record["folds"], record["num_examples"]) == (3, len(joined))
    assert record["train_minutes"] == pytest.approx(minutes)

    every_fold_is_a_run_and_all_are_an_ensemble(alone, tmp_path, capsys)


def every_fold_is_a_run_and_all_are_an_ensemble(root, tmp_path, capsys):
    for fold in range(3):
        opened = run_lib.open_run(root / f"fold{fold}")
        kept = json.loads((root / f"fold{fold}/eval/val.json").read_text())
        (report,) = opened.evaluate("val")
        assert report.result["miou"] == kept["miou"]
    assert [run.path.name for run in run_lib.list_runs(root)] == ["fold0", "fold1", "fold2"]

    def command(*flags):
        code = cli.run(["run.py", *flags])
        return code, "".join(capsys.readouterr())

    code, text = command("--mode=eval", f"--workdir={root}")
    assert code == 0 and "the folds of a cross-validation. ensemble of 3" in text, text
    assert "evals.val is left out: it scores what other folds were trained on" in text
    assert "test: mIoU" in text
    together = run_lib.open_ensemble([root])
    members = [run_lib.open_run(root / f"fold{fold}") for fold in range(3)]
    image = parts_lib.make_source(together.config, "test")[0]["image"]
    logs = [np.log(run.predictor()(image).probabilities()) for run in members]
    mean = np.exp(np.mean(logs, axis=0))  # scores are averaged, up to a constant
    found = together.predictor()(image)
    mean /= mean.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(found.probabilities(), mean, atol=1e-5)
    Image.fromarray(image).save(tmp_path / "image.png")
    code, text = command(
        "--mode=predict", f"--workdir={root}", f"--input={tmp_path / 'image.png'}",
        f"--output={tmp_path / 'out'}", "--outputs=label",
    )  # fmt: skip
    assert code == 0, text
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "out/image_label.png")), found.classes
    )
    for mode, more in (("tune", ()), ("export", ("--publisher=segjax", "--output=x"))):
        code, text = command(f"--mode={mode}", f"--workdir={root}", *more)
        assert code == 2 and "ensemble" in text, text
    code, text = command("--mode=eval", f"--workdir={root / 'fold0'},{root / 'fold1'}")
    assert code == 0 and "evals.val is left out" in text, text


SEARCH = """
def get_search(arg=""):
    return {
        "config": "configs/quickstart.py:debug", "method": "random", "trials": 2,
        "overrides": ["total_steps=1"], "space": {"optimizer.lr": {"low": 1e-3, "high": 1e-1}},
    }
"""


@pytest.mark.slow
def test_a_search_inside_folds_trains_them_with_what_it_found(tmp_path):
    (tmp_path / "search.py").write_text(SEARCH)
    root = tmp_path / "root"
    given = ["--mode=crossval", "--config=configs/quickstart.py:debug", "--folds=2",
             f"--search={tmp_path / 'search.py'}", f"--workdir={root}"]  # fmt: skip
    code, text = program.run(*given)
    assert code == 0 and "trials: 2 found, 0 finished before, 2 done now" in text, text
    found = json.loads((root / "crossval.json").read_text())
    for fold in range(2):
        best = json.loads((root / f"fold{fold}/search/search.json").read_text())["best"]
        config = workdir.load_config(root / f"fold{fold}")
        assert config["optimizer"]["lr"] == best["parameters"]["optimizer.lr"]
        trial = workdir.load_config(root / f"fold{fold}/search/trial0")
        assert trial["resolved"]["num_examples"] < config["resolved"]["num_examples"]
        assert trial["resolved"]["total_steps"] == 1
    assert [each["examples"] for each in found["folds"]] == [8, 8]
    code, text = program.run(*given)
    assert code == 0 and "2 finished before, 0 done now" in text, text
    code, text = program.run(*given[:3], *given[4:])
    assert code == 2 and "holds a cross-validation with search=" in text, text


def test_a_file_that_is_none_is_said_and_a_folder_without_it_is_no_cross_validation(tmp_path):
    assert workdir.folds_in(tmp_path) == []
    whole = {"settings": {"folds": 2}, "names": [], "fold": [], "data": {}, "fingerprint": ""}
    (tmp_path / "folds.json").write_text(json.dumps(whole))
    assert workdir.folds_in(tmp_path) == [tmp_path / "fold0", tmp_path / "fold1"]
    with pytest.raises(UserError, match="fold0: no config.json there"):
        run_lib.open_ensemble([tmp_path])
    (tmp_path / "config.json").write_text("{}")  # of a run
    assert workdir.folds_in(tmp_path) == []
    (tmp_path / "config.json").unlink()
    for content in ("[]", "{}", '{"settings": {"folds": 1}}', '{"settings": {"folds": 3}}', "{"):
        (tmp_path / "folds.json").write_text(content)
        with pytest.raises(UserError, match="folds.json"):
            workdir.folds_in(tmp_path)
