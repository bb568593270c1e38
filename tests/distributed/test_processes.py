"""One run on any number of processes: the same batches, the same losses, the same scores."""

import contextlib
import json

import numpy as np
import pytest

from segjax.config import sections
from segjax.data import core, pipeline, synthetic
from segjax.runs import digest, writer
from tests.distributed import curve, jobs, small_config

CONFIG = "--config=tests/distributed/small_config.py"


def losses(workdir):
    return [r["train/loss"] for r in writer.read(workdir) if "train/loss" in r]


def hashes(workdir):
    return {r["step"]: r["data/batch_hash"] for r in writer.read(workdir) if "data/batch_hash" in r}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "rtol"), [(":float64", 1e-10), ("", 1e-3)])
def test_two_processes_train_and_score_as_one_does(tmp_path, kind, rtol):
    """Batch norm, gradient accumulation, every augmentation; 1 device, 8, 2 × 4, then eval.

    Scored in windows that overlap, blended and flipped, on 1, 2 and 4 processes.
    """
    env = {"JAX_ENABLE_X64": "1" if kind else "0"}
    for count in (1, 2):
        work = tmp_path / f"run{count}"
        jobs.run(count, tmp_path / f"log{count}", CONFIG + kind, f"--workdir={work}",
                 devices=8 // count, **env)  # fmt: skip
        np.testing.assert_allclose(losses(work), curve.losses(kind.strip(":")), rtol=rtol)
    assert hashes(tmp_path / "run1") == hashes(tmp_path / "run2")
    if kind:
        reports = []
        for count in (1, 2, 4):  # the weights of one run
            jobs.run(count, tmp_path / "log", "--mode=eval", f"--workdir={tmp_path / 'run1'}",
                     devices=8 // count, **env)  # fmt: skip
            reports.append(json.loads((tmp_path / "run1" / "eval" / "val.json").read_text()))
        loss = [report.pop("loss") for report in reports]  # a float; all else is counted
        assert loss == [report["logged"].pop("val/loss") for report in reports]
        assert reports[0] == reports[1] == reports[2]
        np.testing.assert_allclose(loss, loss[0], rtol=1e-12)


@pytest.fixture(scope="module")
def expected():
    """Return the digests of 200 global batches as the pipeline makes them in this process."""
    config = sections.plain(small_config.get_config("data"))
    source = synthetic.Source(split="train", size=(32, 32), num_examples=24)
    size, seed = config["input"]["size"], config["seed"]
    batches = pipeline.train_batches(
        source, schema=core.choose_fields(source.schema), batch_size=16, size=tuple(size), seed=seed
    )
    with contextlib.closing(batches):
        return {step: digest.of_host(next(batches)) for step in range(1, 201)}


@pytest.mark.slow
@pytest.mark.parametrize("stages", [{1: 200}, {2: 200}, {4: 200}, {4: 70, 1: 140, 2: 200}])
def test_the_batches_are_the_same_for_any_number_of_processes(tmp_path, expected, stages):
    """Also when 4 processes go up to step 70, 1 to 140 and 2 to the end."""
    assert len(set(expected.values())) == 200
    work = tmp_path / "run"
    for count, steps in stages.items():
        length = [f"--config.total_steps={steps}", "--config.log_steps=50", "--allow_config_change"]
        job = jobs.run(count, tmp_path / "log", CONFIG + ":data", *length, f"--workdir={work}")
        for i in range(1, count):
            assert "step" not in job.text(i), "only process 0 reports"
    assert hashes(work) == expected


@pytest.mark.slow
def test_images_split_over_processes_give_the_same_losses(tmp_path):
    """`space` over two processes: both read the same images, each keeps its rows."""
    found = []
    for count, mesh in ((1, "--config.mesh.space=1"), (2, "--config.mesh.space=2")):
        work = tmp_path / f"run{count}"
        jobs.run(count, tmp_path / "log", CONFIG + ":data", mesh, "--config.total_steps=5",
                 f"--workdir={work}")  # fmt: skip
        found.append((losses(work), hashes(work)))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-3)
    assert found[0][1] == found[1][1]


@pytest.mark.slow
def test_one_wrong_process_ends_the_job_and_every_line_is_seen(tmp_path):
    """Bad data that only one process reads: its own line and code 2, the others follow it."""
    spoilt = "--config.input.source.type=tests.distributed.spoilt:Source"
    arguments = [CONFIG, spoilt, "--config.total_steps=1000"]
    job = jobs.Job(2, tmp_path, *arguments, f"--workdir={tmp_path / 'run'}")
    codes, seconds = job.wait()
    assert codes == [1, 2], job.text(0) + job.text(1)
    assert job.error(1).startswith("[process 1/2] error: spoilt")
    assert "process 1 ended: spoilt" in job.error(0)
    assert seconds < 200


def test_a_job_that_is_half_given_is_refused_at_once(tmp_path):
    job = jobs.Job(1, tmp_path, CONFIG, f"--workdir={tmp_path / 'run'}", "--process_id=1")
    assert job.wait(60)[0] == [2]
    assert "--coordinator and --num_processes missing" in job.error(0)


@pytest.mark.slow
def test_a_trial_for_each_process(tmp_path):
    """Nothing is exchanged, all read the same images, and process 0 writes of both."""
    for count in (1, 2):
        jobs.run(count, tmp_path / "log", CONFIG + ":data", "--config.trials.lr=(0.001, 0.01)",
                 "--config.total_steps=5", f"--workdir={tmp_path / f'run{count}'}",
                 devices=2 // count)  # fmt: skip
    curves = []
    for trial in ("trial0", "trial1"):
        one, two = (losses(tmp_path / f"run{count}" / trial) for count in (1, 2))
        np.testing.assert_allclose(one, two, rtol=1e-5)
        curves.append(one)
    assert curves[0] != curves[1]
    assert len(hashes(tmp_path / "run1" / "trial0")) == 5
    assert hashes(tmp_path / "run1" / "trial0") == hashes(tmp_path / "run2" / "trial0")
