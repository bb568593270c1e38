"""Trials are runs of their own that share a program, and nothing else."""

import json
import re
import shutil

import jax
import numpy as np
import pytest

from segjax.assemble import program
from segjax.assemble.setup import make_setup
from segjax.config import trials
from segjax.costs import hlo
from segjax.errors import ConfigError
from segjax.runs import live, train, writer
from segjax.runs.run import list_runs, open_run
from segjax.runtime import sharding

RATES = [1e-3, 4e-3]


def losses(path):
    return [r["train/loss"] for r in writer.read(path) if "train/loss" in r]


@pytest.mark.slow
def test_each_trial_is_the_run_alone_and_resumes(tmp_path, tiny_config):
    common = {"total_steps": 8, "log_steps": 1, "evals__val__every_percent": 50}
    both = tiny_config(trials__lr=RATES, **common)
    assert train.run(tmp_path / "both", both) == 0
    for i, rate in enumerate(RATES):
        alone, trial = tmp_path / f"alone{i}", tmp_path / "both" / f"trial{i}"
        assert train.run(alone, tiny_config(optimizer__lr=rate, **common)) == 0
        np.testing.assert_allclose(losses(trial), losses(alone), rtol=1e-3)
        own = json.loads((trial / "config.json").read_text())
        assert own["optimizer"]["lr"] == rate and not trials.count(own)
        scored = json.loads((trial / "eval" / "val.json").read_text())
        expected = json.loads((alone / "eval" / "val.json").read_text())
        assert scored["miou"] == pytest.approx(expected["miou"], abs=0.02)
        assert (trial / "figures" / "learning_curves.png").exists()
    first, second = (losses(tmp_path / "both" / f"trial{i}") for i in (0, 1))
    assert first[0] == second[0] and first[-1] != second[-1], "one start, two ways on"

    # Of what one trial has lost no other keeps the sequel.
    before = losses(tmp_path / "both" / "trial1")
    newest = max((tmp_path / "both/trial1/checkpoints").iterdir(), key=lambda p: int(p.name))
    assert newest.name == "8"
    shutil.rmtree(newest)
    assert train.run(tmp_path / "both", both) == 0
    assert losses(tmp_path / "both" / "trial1") == before
    assert (tmp_path / "both/trial0/checkpoints/8").exists()

    with pytest.raises(ConfigError, match="holds 2 trials.*trial0"):
        open_run(tmp_path / "both")
    assert open_run(tmp_path / "both" / "trial1").evaluate()[0].result["num_examples"] == 8
    assert [run.path.name for run in list_runs(tmp_path / "both")] == ["trial0", "trial1"]


def test_seeds_start_apart(tmp_path, tiny_config):
    config = tiny_config(trials__seed=[3, 4], total_steps=2, log_steps=1)
    assert [own["seed"] for own in trials.configs(config)] == [3, 4]
    starts = [size_at_start(member, config) for member in live.open_runs(config, tmp_path)]
    assert starts[0] != starts[1]


def size_at_start(member, config):
    setup, _ = make_setup(config)
    init, _, _ = program.make_step(setup, member.init_key)
    return float(sum(np.abs(leaf).sum() for leaf in jax.tree.leaves(init(member.init_key).params)))


@pytest.mark.slow
def test_nothing_passes_between_trials(tiny_config):
    config = tiny_config(trials__seed=[0, 1])
    setup, _ = make_setup(config)
    assert dict(setup.parts.mesh.shape) == {"trial": 2, "data": 4, "fsdp": 1, "space": 1}
    key = jax.random.key(0)
    compiled = program.trace(setup, key, key).compile()
    text = compiled.step.as_text()
    assert hlo.collectives_of(text)
    for groups in re.findall(
        r"replica_groups=(\{\{.*?\}\}|\[.*?\](?:<=\[.*?\](?:T\(.*?\))?)?)", text
    ):
        for group in expand(groups):
            assert {n // 4 for n in group} in ({0}, {1}), groups
    alone, _ = make_setup(tiny_config())
    expected = 2 * program.trace(alone, key, key).compile().costs.flops
    assert compiled.costs.flops == pytest.approx(expected, rel=1e-6)


def expand(groups):
    """Return replica groups, `{{0,1},{2,3}}` or `[2,4]<=[8]`, as lists of devices."""
    if groups.startswith("{"):
        return [list(map(int, g.split(","))) for g in re.findall(r"\{([\d,]+)\}", groups)]
    shape, order, turn = re.fullmatch(
        r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", groups
    ).groups()
    ids = np.arange(8).reshape(*map(int, order.split(",")))
    ids = ids.transpose(*map(int, turn.split(","))) if turn else ids
    return ids.reshape(*map(int, shape.split(","))).tolist()


def test_devices_must_divide():
    with pytest.raises(ConfigError, match="3 trials do not divide 8 devices. Use 2 or 4 or 8"):
        sharding.make_mesh(trials=3)
    with pytest.raises(ConfigError, match="does not make 4 devices for each of 2 trials"):
        sharding.make_mesh(data=8, trials=2)
