"""Weight files are read without PyTorch, and nothing in them is run."""

import os
import pickle

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from segjax.errors import DataError
from segjax.pretrained import files
from tests import parity
from tests.pretrained import pth

DTYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.int64, np.int32, np.uint8]


def noise(*shape, dtype=np.float32):
    return (np.random.default_rng(len(shape)).normal(size=shape) * 9).astype(dtype)


@pytest.mark.parametrize("legacy", [False, True])
def test_arrays_by_the_names_of_what_they_are_nested_in(tmp_path, legacy):
    arrays = {f"a{i}": noise(3, 2, dtype=dtype) for i, dtype in enumerate(DTYPES)}
    arrays |= {"scalar": np.array(3, np.float32), "empty": np.zeros((0, 4), np.float32)}
    tree = {"epoch": 7, "arch": "unet", "state_dict": {f"module.{k}": v for k, v in arrays.items()}}
    pth.write(tmp_path / "x.pth", tree | {"both": (noise(2), 5)}, legacy=legacy)
    found = files.read(tmp_path / "x.pth")
    assert set(found) == {f"state_dict.module.{name}" for name in arrays} | {"both.0"}
    for name, array in arrays.items():
        got = found[f"state_dict.module.{name}"]
        assert got.dtype == array.dtype and got.shape == array.shape
        np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_may_share_and_skip_numbers(tmp_path, legacy):
    numbers = np.arange(24, dtype=np.float32)
    tree = {
        "whole": pth.View(numbers, 0, (4, 6), (6, 1)),
        "transposed": pth.View(numbers, 0, (6, 4), (1, 6)),
        "corner": pth.View(numbers, 7, (2, 2), (12, 2)),
        "expanded": pth.View(numbers, 5, (3, 2), (0, 1)),
    }
    pth.write(tmp_path / "x.pth", tree, legacy=legacy)
    found = files.read(tmp_path / "x.pth")
    table = numbers.reshape(4, 6)
    np.testing.assert_array_equal(found["transposed"], table.T)
    np.testing.assert_array_equal(found["corner"], table[1::2, 1:5:2])
    np.testing.assert_array_equal(found["expanded"], [[5, 6]] * 3)
    assert np.shares_memory(found["whole"], found["corner"])
    assert not found["whole"].flags.writeable


def test_safetensors_of_every_dtype(tmp_path):
    arrays = {f"layer.a{i}": noise(3, 2, dtype=dtype) for i, dtype in enumerate(DTYPES)}
    safetensors.numpy.save_file(arrays, tmp_path / "x.bin")  # the name's ending does not matter
    found = files.read(tmp_path / "x.bin")
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


class Malice:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("function", "arguments", "said"),
    [
        (os.system, ("touch {}",), "asks for posix.system"),
        (eval, ("open({!r}, 'w')",), "asks for builtins.eval"),
        (getattr, ("", "format"), "asks for builtins.getattr"),
        (pickle.loads, (b"",), "asks for _pickle.loads"),
    ],
)
def test_a_pickle_that_asks_for_more_is_refused(tmp_path, legacy, function, arguments, said):
    trace = tmp_path / "it_ran"
    arguments = [x.format(str(trace)) if isinstance(x, str) else x for x in arguments]
    tree = {"weight": 1, "bad": Malice(function, *arguments)}
    path = tmp_path / "x.pth"
    if legacy:
        head = b"".join(pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {}))
        path.write_bytes(head + pickle.dumps(tree))
    else:
        pth.archive(path, pickle.dumps(tree), [])
    with pytest.raises(DataError, match=said) as error:
        files.read(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    assert not trace.exists()


REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
ORDERED = b"ccollections\nOrderedDict\n"
CHANGES = [
    REBUILD + b"}Vx\nI1\nsb",  # sets attributes of what a pickle may name
    ORDERED + b"}V__setitem__\nI1\nsb",
    REBUILD + b"(N}V__call__\n" + ORDERED + b"stb",
    b"(" + REBUILD + b"t\x81",
    b"ctorch\nFloatStorage\n)R",
    b"ccollections\nOrderedDict.update\n",
    b"ctorch.storage\n_load_from_bytes\n",
    b"(Vmodule\nI1\nI1\nI1\nI1\ntQ",
    b"(VNone\ntQ",
    b"\x82\x01",
]


@pytest.mark.parametrize("program", CHANGES)
def test_what_a_pickle_may_name_it_cannot_change(tmp_path, program):
    pth.archive(tmp_path / "bad.pth", b"\x80\x02" + program + b".", [])
    with pytest.raises(DataError) as error:
        files.read(tmp_path / "bad.pth")
    assert "\n" not in str(error.value)
    pth.write(tmp_path / "good.pth", {"a": noise(2)})
    np.testing.assert_array_equal(files.read(tmp_path / "good.pth")["a"], noise(2))


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(5, (4,), (1,)), (0, (3, 3), (4, 1)), (-1, (2,), (1,)), (0, (2,), (-1,)), (0, (2, 2), (1,))],
)
def test_a_tensor_stays_in_its_storage(tmp_path, offset, size, stride):
    view = pth.View(np.zeros(8, np.float32), offset, size, stride)
    pth.write(tmp_path / "x.pth", {"a": view})
    with pytest.raises(DataError, match="x.pth"):
        files.read(tmp_path / "x.pth")


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_file_cut_short_is_one_line(tmp_path, kind):
    path = tmp_path / "x"
    if kind == "safetensors":
        safetensors.numpy.save_file({"a": noise(40, 3), "b": noise(3)}, path)
    else:
        pth.write(path, {"a": noise(40, 3), "b": noise(3)}, legacy=kind == "legacy")
    content = path.read_bytes()
    assert len(files.read(path)) == 2
    for share in (0.0, 0.02, 0.3, 0.6, 0.99):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(DataError) as error:
            files.read(path)
        assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_changed_bytes_in_an_archive_are_found(tmp_path):
    path = tmp_path / "x.pth"
    pth.write(path, {"a": noise(400)})
    content = bytearray(path.read_bytes())
    content[content.index(noise(400).tobytes()) + 80] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="CRC"):
        files.read(path)


@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html><html>", b"version https://git-lfs.github.com/spec/v1\n", b"PK"]
)
def test_what_is_no_weight_file_is_shown(tmp_path, content):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(DataError, match=content[:4].decode()):
        files.read(tmp_path / "x.pth")


def test_no_arrays_and_no_file_are_errors(tmp_path):
    pth.write(tmp_path / "x.pth", {"epoch": 3})
    with pytest.raises(DataError, match="no arrays"):
        files.read(tmp_path / "x.pth")
    with pytest.raises(DataError, match="No such file"):
        files.read(tmp_path / "y.pth")


@pytest.mark.parametrize("legacy", [False, True])
def test_what_pytorch_writes(tmp_path, legacy):
    torch = pytest.importorskip("torch", reason=parity.REASON)
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {
        name: base.to(getattr(torch, name))
        for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16",
                     "int8", "uint8", "bool")
    }  # fmt: skip
    tensors |= {"transposed": base.T, "row": base[1, ::2], "expanded": base[:1].expand(5, 6)}
    tensors |= {"parameter": torch.nn.Parameter(base), "scalar": torch.tensor(7)}
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    tree = {"model": network.state_dict(), "tensors": tensors, "epoch": 3, "lr": 0.1}
    path = tmp_path / "x.pth"
    torch.save(tree, path, _use_new_zipfile_serialization=not legacy)
    found = files.read(path)
    expected = {f"model.{name}": tensor for name, tensor in network.state_dict().items()}
    expected |= {f"tensors.{name}": tensor.detach() for name, tensor in tensors.items()}
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert str(found[name].dtype) == str(tensor.dtype).removeprefix("torch.")
        np.testing.assert_array_equal(found[name].astype(np.float64), tensor.double().numpy())
    assert np.shares_memory(found["tensors.row"], found["tensors.transposed"])


def test_a_whole_network_of_pytorch_is_refused_by_name(tmp_path):
    torch = pytest.importorskip("torch", reason=parity.REASON)
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pth")
    with pytest.raises(DataError, match=r"torch\.nn\.modules\.linear\.Linear"):
        files.read(tmp_path / "x.pth")
