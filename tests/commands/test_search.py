"""Searches on the command line: real trials, real kills."""

import json
import os
import random
import shutil
import signal
import time

import numpy as np
import pytest

import segjax
from segjax.commands import cli
from segjax.config import load, searches
from segjax.runs import writer
from segjax.studies import outcome
from segjax.studies import search as search_lib
from tests import program

TEXT = """
def get_search(arg=""):
    return {settings!r}
"""
OVERRIDES = ["total_steps=4", "log_steps=1", "input.batch_size=8", "evals.val.every_percent=25"]


def settings(**changes):
    return {
        "config": "configs/quickstart.py:debug",
        "overrides": OVERRIDES,
        "method": "grid",
        "space": {"optimizer.lr": {"choices": [4e-3, 1e6, 1e-3, 1e-8]}},
    } | changes


def file(folder, **changes):
    folder.mkdir(exist_ok=True)
    path = folder / "my_search.py"
    path.write_text(TEXT.format(settings=settings(**changes)))
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metric": "val/miuo"}, "nothing in config.evals logs it. Did you mean 'val/miou'"),
        ({"space": {"optimizer.lrr": {"choices": [1, 2]}}}, "takes no 'lrr'. Did you mean 'lr'"),
        (
            {"space": {"model.widths": {"choices": [[8, 16], [8, -16]]}}},
            "config.model.widths[1]=-16: expected an integer from 1",
        ),
        (
            {"overrides": ["evals.val.every_steps=0"], "pruner": {"type": "median"}},
            "Add 'evals.val.every_percent=10' to search.overrides",
        ),
        ({"method": "random", "trials": 6, "side_by_side": 3}, "3 trials do not divide 8 devices"),
    ],
)  # fmt: skip
def test_what_a_search_gets_wrong_is_said_before_anything_is_written(
    tmp_path, changes, said, capsys
):
    """In one line with exit code 2, whether config, data, model or devices do not take it."""
    path = file(tmp_path / "files", **changes)
    root = tmp_path / "root"
    assert cli.main(["run.py", "--mode=search", f"--search={path}", f"--workdir={root}"]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not root.exists(), error


def test_a_report_needs_a_search(tmp_path, capsys):
    assert cli.main(["run.py", "--mode=search", f"--workdir={tmp_path}", "--report"]) == 2
    assert "no settings.json there. Expected the folder of a search" in capsys.readouterr().err
    assert cli.main(["run.py", "--mode=search", f"--workdir={tmp_path}"]) == 2
    assert "needs --search, e.g." in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """Return the folder of a finished search of real trials, its file, and what was printed."""
    root = tmp_path_factory.mktemp("search")
    path = file(root / "files")
    code, text = program.run("--mode=search", f"--search={path}", f"--workdir={root / 'a'}")
    assert code == 0, text
    return root / "a", path, text


@pytest.mark.slow
def test_each_trial_is_a_run_and_what_diverged_failed_alone(searched):
    root, _, text = searched
    found = json.loads((root / "search.json").read_text())
    assert [each["state"] for each in found["trials"]] == [
        "complete",
        "failed",
        "complete",
        "complete",
    ]
    assert (
        "3 complete, 1 failed" in text and "trials: 4 found, 0 finished before, 4 done now" in text
    )
    assert found["trials"][1]["steps"] < 4 and found["trials"][1]["reason"]
    for each in (found["trials"][0], found["trials"][2]):
        run = segjax.open_run(root / f"trial{each['number']}")
        assert run.config["optimizer"]["lr"] == each["parameters"]["optimizer.lr"]
        logged = [r["val/miou"] for r in run.metrics() if "val/miou" in r]
        assert each["value"] == max(logged) and each["steps"] == 4 and len(logged) == 4
        assert run.step == each["step"], "the checkpoint that is opened is that of the value"
    assert len(segjax.list_runs(root)) == 4


@pytest.mark.slow
def test_the_best_config_trains_as_it_stands_to_the_same_value(searched, tmp_path):
    root, _, _ = searched
    best = json.loads((root / "search.json").read_text())["best"]
    config = load.load(str(root / "best.json"))
    assert config["optimizer"]["lr"] == best["parameters"]["optimizer.lr"]
    code, text = program.run(f"--config={root / 'best.json'}", f"--workdir={tmp_path / 'run'}")
    assert code == 0, text
    logged = [r["val/miou"] for r in writer.read(tmp_path / "run") if "val/miou" in r]
    assert max(logged) == best["value"]


@pytest.mark.slow
def test_again_trains_nothing_and_files_alone_make_the_report(searched, tmp_path):
    root, path, _ = searched
    before = (root / "search.json").read_text()
    code, text = program.run("--mode=search", f"--search={path}", f"--workdir={root}")
    assert code == 0 and "4 found, 4 finished before, 0 done now" in text, text
    copied = tmp_path / "copy"
    ignored = shutil.ignore_patterns("checkpoints", "search.*", "best.json", "figures", "files")
    shutil.copytree(root, copied, ignore=ignored)
    code, text = program.run("--mode=search", "--report", f"--workdir={copied}")
    assert code == 0 and "best: trial" in text, text
    assert (copied / "search.json").read_text() == before == (root / "search.json").read_text()
    assert (copied / "best.json").read_text() == (root / "best.json").read_text()
    other = file(tmp_path / "other", seed=5)
    code, text = program.run("--mode=search", f"--search={other}", f"--workdir={root}")
    assert code == 2 and "holds another search: search.seed=0 there, 5 now" in text, text


def numbers(root):
    """Return what is logged of each trial's losses and scores, and its note."""
    names = ("train/loss", "val/miou")
    logs = {
        each["number"]: [
            {name: r[name] for name in ("step", *names) if name in r}
            for r in writer.read(root / f"trial{each['number']}")
            if any(name in r for name in names)
        ]
        for each in outcome.notes(root)
    }
    notes = [
        each | {"reason": each.get("reason", "").replace(str(root), "")}
        for each in outcome.notes(root)
    ]
    return logs, notes


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_two_workers_that_are_ended_at_random_do_what_one_does_undisturbed(
    searched, tmp_path, number
):
    """The same trials to the last digit, each once; SIGTERM leaves with 75, as a training does."""
    root, path, _ = searched
    there, chance = tmp_path / "root", random.Random(int(number))

    def start():
        return program.start("--mode=search", f"--search={path}", f"--workdir={there}")

    def begun():
        return sum(path.read_text().count("\n") for path in there.glob("trial*/metrics.jsonl"))

    workers, codes = [start(), start()], []
    for _ in range(3):  # each once something was trained since the one before, at any moment
        lines = begun()
        while begun() == lines and any(worker.poll() is None for worker in workers):
            time.sleep(0.2)
        time.sleep(chance.uniform(0, 3))
        victim = chance.randrange(2)
        workers[victim].send_signal(number)
        workers[victim].communicate(timeout=300)
        codes.append(workers[victim].returncode)
        workers[victim] = start()
    texts = ["".join(worker.communicate(timeout=900)) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], texts
    expected = {-signal.SIGKILL} if number == signal.SIGKILL else {75, 128 + signal.SIGTERM}
    assert set(codes) <= expected | {0}
    assert numbers(there) == numbers(root)
    assert not list(there.glob("*/failure.json"))  # what a NaN leaves lies deeper


@pytest.mark.slow
def test_trials_side_by_side_are_those_of_the_runs_alone(tmp_path):
    """Their folders are where they would have been, and what is left over trains by itself."""
    rates = {"optimizer.lr": {"choices": [4e-3, 1e-3, 2e-3]}}
    notes = {}
    for several in (0, 2):
        search = searches.make(settings(space=rates, side_by_side=several))
        assert search_lib.run(tmp_path / f"{several}", search) == 0
        notes[several] = outcome.notes(tmp_path / f"{several}")
    for one, other in zip(notes[0], notes[2], strict=True):
        assert one["parameters"] == other["parameters"] and one["state"] == other["state"]
        assert one["value"] == pytest.approx(other["value"], abs=0.02) and one["steps"] == 4
        folders = [tmp_path / several / f"trial{one['number']}" for several in ("0", "2")]
        losses = [[r["train/loss"] for r in writer.read(f) if "train/loss" in r] for f in folders]
        np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
        configs = [json.loads((f / "config.json").read_text()) for f in folders]
        assert configs[0] == configs[1]
        assert {"checkpoints", "eval", "metrics.jsonl"} <= {
            path.name for path in folders[1].iterdir()
        }
        assert (
            segjax.open_run(folders[1]).config["optimizer"]["lr"]
            == one["parameters"]["optimizer.lr"]
        )
    assert (
        os.listdir(tmp_path / "2").count("group0") == 1 and not (tmp_path / "2" / "group1").exists()
    )


@pytest.mark.slow
def test_what_fails_side_by_side_is_tried_alone(tmp_path):
    rates = {"optimizer.lr": {"choices": [4e-3, 1e6]}}
    search = searches.make(settings(space=rates, side_by_side=2))
    assert search_lib.run(tmp_path / "root", search) == 0
    assert [each["state"] for each in outcome.notes(tmp_path / "root")] == ["complete", "failed"]


@pytest.mark.slow
def test_from_python(tmp_path):
    run = segjax.search(
        settings(space={"optimizer.lr": {"choices": [4e-3, 1e-8]}}), tmp_path / "root"
    )
    best = outcome.collect(tmp_path / "root")["best"]
    assert run.path.name == f"trial{best['number']}"
    assert run.evaluate("val")[0].result["miou"] == pytest.approx(best["value"], abs=1e-6)
