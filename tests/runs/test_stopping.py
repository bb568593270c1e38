"""A run whose metric stands still ends, and where it ends depends on its log alone."""

import pytest

from segjax.errors import ConfigError
from segjax.runs import checkpoint, run, stopping, train, writer
from tests.runs import pixels

RISING = {"metric": "val/miou", "patience": 2, "min_delta": 0.0, "mode": "max"}


def records(values, name="val/miou"):
    """Return the log of one value after each tenth step; None: another line."""
    lines = [(10 * i, value) for i, value in enumerate(values, start=1)]
    return [
        {"step": step, "train/loss": 1.0} if value is None else {"step": step, name: value}
        for step, value in lines
    ]


@pytest.mark.parametrize(
    ("values", "changes", "step"),
    [
        ([0.1, 0.2, 0.3, 0.4], {}, None),
        ([0.1, 0.3, 0.2, 0.25], {}, 40),
        ([0.3, 0.3, 0.3], {}, 30),  # no better is nothing
        ([0.1, 0.3, 0.2, 0.31, 0.1], {}, None),
        ([0.1, 0.3, 0.31, 0.32, 0.9], {"min_delta": 0.05}, 40),
        ([0.1, 0.14, 0.18, 0.2], {"min_delta": 0.05}, None),  # slow, and yet above the best
        ([0.9, 0.5, 0.6, 0.7], {"mode": "min"}, 40),
        ([0.3, None, None, 0.2, None, 0.1], {}, 60),  # lines of something else do not count
        ([0.3, 0.2], {"patience": 1}, 20),
        ([0.3, 0.2, 0.1], {"metric": ""}, None),
        ([None, None, None], {}, None),
    ],
)
def test_it_is_over_when_so_many_in_a_row_were_not_better(values, changes, step):
    """By more than `min_delta` than the best before them, up or down as `mode` says."""
    log = records(values)
    found = stopping.verdict(RISING | changes, log, until=1000)
    assert (found and found.step) == step
    for until in range(10, 70, 10):  # nothing depends on what comes later, or on who asks when
        early = stopping.verdict(RISING | changes, log, until=until)
        assert (early is not None) == (step is not None and until >= step), until
    if found:
        assert f"stopped early after step {step}: val/miou has not" in found.text
        assert f"of step {found.best_step}" in found.text


def test_a_step_that_was_scored_twice_counts_once():
    """As after a kill between an evaluation and its checkpoint."""
    log = records([0.3, 0.2]) + [{"step": 20, "val/miou": 0.2}]
    assert stopping.verdict(RISING, log, until=100) is None


def test_a_metric_that_nothing_logs_is_refused(tmp_path):
    pixels.draw(tmp_path / "data")
    config = pixels.config_on(tmp_path / "data", early_stopping__metric="val/mio")
    with pytest.raises(ConfigError, match=r"early_stopping.metric='val/mio'.*Did you mean"):
        train.run(tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_stops_keeps_its_best_and_is_over_for_good(tmp_path, capsys):
    """Exit code 0, all figures and reports there; the same command again trains no further."""
    pixels.draw(tmp_path / "data")
    config = pixels.config_on(
        tmp_path / "data", total_steps=30, checkpoint__save_steps=50, checkpoint__keep_last=1,
        optimizer__lr=1e-9, early_stopping__metric="val/loss", early_stopping__mode="min",
        early_stopping__min_delta=0.5, early_stopping__patience=2,
    )  # fmt: skip
    del config["evals"]["val"]["every_steps"]
    config["evals"]["val"]["every_steps"] = 2
    config["evals"]["last"] = config["evals"]["val"] | {"every_steps": 0}
    config["checkpoint"] |= {"keep_best": "val/loss", "mode": "min"}
    path = tmp_path / "run"
    assert train.run(path, config) == train.DONE
    said = capsys.readouterr().err
    assert "stopped early after step 6: val/loss has not fallen below" in said
    log = writer.read(path)
    assert max(r["step"] for r in log) == 6
    scored = [r["val/loss"] for r in log if "val/loss" in r]
    best = 2 * (scored.index(min(scored)) + 1)
    with checkpoint.Checkpointer.of_section(path, config["checkpoint"], read_only=True) as saver:
        assert saver.find("best") == best and saver.find("latest") == 6
    for name in ("eval/val.json", "eval/last.json", "figures/learning_curves.png"):
        assert (path / name).exists(), name
    assert run.open_run(path, trust_code=True).step == best
    assert train.run(path, config) == train.DONE
    assert max(r["step"] for r in writer.read(path)) == 6
    # Killed before the last evaluation, it stops where it would have.
    lines = (path / "metrics.jsonl").read_text().splitlines()
    kept = [line for line in lines if '"step": 6' not in line or "val/loss" not in line]
    (path / "metrics.jsonl").write_text("\n".join(kept) + "\n")
    assert train.run(path, config) == train.DONE
    again = [r["val/loss"] for r in writer.read(path) if "val/loss" in r]
    assert again == scored
