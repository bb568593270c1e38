"""Weights and sampling that the data decides, from the config to a run that is opened again."""

import json

import numpy as np
import pytest

from configs import quickstart
from segjax.assemble import setup
from segjax.config import schema, sections
from segjax.errors import ConfigError
from segjax.runs import run, train
from segjax.tasks import balance
from tests import program

NAMED = [{"type": "pixel:cross_entropy", "weight": 1.0, "class_weights": "median_frequency"}]


def config_of(*, losses=NAMED, by="repeat_factor"):
    config = sections.section(schema.fill(quickstart.get_config("debug")))
    config["task"]["losses"] = losses
    config["input"]["sampling"] = {"by": by, "threshold": 0.9}
    return config


def test_pixels_are_counted_where_the_config_asks():
    """By hand from the labels of the scenes."""
    made, source = setup.make_setup(config_of())
    labels = [source[i]["label"] for i in range(len(source))]
    pixels = np.array([np.bincount(each.ravel(), minlength=8)[:8] for each in labels])
    amounts = made.parts.classes.amounts
    assert amounts is not None and amounts.pixels == tuple(pixels.sum(0).tolist())
    assert amounts.images == tuple((pixels > 0).sum(0).tolist())
    loss = made.parts.task.losses["cross_entropy"][1]
    assert list(loss.class_weights) == balance.weights("median_frequency", amounts)
    share = np.maximum((pixels > 0).mean(0), 1e-9)
    due = np.where(pixels > 0, np.maximum(1, np.sqrt(0.9 / share)), 1).max(1)
    np.testing.assert_allclose(made.due, due)
    plain, _ = setup.make_setup(
        config_of(losses=[{"type": "region:dice", "weight": 1.0}], by="uniform")
    )
    assert plain.due is None and plain.parts.classes.amounts is None
    assert "amounts" not in plain.resolved()["resolved"]


def test_older_runs_keep_their_fingerprint():
    config = config_of(by="uniform")
    config["input"]["sampling"]["threshold"] = 0.1
    older = json.loads(json.dumps(config))
    del older["input"]["sampling"]
    assert schema.fingerprint(config) == schema.fingerprint(older)
    assert schema.fingerprint(config_of()) != schema.fingerprint(older)
    assert schema.fill(older)["input"]["sampling"] == {"by": "uniform", "threshold": 0.1}


@pytest.mark.slow
def test_a_run_has_what_its_weights_were_made_of(tmp_path):
    """It is opened, scored and goes on without counting again; what is no count is refused."""
    config, path = config_of(), tmp_path / "run"
    assert train.run(path, config) == 0
    text = (path / "log.txt").read_text()
    assert "train: an epoch has " in text and "examples of 8" in text
    opened = run.open_run(path)
    assert opened.parts.classes.amounts == setup.make_setup(config)[0].parts.classes.amounts
    (report,) = opened.evaluate("val")
    assert report.result["num_examples"] == 8
    assert train.run(path, config | {"total_steps": 3}, allow_config_change=True) == 0
    recorded = json.loads((path / "config.json").read_text())
    recorded["resolved"]["amounts"]["pixels"] = [-1] * 8
    (path / "config.json").write_text(json.dumps(recorded))
    with pytest.raises(ConfigError, match="resolved.amounts.pixels"):
        run.open_run(path)
    code, said = program.run("--mode=eval", f"--workdir={path}")
    assert code == 2 and "resolved.amounts.pixels" in said
