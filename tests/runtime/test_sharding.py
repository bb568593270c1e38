import types

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from segjax.errors import ConfigError
from segjax.runtime import sharding
from segjax.structs import Field

SCHEMA = {
    "image": Field("image", (3,)),
    "label": Field("classes"),
    "spacing": Field("value", (3,), "float32"),
}


def test_one_axis_takes_what_the_others_leave():
    assert dict(sharding.make_mesh(data=-1, fsdp=2).shape) == {"data": 4, "fsdp": 2, "space": 1}
    for sizes in (dict(data=3), dict(data=-1, fsdp=-1), dict(data=-1, fsdp=3), dict(data=0)):
        with pytest.raises(ConfigError, match="does not make 8 devices"):
            sharding.make_mesh(**sizes)


def test_parameters_spread_their_longest_divisible_axis_over_fsdp():
    mesh = sharding.make_mesh(data=4, fsdp=2)
    shapes = {
        "kernel": jax.ShapeDtypeStruct((3, 3, 16, 32), "float32"),
        "odd": jax.ShapeDtypeStruct((3, 7), "float32"),
        "step": jax.ShapeDtypeStruct((), "int32"),
    }
    specs = jax.tree.map(lambda s: s.spec, sharding.infer(shapes, mesh))
    assert specs == {"kernel": P(None, None, None, "fsdp"), "odd": P(), "step": P()}


def test_a_split_that_does_not_divide_names_sizes_that_would():
    mesh = sharding.make_mesh(data=4, space=2)
    sharding.check_divides(8, 64, mesh, where="config.input")
    with pytest.raises(ConfigError, match="batch_size 6 does not divide over 4.*4 or 8"):
        sharding.check_divides(6, 64, mesh, where="config.input")
    with pytest.raises(ConfigError, match="length of the first axis in space 33 .* 32 or 34"):
        sharding.check_divides(8, 33, mesh, where="config.input")


def test_batches_arrive_in_order_and_placed():
    mesh = sharding.make_mesh(data=4, space=2)
    host = [
        dict(
            image=np.full((8, 4, 4, 3), i, np.uint8),
            label=np.full((8, 4, 4), i, np.int32),
            mask=np.ones(8, bool),
            index=np.arange(8, dtype=np.int32),
            spacing=np.full((8, 3), i, np.float32),
        )
        for i in range(5)
    ]
    arrived = list(sharding.to_device(iter(host), mesh, SCHEMA))
    assert [int(batch["label"][0, 0, 0]) for batch in arrived] == list(range(5))
    assert arrived[0]["image"].sharding.spec == P(("data", "fsdp"), "space")
    assert arrived[0]["label"].sharding.spec == P(("data", "fsdp"), "space")
    for name in ("mask", "index", "spacing"):
        assert arrived[0][name].sharding.spec == P(("data", "fsdp"))
    assert sharding.fetch(arrived[3])["image"].shape == (8, 4, 4, 3)


def job(monkeypatch, *, processes, devices, space, me):
    """Return a mesh as process `me` of several would see it."""
    owners = np.arange(processes * devices) // devices
    held = np.array([types.SimpleNamespace(process_index=p) for p in owners])
    monkeypatch.setattr(jax, "process_index", lambda: me)
    shape = {"data": held.size // space, "fsdp": 1, "space": space}
    return types.SimpleNamespace(devices=held.reshape(-1, 1, space), shape=shape)


@pytest.mark.parametrize(
    ("processes", "devices", "space", "blocks"),
    [
        (2, 4, 1, [(0, 2), (1, 2)]),
        (2, 4, 2, [(0, 2), (1, 2)]),
        (4, 2, 4, [(0, 2), (0, 2), (1, 2), (1, 2)]),  # two processes share each image
        (2, 1, 2, [(0, 1), (0, 1)]),
    ],
)
def test_each_process_reads_the_rows_that_its_devices_hold(
    monkeypatch, processes, devices, space, blocks
):
    for me in range(processes):
        mesh = job(monkeypatch, processes=processes, devices=devices, space=space, me=me)
        assert sharding.row_block(mesh) == blocks[me]


def test_rows_that_fall_across_processes_are_refused(monkeypatch):
    mesh = job(monkeypatch, processes=4, devices=3, space=2, me=1)
    with pytest.raises(ConfigError, match="space=2 does not fit processes of"):
        sharding.row_block(mesh)
