import contextlib
import json
import shutil
import threading
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.assemble import parts
from segjax.errors import ConfigError, UserError
from segjax.runs import checkpoint, damage, digest
from segjax.runtime import sharding
from segjax.training.state import TrainState


def state(step, ema=False):
    leaf = jnp.arange(32.0).reshape(4, 8) + step
    params = {"kernel": leaf}
    average = {"params": {"kernel": -leaf}, "batch_stats": {}} if ema else {}
    return TrainState(jnp.asarray(step), params, {}, (leaf, ()), average)


def save(path, values, **options):
    keeper = checkpoint.Checkpointer(path, keep_best="val/miou", **options)
    for step, value in values.items():
        keeper.save(step, state(step), {} if value is None else {"val/miou": value})
    keeper.close()
    return checkpoint.Checkpointer(path, keep_best="val/miou", **options)


def target(make=state):
    """Return shapes with placement of what `make` returns."""
    return parts.state_shapes(lambda _: make(0), jax.random.key(0), sharding.make_mesh())


def newest_step(keeper, make=state):
    """Return the step of the newest good checkpoint."""
    found = keeper.restore_newest(target(make))
    return found and found[0]


def test_keeps_the_newest_and_the_best_whatever_comes_later(tmp_path):
    values = {1: 0.2, 2: 0.9, 3: float("nan"), 4: 0.5, 5: None, 6: 0.1}
    keeper = save(tmp_path, values, keep_last=2)
    assert sorted(keeper.manager.all_steps()) == [2, 5, 6]
    assert (keeper.find("best"), keeper.find("latest"), keeper.find("5")) == (2, 6, 5)
    assert keeper.find("") == 2
    with pytest.raises(UserError, match=r"\[2, 5, 6\]"):
        keeper.find("4")


def test_without_a_best_the_latest_is_meant(tmp_path):
    assert save(tmp_path, {1: None, 2: None}).find("") == 2


def test_the_smallest_can_be_the_best(tmp_path):
    assert save(tmp_path, {1: 0.2, 2: 0.9, 3: 0.5}, keep_last=1, mode="min").find("best") == 1


def test_restores_bit_for_bit_onto_another_mesh(tmp_path):
    keeper = save(tmp_path, {7: 0.5})
    mesh = sharding.make_mesh(data=2, fsdp=4)
    shapes = parts.state_shapes(lambda _: state(0), jax.random.key(0), mesh)
    restored = keeper.restore(7, shapes)
    assert restored.params["kernel"].sharding.spec == jax.sharding.PartitionSpec(None, "fsdp")
    for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(state(7)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_reading_leaves_a_checkpoint_being_written_alone(tmp_path):
    save(tmp_path, {1: 0.5}).close()
    unfinished = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp"
    unfinished.mkdir()
    reader = checkpoint.Checkpointer(tmp_path, keep_best="val/miou", read_only=True)
    assert (reader.find("best"), reader.find("latest")) == (1, 1) and unfinished.exists()
    reader.close()
    assert newest_step(save(tmp_path, {})) == 1 and not unfinished.exists()


@pytest.mark.parametrize("ema", [False, True])
def test_evaluation_gets_the_average_where_there_is_one(tmp_path, ema):
    keeper = checkpoint.Checkpointer(tmp_path, keep_best="")
    keeper.save(3, state(3, ema=ema), {})
    keeper.close()
    mesh = sharding.make_mesh()
    shapes = jax.eval_shape(lambda: {"params": state(0).params, "batch_stats": {}})
    shapes = sharding.with_placement(shapes, sharding.infer(shapes, mesh))
    reader = checkpoint.Checkpointer(tmp_path, keep_best="")
    for wanted in (shapes, None):
        step, variables = reader.restore_variables("", wanted)
        assert step == 3
        sign = -1 if ema else 1
        kernel = sign * state(3).params["kernel"]
        np.testing.assert_array_equal(variables["params"]["kernel"], kernel)


def test_no_room_is_said_before_writing(tmp_path, monkeypatch):
    keeper = save(tmp_path, {1: 0.5})
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=10))
    with pytest.raises(UserError, match="disk full.*checkpoint 1 is the last good one"):
        keeper.save(2, state(2), {})
    assert newest_step(keeper) == 1


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file):
    file.write_bytes(b"")


def flip_a_byte(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x55
    file.write_bytes(content)


def remove(file):
    file.unlink()


def largest(folder):
    return max((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)


def whole_state(step):
    noise = jax.random.normal(jax.random.key(step), (64, 64))  # does not compress away
    return TrainState(jnp.asarray(step), {"kernel": noise}, {}, (jnp.ones(3), ()), {})


@pytest.fixture(scope="module")
def three_checkpoints(tmp_path_factory):
    path = tmp_path_factory.mktemp("three")
    with checkpoint.Checkpointer(path, keep_best="val/miou", keep_last=3) as keeper:
        for step in (1, 2, 3):
            keeper.save(step, whole_state(step), {"val/miou": 0.1 * step})
    return path


@pytest.fixture
def run_folder(three_checkpoints, tmp_path):
    shutil.copytree(three_checkpoints, tmp_path, dirs_exist_ok=True)
    return tmp_path


def reopen(path, **options):
    return checkpoint.Checkpointer(path, keep_best="val/miou", keep_last=3, **options)


def assert_is_state(keeper, step):
    restored = keeper.restore(step, target(whole_state))
    for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(whole_state(step)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("hurt", "name"),
    [
        (truncate, "_CHECKPOINT_METADATA"),
        (remove, "_CHECKPOINT_METADATA"),
        (empty, "default/_METADATA"),
        (flip_a_byte, "default/_METADATA"),
        (truncate, "largest"),
        (remove, "largest"),
        (flip_a_byte, "largest"),
    ],
)
def test_a_damaged_newest_checkpoint_is_named_moved_aside_and_saved_again(
    run_folder, capsys, hurt, name
):
    newest = run_folder / "checkpoints" / "3"
    hurt(largest(newest) if name == "largest" else newest / name)
    with reopen(run_folder) as keeper:
        assert newest_step(keeper, whole_state) == 2
        said = capsys.readouterr().err.splitlines()
        assert said[0].startswith(f"damaged checkpoint {newest}: ") and len(said) == 2
        assert said[1] == "checkpoint 2 is used instead"
        assert_is_state(keeper, 2)
        assert (newest.parent / "3.damaged").is_dir() and not newest.exists()
        keeper.save(3, whole_state(3), {})
    with reopen(run_folder) as keeper:
        assert newest_step(keeper, whole_state) == 3
        assert_is_state(keeper, 3)


def test_no_single_damaged_file_goes_unseen(three_checkpoints, tmp_path):
    """Whatever file is cut short, removed or changed: what is used is a state that was saved."""
    names = [f.relative_to(three_checkpoints) for f in three_checkpoints.rglob("3/**/*")]
    names = [name for name in names if (three_checkpoints / name).is_file()]
    assert len(names) > 8
    for number, name in enumerate(names):
        for hurt in (truncate, remove, flip_a_byte):
            folder = tmp_path / f"{number}{hurt.__name__}"
            shutil.copytree(three_checkpoints, folder)
            hurt(folder / name)
            keeper = reopen(folder)
            assert_is_state(keeper, newest_step(keeper, whole_state))
            keeper.close()
            shutil.rmtree(folder)


def test_evaluation_falls_back_too_and_touches_nothing(run_folder, capsys):
    truncate(largest(run_folder / "checkpoints" / "3"))
    before = sorted(run_folder.rglob("*"))
    with reopen(run_folder, read_only=True) as keeper:
        shapes = {name: getattr(target(whole_state), name) for name in ("params", "batch_stats")}

        def read(which):
            return keeper.restore_variables(which, shapes)[0]

        assert [read(which) for which in ("", "best", "latest")] == [2, 2, 2]
        assert "damaged checkpoint" in capsys.readouterr().err
        assert read("1") == 1
        with pytest.raises(UserError, match="damaged: 3, and there is no other"):
            read("3")
    assert sorted(run_folder.rglob("*")) == before


def test_all_damaged_is_an_error_and_all_stay(run_folder):
    for step in (1, 2, 3):
        truncate(largest(run_folder / "checkpoints" / str(step)))
    with reopen(run_folder) as keeper, pytest.raises(UserError, match="damaged: 3, 2, 1"):
        newest_step(keeper, whole_state)
    kept = [path.name for path in (run_folder / "checkpoints").iterdir() if path.name.isdigit()]
    assert sorted(kept) == ["1", "2", "3"]


def test_no_checkpoint_is_not_a_damaged_one(tmp_path):
    with reopen(tmp_path) as keeper:
        assert newest_step(keeper) is None


def test_a_checkpoint_saved_before_its_evaluation_is_ranked_after_it(tmp_path):
    with reopen(tmp_path) as keeper:
        keeper.save(1, whole_state(1), {"val/miou": 0.2})
        keeper.save(2, whole_state(2), {})
        keeper.wait()
        assert keeper.find("best") == 1
        keeper.save(2, whole_state(2), {"val/miou": 0.3})
    with reopen(tmp_path) as keeper:
        assert keeper.find("best") == 2
        assert_is_state(keeper, 2)


def test_checkpoints_can_go_elsewhere(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    with reopen(tmp_path / "run", root=str(elsewhere)) as keeper:
        keeper.save(1, whole_state(1), {})
    assert (elsewhere / "1" / "default").is_dir() and not (
        tmp_path / "run" / "checkpoints"
    ).exists()
    with reopen(tmp_path / "run", root=str(elsewhere), read_only=True) as keeper:
        assert keeper.find("latest") == 1


@pytest.mark.parametrize("root", ["gs://bucket/run", "nothing://known"])
def test_a_root_that_cannot_be_reached_says_what_is_missing(tmp_path, root):
    if root.startswith("gs"):
        pytest.importorskip("etils")
        with contextlib.suppress(ImportError):
            import gcsfs  # noqa: F401

            pytest.skip("gcsfs is installed: this would go to the network")
    with pytest.raises(ConfigError, match="config.checkpoint.root.*gcsfs"):
        reopen(tmp_path, root=root)


def test_an_error_does_not_wait_for_what_others_may_never_save(tmp_path, monkeypatch):
    """A full disk: the other process's part of the checkpoint on its way does not come."""
    monkeypatch.setattr(checkpoint, "LAST_SECONDS", 0.3)
    never = threading.Event()
    with checkpoint.Checkpointer(tmp_path, keep_best="") as checkpointer:
        with monkeypatch.context() as two:
            two.setattr(jax, "process_count", lambda: 2)
            two.setattr(checkpointer, "close", never.wait)
            start = time.monotonic()
            checkpointer.__exit__(UserError)
            assert 0.2 < time.monotonic() - start < 5
            checkpointer.__exit__(RuntimeError)  # another process is lost
            assert time.monotonic() - start < 5
        never.set()


def test_a_checkpoint_from_before_branches_had_digests_is_checked_as_a_whole(tmp_path, capsys):
    """One number for the whole tree stood in its metadata."""
    with reopen(tmp_path) as keeper:
        for step in (1, 2):
            keeper.save(step, whole_state(step), {})
    folder = tmp_path / "checkpoints"
    for step in (1, 2):
        for file in (folder / str(step)).rglob("digest.*.json"):
            file.unlink()
        metadata = folder / str(step) / "_CHECKPOINT_METADATA"
        content = json.loads(metadata.read_text())
        saved = digest.of_host(damage.read(folder / str(step), lambda _: None))
        content["custom_metadata"] = {"digest": saved + (step == 2)}
        metadata.write_text(json.dumps(content))
    with reopen(tmp_path) as keeper:
        assert newest_step(keeper, whole_state) == 1
    assert "some bytes have changed" in capsys.readouterr().err


def test_saving_waits_for_no_digest(tmp_path, monkeypatch):
    """Adding up is part of the background save: `save` returns before it is done."""
    going = threading.Event()
    real = digest.of_copies

    def slow(copies):
        assert going.wait(30)
        return real(copies)

    monkeypatch.setattr(digest, "of_copies", slow)
    with reopen(tmp_path) as keeper:
        keeper.save(1, whole_state(1), {})
        assert not (tmp_path / "checkpoints" / "1").exists()
        going.set()
        keeper.wait()
        assert newest_step(keeper, whole_state) == 1


def test_a_checkpoint_of_another_model_is_not_damaged(tmp_path):
    """It is refused by the first array that differs, and stays where it is, for its own config."""

    def wider(step):
        return state(step).replace(params={"kernel": jnp.zeros((4, 9))})

    def renamed(step):
        return state(step).replace(params={"other": jnp.zeros((4, 8))})

    def held_otherwise(step):
        return state(step).replace(opt_state=(state(step).opt_state[0], ((), ())))

    def optimised(step):
        return state(step).replace(opt_state=(jnp.zeros((4, 7)), ()))

    keeper = save(tmp_path, {3: 0.5})
    for make, said in (
        (wider, r"params/kernel is \(4, 8\), expected \(4, 9\)"),
        (renamed, r"params/other is not there"),
        (held_otherwise, "its arrays are held in another way"),
        (optimised, r"opt_state/0 is \(4, 8\), expected \(4, 7\)"),
    ):
        with pytest.raises(ConfigError, match=said):
            keeper.restore_newest(target(make))
    assert newest_step(keeper) == 3


def test_checkpoints_that_vanished_are_missed(tmp_path):
    """A run starts anew only where none of its checkpoints was ever complete."""
    checkpoint.check_not_lost(tmp_path, "")
    save(tmp_path, {1: 0.5, 2: 0.6}).close()
    checkpoint.check_not_lost(tmp_path, "")
    folder = tmp_path / "checkpoints"
    for ruin in (
        lambda: [shutil.rmtree(path) for path in folder.glob("[0-9]*")],
        lambda: shutil.rmtree(folder),
        lambda: folder.write_text("not a folder"),
    ):
        ruin()
        with pytest.raises(UserError, match="checkpoint 2 of this run was saved"):
            checkpoint.check_not_lost(tmp_path, "")
    (tmp_path / checkpoint.NEWEST).unlink()
    checkpoint.check_not_lost(tmp_path, "")


def test_what_is_deleted_meanwhile_is_saved_anew(tmp_path, capsys):
    keeper = checkpoint.Checkpointer(tmp_path, keep_best="")
    for step, gone in ((1, None), (2, "checkpoints/1"), (3, "checkpoints")):
        if gone:
            shutil.rmtree(tmp_path / gone)
        keeper.save(step, state(step), {})
        keeper.wait()
        assert keeper.find("latest") == step
    assert "[1, 2] were deleted" in capsys.readouterr().err or keeper.manager.all_steps() == [3]
    shutil.rmtree(tmp_path)
    with pytest.raises(UserError, match="is not there any more: it was moved or deleted"):
        keeper.save(4, state(4), {})
    assert not tmp_path.exists()
    keeper.manager.close()
