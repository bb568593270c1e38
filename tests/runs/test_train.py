"""Runs as wholes: they learn, resume bit for bit, compile once, and fail in one clear line."""

import contextlib
import json
import random
import signal
import subprocess
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from segjax.assemble import program as program_lib
from segjax.assemble.setup import make_setup
from segjax.errors import ConfigError, NonFiniteError, UserError
from segjax.runs import checkpoint, log, train, writer
from segjax.runtime import interrupt
from segjax.training.state import TrainState
from tests import program

DEBUG = "--config=configs/quickstart.py:debug"


def final_state(workdir, step):
    """Return every array of checkpoint `step`, as it lies on disk."""
    with ocp.CheckpointManager(workdir / "checkpoints") as manager:
        return manager.restore(step, args=ocp.args.PyTreeRestore())


def assert_bitwise(one, other):
    leaves, others = jax.tree.leaves(one), jax.tree.leaves(other)
    assert len(leaves) == len(others) > 10
    for a, b in zip(leaves, others, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.slow
def test_kill_9_ten_times_and_nothing_is_different(tmp_path):
    """Ten SIGKILLs at random moments of one run: its end is an undisturbed run's, bit for bit."""
    arguments = [
        DEBUG, "--config.total_steps=300", "--config.checkpoint.save_percent=1",
        "--config.evals.val.every_percent=50", "--config.ema_decay=0.9", "--config.log_steps=1",
    ]  # fmt: skip
    still, killed = tmp_path / "still", tmp_path / "killed"
    code, text = program.run(*arguments, f"--workdir={still}")
    assert code == 0, text
    moments = random.Random(0)
    begun = []
    for kill in range(10):
        process = program.start(*arguments, f"--workdir={killed}")
        if kill % 5:  # a checkpoint every 3 steps: one is nearly always being written
            begun.append(wait_for_steps(process, moments.randint(8, 30)))
        else:  # somewhere in the start-up
            time.sleep(moments.uniform(0.0, 2.0))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "the run ended before it was killed"
    assert begun == sorted(begun) and len(set(begun)) >= 4, begun
    code, text = program.run(*arguments, f"--workdir={killed}")
    assert code == 0, text
    assert_bitwise(final_state(still, 300), final_state(killed, 300))
    logs = [
        {(r["step"], name): value for r in writer.read(path) for name, value in r.items()
         if not name.startswith("time/")}
        for path in (still, killed)
    ]  # fmt: skip
    assert logs[0] == logs[1]


def wait_for_steps(process, count: int) -> int:
    """Return the step that a run began from, once it has done `count` more."""
    begin = None
    for line in process.stderr:
        begin = int(line.split("from step ")[1].split(",")[0]) if "from step" in line else begin
        if line.startswith("step ") and int(line.split()[1].split("/")[0]) >= begin + count:
            return begin
    raise AssertionError("the run ended too early")


@pytest.mark.slow
def test_sigterm_saves_and_leaves_with_75(tmp_path):
    arguments = [DEBUG, "--config.total_steps=2000", f"--workdir={tmp_path}"]
    arguments += ["--config.log_steps=1", "--config.evals.val.every_percent=100"]
    process = program.start(*arguments)
    wait_for_steps(process, 1)
    process.send_signal(signal.SIGTERM)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 75, text
    steps = [int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()]
    assert max(steps) >= writer.read(tmp_path)[-1]["step"]


@pytest.mark.slow
@pytest.mark.parametrize("call", [3, 6])
def test_sigterm_in_an_evaluation_does_not_wait_for_its_end(
    tmp_path, tiny_config, monkeypatch, call
):
    """It is saved at once, evaluated after the restart, and the same run in the end."""
    config = tiny_config(total_steps=4, evals__val__every_percent=50, log_steps=1)
    still, stopped = tmp_path / "still", tmp_path / "stopped"
    assert train.run(still, config) == train.DONE

    @contextlib.contextmanager
    def preempted_from(count):
        calls = iter(range(1, 1000))

        class Counting(interrupt.Stop):
            def __call__(self):  # once a step, once a batch of an evaluation
                return next(calls) >= count

        yield Counting()

    with monkeypatch.context() as patch:
        patch.setattr(interrupt, "stopping", lambda: preempted_from(call))
        assert train.run(stopped, config) == interrupt.SAVED
    step = {3: 2, 6: 4}[call]
    assert step not in {r["step"] for r in writer.read(stopped) if "val/miou" in r}
    assert (stopped / "checkpoints" / str(step)).exists()
    assert train.run(stopped, config) == train.DONE
    assert_bitwise(final_state(still, 4), final_state(stopped, 4))
    logs = [
        {(r["step"], name): value for r in writer.read(path) for name, value in r.items()
         if not name.startswith("time/")}
        for path in (still, stopped)
    ]  # fmt: skip
    assert logs[0] == logs[1]
    keepers = [checkpoint.Checkpointer(p, keep_best="val/miou") for p in (still, stopped)]
    assert keepers[0].find("best") == keepers[1].find("best")


@pytest.mark.slow
def test_one_compilation_then_none(tmp_path, tiny_config):
    """After the first train step and the first eval step nothing is compiled any more."""
    compiled = []

    def listen(name, _, **__):
        if name == "/jax/core/compile/backend_compile_duration":
            compiled.append(name)

    class Stop(Exception):
        pass

    counts = []

    def counting(self, number, scalars):
        original(self, number, scalars)
        counts.append(len(compiled))

    original = log.Log.read_previous
    jax.monitoring.register_event_duration_secs_listener(listen)
    log.Log.read_previous = counting
    try:
        config = tiny_config(total_steps=8, evals__val__every_percent=25)
        assert train.run(tmp_path, config) == 0
    finally:
        log.Log.read_previous = original
        jax.monitoring.clear_event_listeners()
    assert len(counts) == 8 and counts[0] > 0
    assert counts[2:] == [counts[2]] * 6, counts  # evaluations fall between steps 2, 4, 6, 8


@pytest.mark.slow
def test_microbatches_cost_the_same_flops(tiny_config):
    """XLA counts a loop's body once: half of it with two microbatches, and so would the MFU be."""
    costs = []
    for microbatches in (1, 2):
        config = tiny_config(microbatches=microbatches, input__batch_size=16)
        setup, _ = make_setup(config)
        key = jax.random.key(0)
        costs.append(program_lib.trace(setup, key, key).compile().costs.flops)
    assert costs[1] == pytest.approx(costs[0], rel=1e-3) and costs[0] > 1e6


@pytest.mark.slow
def test_it_learns(tmp_path, tiny_config):
    config = tiny_config(
        total_steps=150, log_steps=10, input__source__num_examples=8, optimizer__lr=1e-2
    )
    assert train.run(tmp_path, config) == 0
    losses = [r["train/loss"] for r in writer.read(tmp_path) if "train/loss" in r]
    assert losses[-1] < 0.4 * losses[0], losses
    result = json.loads((tmp_path / "eval" / "val.json").read_text())
    assert result["num_examples"] == 8 and result["step"] == result["checkpoint"] <= 150


@pytest.mark.slow
def test_the_same_run_on_one_device_and_on_eight(tmp_path, tiny_config):
    """Other sums, same run: to rounding after a few steps of plain SGD."""
    losses = []
    for name, mesh in (
        ("eight", dict(data=8, fsdp=1, space=1)),
        ("mixed", dict(data=2, fsdp=4, space=1)),
    ):
        config = tiny_config(total_steps=4, log_steps=1)
        config["mesh"] = mesh
        assert train.run(tmp_path / name, config) == 0
        losses.append([r["train/loss"] for r in writer.read(tmp_path / name) if "train/loss" in r])
    np.testing.assert_allclose(losses[0], losses[1], rtol=2e-3)


@pytest.mark.slow
def test_another_config_in_the_workdir_is_refused_untouched(tmp_path, tiny_config):
    assert train.run(tmp_path, tiny_config()) == 0
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.json*") if p.is_file()}
    with pytest.raises(ConfigError, match="seed: 0 there, 3 now"):
        train.run(tmp_path, tiny_config(seed=3))
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*.json*") if p.is_file()}
    assert train.run(tmp_path, tiny_config(total_steps=3), allow_config_change=True) == 0
    assert (tmp_path / "checkpoints" / "3").exists()


@pytest.mark.slow
def test_what_has_exploded_is_named_and_never_saved(tmp_path, tiny_config):
    """A loss is known one step after the parameters that it is of, which may be saved by then."""
    config = tiny_config(total_steps=2, optimizer__clip_norm=0.0, optimizer__decay="all")
    config["optimizer"]["schedule"] = dict(type="step", every_steps=100, warmup_steps=0)
    config["checkpoint"] = dict(save_steps=1, keep_last=2, keep_best="", mode="max")
    assert train.run(tmp_path, config) == train.DONE
    config["total_steps"] = 30
    # All parameters, some of which are 1, grow 1e12 times a step.
    config["optimizer"] |= {"lr": 1e6, "weight_decay": 1e6}
    good = final_state(tmp_path, 2)
    for save_steps, said in (
        (1, r"largest parameter is \S+ after step 3.*checkpoint before this step stays"),
        (100, r"train/loss.* at step \d+.*last good checkpoint"),
    ):
        config["checkpoint"]["save_steps"] = save_steps
        with pytest.raises(NonFiniteError, match=said):
            train.run(tmp_path, config, allow_config_change=True)
        kept = [int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()]
        assert sorted(kept) == [1, 2]
    assert_bitwise(final_state(tmp_path, 2), good)


@pytest.mark.slow
def test_a_full_disk_is_said_and_the_last_checkpoint_stays(tmp_path):
    """On a real file system of two megabytes, in its own mount namespace where we may make one."""
    mount = ["unshare", "-m", "sh", "-c"]
    probe = f"mount -t tmpfs -o size=1m none {tmp_path}"
    if subprocess.run([*mount, probe], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs (root, or CI's container)")
    command = [
        program.sys.executable, "run.py", DEBUG, f"--workdir={tmp_path}/run",
        "--config.total_steps=400", "--config.checkpoint.save_percent=1",
        "--config.checkpoint.keep_last=200", "--config.checkpoint.keep_best=",
        "--config.evals.val.every_percent=100",
    ]  # fmt: skip
    script = f"mount -t tmpfs -o size=2m none {tmp_path} && {' '.join(command)}; code=$?; "
    script += f"ls {tmp_path}/run/checkpoints; exit $code"
    env = {**program.os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [*mount, script], cwd=program.ROOT, env=env, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "disk full" in done.stderr and "Free space" in done.stderr
    assert done.stdout.split(), "the checkpoints saved before are still there"


def test_the_disk_running_full_while_orbax_writes_is_the_same_line(tmp_path, monkeypatch, capfd):
    """As when another program takes the last bytes after we looked."""
    monkeypatch.setattr(checkpoint, "SLACK", -(1 << 40))
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", tmp_path]).returncode:
        pytest.skip("needs the right to mount a small tmpfs (root, or CI's container)")
    try:
        keeper = checkpoint.Checkpointer(tmp_path, keep_best="", keep_last=100)
        noise = jax.random.normal(jax.random.key(0), (40_000,))  # does not compress
        with pytest.raises(UserError, match="disk full while saving.*is the last good one"):
            for step in range(1, 20):
                params = {"kernel": noise + step}
                empty = TrainState(np.int32(step), params, {}, (), {})
                keeper.save(step, jax.tree.map(jax.numpy.asarray, empty), {})
                keeper.wait()
        assert keeper.find("latest") >= 1
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)
    assert "Traceback" not in capfd.readouterr().err
