import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import assemble, checkpoint, sharding
from segjax.errors import ConfigError, UserError
from segjax.state import TrainState


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
    target = assemble.state_shapes(lambda _: state(0), jax.random.key(0), mesh)
    restored = keeper.restore(7, target)
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
    assert save(tmp_path, {}).latest_step() == 1 and not unfinished.exists()


@pytest.mark.parametrize("ema", [False, True])
def test_evaluation_gets_the_average_where_there_is_one(tmp_path, ema):
    keeper = checkpoint.Checkpointer(tmp_path, keep_best="")
    keeper.save(3, state(3, ema=ema), {})
    keeper.close()
    mesh = sharding.make_mesh()
    shapes = jax.eval_shape(lambda: {"params": state(0).params, "batch_stats": {}})
    shapes = assemble.with_sharding(shapes, sharding.infer(shapes, mesh))
    variables = checkpoint.Checkpointer(tmp_path, keep_best="").restore_variables(3, shapes)
    sign = -1 if ema else 1
    np.testing.assert_array_equal(variables["params"]["kernel"], sign * state(3).params["kernel"])


def test_no_room_is_said_before_writing(tmp_path, monkeypatch):
    keeper = save(tmp_path, {1: 0.5})
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=10))
    with pytest.raises(UserError, match="disk full.*checkpoint 1 is the last good one"):
        keeper.save(2, state(2), {})
    assert keeper.latest_step() == 1


def test_wrong_options_are_errors(tmp_path):
    with pytest.raises(ConfigError, match="'max' or 'min'"):
        checkpoint.Checkpointer(tmp_path, keep_best="", mode="biggest")
