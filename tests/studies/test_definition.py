"""What a study's file may say, and what a wrong one is told."""

import shlex

import pytest

from segjax.config import load
from segjax.errors import ConfigError
from segjax.studies import definition

GOOD = dict(
    title="Rates", config="configs/quickstart.py:debug", metrics=["val/miou"], seeds=[3, 5],
    overrides=["total_steps=4"],
    rows=[dict(name="a"), dict(name="b", overrides=["optimizer.lr=0.5", "total_steps=6"])],
)  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "study.py"
        path.write_text(text)
        return str(path)

    return lambda **changes: write(f"def get_study():\n    return {GOOD | changes!r}\n")


def test_each_row_is_trained_with_each_seed_and_later_overrides_win(write):
    study = definition.read(write())
    assert [(cell.row, cell.seed) for cell in study.cells] == [
        ("a", 3), ("b", 3), ("a", 5), ("b", 5)
    ]  # fmt: skip
    changes = ["total_steps=4", "optimizer.lr=0.5", "total_steps=6", "seed=5"]
    assert study.cells[3].config == load.load(GOOD["config"], changes)
    assert study.cells[3].command.endswith("--config.total_steps=6 --config.seed=5")


def test_the_command_of_a_run_is_one_for_a_shell(write):
    losses = "[{'type': 'pixel:focal', 'weight': 1.0}, {'type': \"region:dice\", 'weight': 1.0}]"
    path = write(rows=[dict(name="a", overrides=[f"task.losses={losses}"])], seeds=[1])
    (cell,) = definition.read(str(path)).cells
    python, program, config, *flags = shlex.split(cell.command)
    assert (python, program) == ("python", "run.py")
    overrides = [flag.removeprefix("--config.") for flag in flags]
    assert load.load(config.removeprefix("--config="), overrides) == cell.config
    assert cell.config["task"]["losses"][0] == {"type": "pixel:focal", "weight": 1.0}


def test_a_study_may_take_an_argument(tmp_path):
    path = tmp_path / "study.py"
    path.write_text(f"def get_study(arg=''):\n    return {GOOD!r} | dict(title=arg or 'none')\n")
    assert definition.read(f"{path}:x=1,y").title == "x=1,y"
    assert definition.read(str(path)).title == "none"


@pytest.mark.parametrize(
    "change, expected",
    [
        (dict(rows=[]), "study.rows=[]: expected a list of 1 to 1000 rows"),
        (dict(rows=[dict(name="a", lr=1)]), "study.rows[0].lr: no such key"),
        (dict(rows=["a"]), "study.rows[0]='a': expected a section"),
        (dict(rows=[dict(overrides=[])]), "study.rows[0]: needs 'name'"),
        (dict(rows=[dict(name="a"), dict(name="a")]), "'a' is the name of two"),
        (dict(rows=[dict(name="a", overrides=["nope=1"])]), "study row 'a': config.nope"),
        (dict(rows=[dict(name="a", overrides=["optimizer.lr=-1"])]), "study row 'a': config.opt"),
        (dict(rows=[dict(name="a", config="configs/none.py")]), "configs/none.py: no such file"),
        (dict(config="", rows=[dict(name="a")]), "study.rows[0]: no config"),
        (dict(seeds=[]), "study.seeds=[]: expected a list of seeds"),
        (dict(seeds=[1, 2, 1]), "study.seeds=[1, 2, 1]: a seed twice"),
        (dict(seeds=[-1]), "study.seeds=[-1]"),
        (dict(metrics=[]), "study.metrics=[]"),
        (dict(baseline="c"), "study.baseline='c': no row has that name. Rows: a, b."),
        (dict(metric=["x"]), "study.metric: no such key. Did you mean 'metrics'?"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(write, change, expected):
    with pytest.raises(ConfigError) as error:
        definition.read(write(**change))
    assert expected in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", "has no function get_study. Expected experiments/"),
        ("def get_study():\n    return 1/0\n", "study.py:2: ZeroDivisionError"),
        ("def get_study():\n    return [1]\n", "get_study returned list"),
        ("def get_study(:\n", "SyntaxError"),
    ],
)
def test_a_file_that_is_none_is_told_so(tmp_path, text, expected):
    path = tmp_path / "study.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r".+") as error:
        definition.read(str(path))
    assert expected in str(error.value)
    with pytest.raises(ConfigError, match="no such file. Expected experiments/"):
        definition.read(str(tmp_path / "none.py"))
