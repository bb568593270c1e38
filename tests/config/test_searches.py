"""A search's file: what no search can use is said in one line, by its key."""

import pytest

from experiments.search import quickstart
from segjax.config import searches
from segjax.errors import ConfigError


def changed(**changes):
    return quickstart.get_search("debug") | changes


def test_the_example_is_checked_and_its_trials_differ_in_the_leaves_alone():
    search = searches.read("experiments/search/quickstart.py:debug")
    assert search.trials == 3 and set(search.space) == set(quickstart.get_search()["space"])
    values = {
        "optimizer.lr": 0.5,
        "optimizer.weight_decay": 1e-4,
        "model.widths": [8, 16, 32],
        "task.losses[1].weight": 0.25,
    }
    config = search.config(values, "trial7")
    assert config["optimizer"]["lr"] == 0.5 and config["model"]["widths"] == [8, 16, 32]
    assert [loss["weight"] for loss in config["task"]["losses"]] == [1.0, 0.25]
    assert search.base["optimizer"]["lr"] == 4e-3, "what all share stays"
    assert config["checkpoint"]["keep_best"] == "val/miou" and config["checkpoint"]["root"] == ""


def test_each_trial_has_its_part_of_a_common_root_and_the_metric_decides_the_best():
    search = searches.make(
        changed(overrides=["checkpoint.root='gs://bucket/x/'"], metric="val/loss", mode="min")
    )
    section = search.config({}, "trial7")["checkpoint"]
    assert section["root"] == "gs://bucket/x/trial7"
    assert section["keep_best"] == "val/loss" and section["mode"] == "min"


def test_what_one_folder_takes():
    """More trials go on; whatever else differs is another search, however it is spelled."""
    one = searches.make(changed())
    same = searches.make(changed(trials=99, config="configs/quickstart.py:debug=true"))
    assert one.fingerprint() == same.fingerprint()
    others = [
        {"seed": 1},
        {"metric": "val/loss"},
        {"overrides": ["total_steps=3"]},
        {"space": {"optimizer.lr": {"low": 1e-4, "high": 0.1}}},
        {"pruner": {"type": "none"}},
    ]
    assert (
        len({searches.make(changed(**o)).fingerprint() for o in others} | {one.fingerprint()}) == 6
    )


def test_a_grid_has_every_point_once():
    space = {
        "optimizer.lr": {"low": 0.1, "high": 0.4, "step": 0.1},
        "seed": {"low": 3, "high": 5, "integer": True},
        "model.widths": {"choices": [[8], [8, 16]]},
    }
    search = searches.make(changed(space=space, method="grid", trials=0))
    points = search.grid()
    assert search.trials == len(points) == 4 * 3 * 2
    assert [points[0][leaf] for leaf in space] == [0.1, 3, [8]]
    assert sorted({point["optimizer.lr"] for point in points}) == [0.1, 0.2, 0.3, 0.4]


LR = "optimizer.lr"
WRONG = [
    ({"metod": "tpe"}, r"search.metod: no such key. Did you mean 'method'"),
    ({"method": "bayes"}, r"search.method='bayes': expected 'grid' or"),
    ({"mode": "best"}, r"search.mode='best': expected 'max' or 'min'"),
    ({"trials": 0}, r"search.trials=0: expected how many"),
    ({"trials": 2.5}, r"search.trials=2.5: expected an integer"),
    ({"seed": -1}, r"search.seed=-1"),
    ({"storage": "mysql"}, r"search.storage='mysql': expected 'sqlite' or 'journal'"),
    ({"pruner": "none"}, r"search.pruner='none': expected a section"),
    ({"pruner": {"type": "medain"}}, r"search.pruner.type='medain': expected 'none' or 'median'"),
    ({"pruner": {"warmup": 3}}, r"search.pruner.warmup: no such key. Did you mean"),
    ({"pruner": {"warmup_steps": 3, "warmup_percent": 3}}, r"say the same thing. Keep one"),
    ({"config": "configs/nope.py"}, r"configs/nope.py: no such file"),
    ({"overrides": ["optimizer.lrr"]}, r"config.optimizer.lrr: no value"),
    ({"overrides": ["trials.lr=[0.1, 0.2]"]}, r"has config.trials, and a search makes its own"),
    ({"space": {}}, r"search.space={}: expected a section that is not empty"),
    ({"space": {LR: 3}}, r"space\['optimizer.lr'\]=3: expected a section"),
    ({"space": {LR: {}}}, r"is empty. Give it 'low' and 'high', or 'choices'"),
    ({"space": {LR: {"lo": 1, "high": 2}}}, r"lo: no such key. Did you mean 'low'"),
    ({"space": {LR: {"low": 1}}}, r"needs 'high'. Add it: segjax/config/searches.py says what"),
    ({"space": {LR: {"low": 2, "high": 1}}}, r"Expected low below high"),
    ({"space": {LR: {"low": 0, "high": 1, "log": True}}}, r"with log. Expected low above 0"),
    ({"space": {LR: {"low": 1, "high": 2, "log": True, "step": 1}}}, r"step=1 with log"),
    ({"space": {LR: {"low": 0.1, "high": 1, "step": 0.4}}}, r"Set high=0.9"),
    ({"space": {LR: {"low": 0.1, "high": 1, "step": 4}}}, r"step=4 is more than lies between"),
    ({"space": {"seed": {"low": 0.5, "high": 2, "integer": True}}}, r"Expected whole numbers"),
    ({"space": {LR: {"low": -1.0, "high": 1.0}}}, r"config.optimizer.lr=-1.0: expected a number"),
    ({"space": {LR: {"choices": [1e-3]}}}, r"expected a list of 2 to 1000 different values"),
    ({"space": {LR: {"choices": [1e-3, 1e-3]}}}, r"expected a list of 2 to 1000 different values"),
    ({"space": {LR: {"choices": [1e-3, "x"]}}}, r"got a string, expected a number"),
    ({"space": {LR: {"choices": [1, 2], "low": 1}}}, r"low: no such key"),
    ({"space": {"seed": {"low": 0, "high": 9}}}, r"whole numbers alone, add 'integer': True"),
    ({"space": {"inptu.batch_size": {"choices": [2, 4]}}}, r"Did you mean 'input.batch_size'"),
    (
        {"space": {"task.losses[4].weight": {"low": 0.0, "high": 1.0}}},
        r"Did you mean 'task.losses\[1\].weight'",
    ),
    (
        {"space": {"model": {"choices": [{"type": "unet"}, {"type": "fcn"}]},
                   "model.widths": {"choices": [[8], [16]]}}},
        r"'model.widths' lies in 'model'",
    ),
    ({"method": "grid"}, r"has no step, and method='grid' takes every value"),
    (
        {"method": "grid", "trials": 5, "space": {LR: {"choices": [1e-3, 1e-2]}}},
        r"search.trials=5: the grid has 2 points",
    ),
    ({"method": "cmaes"}, r"'model.widths' lists choices. Use method='tpe'"),
    ({"method": "cmaes", "space": {LR: {"low": 1e-3, "high": 1.0}}}, r"it has a single leaf"),
    ({"side_by_side": 2}, r"space has 'optimizer.weight_decay'"),
    (
        {"side_by_side": 2, "space": {LR: {"choices": [1e-3, 1e-2]}}},
        r"method='tpe' asks for one after the other",
    ),
    (
        {"side_by_side": 2, "method": "random", "space": {LR: {"choices": [1e-3, 1e-2]}}},
        r"a pruner would end all",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "said"), WRONG, ids=lambda x: str(x)[:60])
def test_what_is_wrong_is_said(changes, said):
    with pytest.raises(ConfigError, match=said) as caught:
        searches.make(changed(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def get_config(): return {}", "has no function get_search"),
        ("def get_search(): return 3", "get_search returned int"),
        ("def get_search(arg=''): 1 / 0", "ZeroDivisionError"),
        ("def get_search(): return {'trials': 3}", "x.py: search: needs 'config', 'space'"),
    ],
)
def test_a_file_that_describes_none_is_one_line(tmp_path, text, said):
    path = tmp_path / "x.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        searches.read(str(path))
    with pytest.raises(ConfigError, match="no such file. Expected a file such as"):
        searches.read(str(path) + "x")
