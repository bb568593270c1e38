"""Signals, dead processes, hangs and damaged checkpoints in a job of two processes."""

import re
import signal

import pytest

from tests.distributed import jobs

ARGUMENTS = [
    "--config=tests/distributed/small_config.py:data", "--config.total_steps=4000",
    "--config.checkpoint.save_percent=1", "--config.log_batch_hashes=False",
]  # fmt: skip


def checkpoints(work):
    return sorted(int(p.name) for p in (work / "checkpoints").iterdir() if p.name.isdigit())


@pytest.mark.slow
@pytest.mark.parametrize("whom", [0, 1])
def test_sigterm_to_either_saves_one_checkpoint_together(tmp_path, whom):
    work = tmp_path / "run"
    job = jobs.Job(2, tmp_path, *ARGUMENTS, f"--workdir={work}")
    job.wait_for_step(5)
    job[whom].send_signal(signal.SIGTERM)
    codes, seconds = job.wait(60)
    assert codes == [75, 75], job.text(0) + job.text(1)
    said = re.findall(r"preempted: checkpoint (\d+) is saved", job.text(0) + job.text(1))
    assert len(said) == 1 and checkpoints(work)[-1] == int(said[0]) >= job.step()
    again = jobs.Job(1, tmp_path / "again", *ARGUMENTS, f"--workdir={work}")
    again.wait_for_step(int(said[0]) + 1)
    again[0].send_signal(signal.SIGTERM)
    assert again.wait(60)[0] == [75] and f"from step {said[0]}" in again.text()


@pytest.mark.slow
def test_kill_9_of_one_ends_the_other_with_a_message(tmp_path):
    for victim, survivor in ((1, 0), (0, 1)):
        job = jobs.Job(2, tmp_path, *ARGUMENTS, f"--workdir={tmp_path / str(victim)}")
        job.wait_for_step(5)
        job[victim].kill()
        codes, seconds = job.wait(60)
        assert codes[victim] == -signal.SIGKILL and codes[survivor] not in (0, 2, 75)
        text = job.text(survivor)
        assert "another process does not answer" in text or "another task died" in text, text
        if victim == 1:  # with process 0 goes JAX's coordinator: then JAX may be the one to end it
            assert codes[0] == 1 and "error: process 1 ended: without a word" in job.error(0)


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_falls_back_in_all_processes(tmp_path):
    work = tmp_path / "run"
    arguments = [*ARGUMENTS, f"--workdir={work}"]
    arguments[1] = "--config.total_steps=30"
    arguments[2] = "--config.checkpoint.save_percent=34"
    jobs.run(2, tmp_path, *arguments)
    *_, before, newest = checkpoints(work)
    folder = work / "checkpoints" / str(newest)
    file = max((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    job = jobs.run(2, tmp_path, *arguments)
    text = job.text(0) + job.text(1)
    assert text.count(f"damaged checkpoint {folder}") == 1, text
    assert f"from step {before}" in text
    assert (work / "checkpoints" / f"{newest}.damaged").is_dir() and folder.is_dir()


@pytest.mark.slow
def test_a_hang_names_step_and_phase_in_each_process_then_ends_the_job(tmp_path):
    stuck = "--config.input.source.type=tests.distributed.spoilt:Stuck"
    job = jobs.Job(2, tmp_path, *ARGUMENTS, stuck, f"--workdir={tmp_path / 'run'}",
                   SEGJAX_STALL_SECONDS="25")  # fmt: skip
    codes, _ = job.wait(240)
    assert codes == [1, 1], job.text(0) + job.text(1)
    said = [re.findall(r"no progress: step (\d+) in '([\w ]+)'", job.text(i)) for i in range(2)]
    assert said[1][-1][1] == "data wait" and said[0][-1][1] == "step"
    assert "[process 1/2] no progress" in job.text(1)
    text = job.text(0) + job.text(1)
    assert "error: stalled: step" in text
    assert "spoilt.py" in text, "the stacks show where it hangs"
