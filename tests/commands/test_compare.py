"""Two runs on the command line."""

import json

import pytest

from segjax.commands import cli
from tests.metrics.test_intervals import counts, report


@pytest.fixture
def runs(tmp_path):
    """Return two folders with reports of one split, the second better."""
    for name, right in (("a", 0.6), ("b", 0.9)):
        (tmp_path / name / "eval").mkdir(parents=True)
        made = report(counts(0, n=12, right=right)[0])
        (tmp_path / name / "eval" / "test.json").write_text(json.dumps(made))
    return tmp_path / "a", tmp_path / "b"


def run(*arguments):
    return cli.main(["run.py", "--mode=compare", *arguments])


def test_each_metric_is_a_line(runs, capsys):
    found = run(f"--workdir={runs[0]},{runs[1]}", "--split=test", "--metric=miou,kappa",
                "--resamples=200")  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert found == 0 and [line.partition(":")[0] for line in lines] == ["miou", "kappa"]
    assert all("difference +0." in line and "p = 0.0050 (12 examples)" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--workdir=a"], "1 folders, expected two, separated by a comma"),
        (["--workdir=a,b,c"], "3 folders, expected two"),
        (["--workdir=a,b"], "a/eval/val.json: not there"),
        (["--workdir=a,b", "--split=test", "--metric=hd95"], "metric='hd95' is in neither report"),
        (["--workdir=a,b", "--split=test", "--resamples=0"], "resamples"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line(runs, arguments, said, monkeypatch, capsys):
    monkeypatch.chdir(runs[0].parent)
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
