"""A study runs what its results lack, records it once, and draws tables from the records alone."""

import json
import pathlib
import shutil

import pytest

from segjax.config import schema
from segjax.errors import NonFiniteError, UserError
from segjax.runtime import files
from segjax.studies import definition, finished, study

TEXT = """
def get_study():
    return dict(
        title="Rates", config="configs/quickstart.py:debug", metrics=["val/miou", "val/none"],
        baseline="low", seeds=[0, 1],
        rows=[
            dict(name="low", overrides=["optimizer.lr=1e-4"]),
            dict(name="high", overrides=["optimizer.lr=1e-2"]),
        ],
    )
"""


@pytest.fixture
def rates(tmp_path):
    """Return the study of a file in `tmp_path`."""
    (tmp_path / "study.py").write_text(TEXT)
    return definition.read(str(tmp_path / "study.py"))


@pytest.fixture
def trained(monkeypatch):
    """Let training take no time; return the folders in which it was begun."""
    folders = []

    def run(path, config, *, begun):
        folders.append(path)
        if path.with_name("fails").exists():
            raise NonFiniteError("val/loss is nan at step 1")
        if path.with_name("preempted").exists():
            return 75
        score = config["optimizer"]["lr"] + config["seed"]
        report = {
            "split": "val", "num_examples": 8, "checkpoint": 2, "logged": {"val/miou": score}
        }  # fmt: skip
        files.write_json(path / "eval" / "val.json", report)
        files.write_json(path / "eval" / "val.step1.json", report | {"logged": {"val/miou": -1.0}})
        line = {"step": 2, "time/step_ms": 9.0, "time/images_per_s": 4.0, "time/data_wait_ms": 0.9}
        (path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        facts = {
            "parameters": 12, "device_step_flops": 2e9, "device_step_bytes": {"temp": 3e6},
            "devices": ["cpu"], "cores": 2, "python": "3", "packages": {"jax": "1"},
            "git_revision": "x", "data": study.data_of(config),
        }  # fmt: skip
        files.write_json(path / "run.json", facts)
        return 0

    monkeypatch.setattr(study.train, "run", run)
    monkeypatch.setattr(study.jax, "clear_caches", lambda: None)
    return folders


def run(rates, tmp_path):
    return study.run(rates, tmp_path / "runs", tmp_path, say=lambda line: None)


def records(tmp_path):
    return finished.read(tmp_path / study.RESULTS)


def test_all_is_recorded_once_with_scores_costs_and_what_made_them(rates, trained, tmp_path):
    assert len(study.missing(rates, tmp_path)) == 4 and not (tmp_path / study.RESULTS).exists()
    assert run(rates, tmp_path).done == 4 and len(trained) == 4
    found = records(tmp_path)
    assert [(r["row"], r["seed"]) for r in found] == [
        ("low", 0), ("high", 0), ("low", 1), ("high", 1)
    ]  # fmt: skip
    assert found[1]["scores"] == {"val/miou": 1e-2} and found[1]["examples"] == {"val": 8}
    assert found[1]["minutes"] == pytest.approx(2 * 9 / 6e4) and found[1]["gflops"] == 2.0
    assert found[1]["step_ms"] == 9.0 and found[1]["data_wait_percent"] == pytest.approx(10)
    assert schema.fill(found[1]["config"]) == rates.cells[1].config
    assert "--config.optimizer.lr=1e-2 --config.seed=0" in found[1]["command"]
    assert run(rates, tmp_path).already == 4 and len(trained) == 4


def test_a_record_that_was_deleted_is_made_again_and_the_others_are_kept(rates, trained, tmp_path):
    run(rates, tmp_path)
    lines = (tmp_path / study.RESULTS).read_text().splitlines(keepends=True)
    (tmp_path / study.RESULTS).write_text("".join(lines[:1] + lines[2:]))
    tally = run(rates, tmp_path)
    assert (tally.already, tally.done) == (3, 1) and len(trained) == 5
    assert (tmp_path / study.RESULTS).read_text().splitlines(keepends=True)[-1] == lines[1]


@pytest.mark.parametrize("change", ["config", "seed", "data"])
def test_what_is_not_of_this_config_seed_or_data_is_missing_and_stays_in_the_file(
    rates, trained, tmp_path, change
):
    run(rates, tmp_path)
    found = records(tmp_path)
    if change == "data":
        found[0]["data"]["train"]["hash"] = "another"
    elif change == "seed":
        found[0]["seed"] = 7
    else:
        found[0]["config"]["optimizer"]["lr"] = 0.5
    (tmp_path / study.RESULTS).write_text("".join(json.dumps(r) + "\n" for r in found))
    assert [cell.name for cell in study.missing(rates, tmp_path)] == ["low, seed 0"]
    assert run(rates, tmp_path).done == 1
    assert len(records(tmp_path)) == 5 and len(study.records_of(rates, tmp_path)) == 4


def test_a_record_from_before_a_key_existed_still_counts(rates, trained, tmp_path):
    run(rates, tmp_path)
    found = records(tmp_path)
    assert found[0]["config"].pop("ema_decay") == 0.0
    for record in found:
        record["data"]["train"]["times"] = "written again"
    (tmp_path / study.RESULTS).write_text("".join(json.dumps(r) + "\n" for r in found))
    assert not study.missing(rates, tmp_path)


def test_a_run_that_fails_or_is_preempted_is_not_recorded(rates, trained, tmp_path):
    folder = study.folder_of(rates.cells[0], tmp_path / "runs")
    assert folder.name == "seed0" and folder.parent.name.startswith("low-")
    folder.parent.mkdir(parents=True)
    (folder.parent / "fails").touch()
    tally = run(rates, tmp_path)
    assert tally.failed == {
        name: "val/loss is nan at step 1" for name in ("low, seed 0", "low, seed 1")
    }
    assert tally.done == 2 and {r["row"] for r in records(tmp_path)} == {"high"}
    (folder.parent / "fails").rename(folder.parent / "preempted")
    tally = run(rates, tmp_path)
    assert tally.code == 75 and len(records(tmp_path)) == 2


def test_tables_and_plots_are_drawn_from_the_records_alone(rates, trained, tmp_path):
    with pytest.raises(UserError, match=r"results\.jsonl: holds no run of the study"):
        study.draw(rates, tmp_path)
    run(rates, tmp_path)
    shutil.rmtree(tmp_path / "runs")
    readme = f"# Rates\n\n{study.BEGIN}\nold\n{study.END}\n\nAfter it.\n"
    (tmp_path / "README.md").write_text(readme)
    written = study.draw(rates, tmp_path)
    assert {path.name for path in written} == {
        "README.md", "table.md", "table.tex", "table.csv", "val_miou.png"
    }  # fmt: skip
    table = (tmp_path / "table.md").read_text().partition("\n\n")[2].strip()
    assert "| high | 2 | 0.510 ± 0.707 |" in table
    text = (tmp_path / "README.md").read_text()
    assert text == f"# Rates\n\n{study.BEGIN}\n{table}\n{study.END}\n\nAfter it.\n"
    before = {path: path.read_bytes() for path in written}
    study.draw(rates, tmp_path)
    assert before == {path: path.read_bytes() for path in written}


def test_a_results_file_with_a_torn_line_is_named(tmp_path):
    path = tmp_path / study.RESULTS
    path.write_text('{"row": "a"}\n{"row": \n')
    with pytest.raises(UserError, match=r"results\.jsonl, line 2: expected a JSON object"):
        finished.read(path)


@pytest.mark.slow
def test_deleted_rows_come_out_the_same_bit_for_bit(rates, tmp_path):
    """From the folders of their runs, and without these trained anew."""
    rates = rates._replace(cells=rates.cells[:2])
    found = []
    for runs_are_kept in (True, True, False):
        if not runs_are_kept:
            shutil.rmtree(tmp_path / "runs")
        assert run(rates, tmp_path).done == 2
        found.append([(r["row"], r["seed"], r["scores"]) for r in records(tmp_path)])
        (tmp_path / study.RESULTS).unlink()
    assert found[0] == found[1] == found[2] and len(found[0][0][2]) > 5


def studies_of_this_project():
    root = pathlib.Path(__file__).parents[2] / "experiments"
    return [path for path in root.glob("*/study.py") if "def get_study" in path.read_text()]


@pytest.mark.parametrize("path", studies_of_this_project(), ids=lambda path: path.parent.name)
def test_the_tables_of_this_project_are_those_of_their_results(path, tmp_path):
    """README.md, table.md, table.csv and table.tex are what `--mode=study --draw` writes."""
    found = definition.read(str(path))
    if not path.with_name(study.RESULTS).exists():  # not run yet: it must not show anything
        shown = {each.name for each in path.parent.iterdir() if each.is_file()}
        assert shown <= {"study.py", "README.md"}, "tables without results"
        text = path.with_name("README.md").read_text()
        assert f"{study.BEGIN}\n{study.END}" in text
        return
    for name in (study.RESULTS, "README.md"):
        shutil.copy(path.with_name(name), tmp_path / name)
    for written in study.draw(found, tmp_path):
        if written.suffix != ".png":
            assert written.read_bytes() == path.with_name(written.name).read_bytes(), written.name
