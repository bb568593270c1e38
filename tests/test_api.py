"""`import segjax`: quick, without jax, and all that a notebook needs."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

import segjax
from segjax.errors import UserError
from segjax.runs.run import Run
from tests import program


def test_importing_it_imports_next_to_nothing():
    """Counted, not timed: what takes long are jax, flax, matplotlib and the like."""
    code = "import sys, segjax; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=program.ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "segjax" in loaded
    assert not loaded & {"jax", "jaxlib", "flax", "numpy", "matplotlib", "ml_collections", "absl"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from configs import quickstart

    path = tmp_path_factory.mktemp("runs") / "quickstart"
    config = quickstart.get_config("debug")
    config.mesh.data = 8
    scored = []
    config.total_steps = 6
    config.evals.val.every_steps = 1
    del config.evals.val.every_percent

    def enough(live, step, scalars):
        scored.append((live.path, step, scalars["val/miou"]))
        return step == 2

    run = segjax.train(config, path, on_score=enough)
    return run, path, scored


def test_training_ends_where_the_hook_says_so(trained):
    run, path, scored = trained
    assert [(where, step) for where, step, _ in scored] == [(path, 1), (path, 2)]
    assert sorted(int(p.name) for p in (path / "checkpoints").glob("[0-9]*"))[-1] == 2
    assert isinstance(run, Run) and run.path == path


def test_a_run_needs_nothing_but_its_folder(trained):
    _, path, scored = trained
    run = segjax.open_run(path, checkpoint="latest")
    assert run.step == 2 and run.config["model"]["type"] == "unet"
    logged = [record["val/miou"] for record in run.metrics() if "val/miou" in record]
    assert logged == [miou for _, _, miou in scored]
    (report,) = run.evaluate("val")
    assert report.result["miou"] == pytest.approx(scored[-1][2], abs=1e-6)
    predict = run.predictor()
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    found = predict(image)
    assert found.classes.shape == (50, 70) and found.classes.dtype == np.uint8
    probabilities = found.probabilities()
    assert probabilities.shape == (50, 70, len(run.parts.classes.class_names))
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-4)


def test_best_is_the_best_that_was_scored(trained):
    _, path, scored = trained
    best = max(scored, key=lambda each: each[2])[1]
    assert segjax.open_run(path).step == segjax.open_run(path, "best").step == best


def test_checkpoints_of_a_run_are_an_ensemble(trained, tmp_path):
    """The scores of its members are averaged, in what it predicts and in what is scored."""
    _, path, _ = trained
    steps = [segjax.open_run(path, checkpoint=step) for step in ("1", "2")]
    both = segjax.open_run(path, checkpoint=["1", "2"])
    image = np.random.default_rng(0).integers(0, 255, (70, 50, 3), np.uint8)
    first, second = (np.log(run.predictor()(image).probabilities()) for run in steps)
    expected = np.exp((first + second) / 2)
    expected /= expected.sum(-1, keepdims=True)
    np.testing.assert_allclose(both.predictor()(image).probabilities(), expected, atol=1e-5)
    names = {both.variant(), *(run.variant() for run in steps)}
    assert len(names) == 3 and both.variant().startswith("ensemble2-")
    once = segjax.open_run([path, path], "1")
    assert not once.others and once.variant() == "step1" and "some are one" in once.notes()[0]
    assert both.notes() == [f"ensemble of 2: {path} step 1, {path} step 2"]
    copied = tmp_path / "fold"
    shutil.copytree(path, copied)
    folds = segjax.open_run([path, copied], checkpoint="1")
    alone = steps[0].predictor()(image).probabilities()
    np.testing.assert_allclose(folds.predictor()(image).probabilities(), alone, atol=1e-6)
    for wrong, said in (
        (lambda: segjax.open_run([path, copied], ["1", "2"]), "2 runs and 2 checkpoints"),
        (lambda: segjax.open_run([path, tmp_path]), "no config.json"),
    ):
        with pytest.raises(UserError, match=said):
            wrong()
    config = json.loads((copied / "config.json").read_text())
    config["inference"] = config["inference"] | {"blend": "flat"}
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="has other layout than"):
        segjax.open_run([path, copied], checkpoint="1")


def test_runs_are_listed_by_folder(trained):
    _, path, _ = trained
    assert [run.path for run in segjax.list_runs(path.parent)] == [path]
    assert segjax.list_runs(path / "figures") == []


def test_what_is_not_there_is_said(trained, tmp_path):
    _, path, _ = trained
    with pytest.raises(UserError, match="no config.json"):
        segjax.open_run(tmp_path)
    with pytest.raises(UserError, match="It has steps"):
        segjax.open_run(path, checkpoint="77")
    with pytest.raises(UserError, match="'tset' is no key of config.evals"):
        segjax.open_run(path).evaluate("tset")
