"""The best checkpoint by any score that an evaluator logs, those of single classes included."""

import json
import math

import jax.numpy as jnp
import pytest

from segjax.assemble.setup import make_evaluators, make_setup
from segjax.data import hashes
from segjax.errors import ConfigError
from segjax.runs import checkpoint, checks, train, writer
from segjax.runs.run import open_run
from segjax.training.state import TrainState

NAMES = ["val/miou", "val/miou_foreground", "val/iou/background", "val/iou/star", "val/loss"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_logged_may_be_kept_by(name, tiny_config):
    """`keep_best` takes every name in `metrics()`, and names the nearest of one that is wrong."""
    for given, known in ((name, True), (name[:-2] + name[-1], False)):
        config = tiny_config(checkpoint__keep_best=given)
        setup, _ = make_setup(config)
        evaluators = make_evaluators(setup.config, setup.parts, setup.clock)
        if known:
            checks.check_saving(setup, evaluators)
            continue
        with pytest.raises(ConfigError, match=f"nothing in config.evals logs.*{name}"):
            checks.check_saving(setup, evaluators)


@pytest.mark.parametrize(
    ("most", "seen"), [(0, range(8)), (1, [0]), (3, [0, 2, 5]), (8, range(8)), (99, range(8))]
)
def test_an_evaluation_may_see_some_examples_from_all_over_its_split(tiny_config, most, seen):
    """As to score the training split beside val; the data that is recorded is the whole split."""
    config = tiny_config(evals__val__examples=most, evals__val__split="train")
    setup, source = make_setup(config)
    (evaluator,) = make_evaluators(setup.config, setup.parts, setup.clock)
    names = [evaluator.source[i]["name"] for i in range(len(evaluator))]
    assert names == [source[i]["name"] for i in seen]
    assert hashes.of_source(evaluator.source) == hashes.of_source(source)


@pytest.mark.parametrize("name", NAMES[:4])
@pytest.mark.parametrize(("mode", "best"), [("max", 3), ("min", 2)])
def test_a_score_that_is_absent_or_no_number_is_never_the_best(tmp_path, name, mode, best):
    """A class that did not occur, NaN and infinities have no rank, at the beginning or the end."""
    values = [None, 0.2, 0.9, math.nan, math.inf, -math.inf, 0.5, None]
    keeper = checkpoint.Checkpointer(tmp_path, keep_best=name, mode=mode, keep_last=1)
    for step, value in enumerate(values, start=1):
        state = TrainState(jnp.asarray(step), {"kernel": jnp.ones(3)}, {}, (), {})
        keeper.save(step, state, {} if value is None else {name: value})
    keeper.close()
    found = checkpoint.Checkpointer(tmp_path, keep_best=name, mode=mode, keep_last=1)
    assert found.find("best") == best


@pytest.mark.slow
@pytest.mark.parametrize("name", ["val/miou_foreground", "val/iou/star", "val/iou/background"])
def test_a_run_keeps_the_best_of_what_it_logged(tmp_path, name, tiny_config):
    config = tiny_config(total_steps=4, checkpoint__keep_best=name, checkpoint__keep_last=1)
    section = config["evals"]["val"]
    del section["every_percent"]
    section["every_steps"] = 1
    assert train.run(tmp_path / "run", config) == 0
    logged = {r["step"]: r[name] for r in writer.read(tmp_path / "run") if name in r}
    best = max(logged.values())
    saver = checkpoint.Checkpointer.of_section(tmp_path / "run", config["checkpoint"])
    assert logged[saver.find("best")] == best
    # The report is of the checkpoint that eval and predict use, and so are its figures.
    (report,) = open_run(tmp_path / "run").evaluate()
    written = json.loads((tmp_path / "run" / "eval" / "val.json").read_text())
    assert written["step"] == written["checkpoint"] == report.step == saver.find("best")
    assert written["confusion_matrix"] == report.result["confusion_matrix"]
    console = (tmp_path / "run" / "log.txt").read_text()
    assert ("the best checkpoint" in console) == (report.step != 4)
