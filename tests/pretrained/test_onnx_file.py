"""Initialisers of ONNX files are read without ONNX, and without trusting the file."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from segjax.errors import DataError
from segjax.pretrained import files, onnx_file
from tests.pretrained import bombs

KINDS = ("f4", "f8", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?")


def model(*tensors):
    """Return the bytes of a model with these initialisers, a node and names before and after."""
    node = helper.make_node("Add", ["a", "a"], ["y"])
    graph = helper.make_graph([node], "graph", [], [], [*tensors])
    return helper.make_model(graph, producer_name="tests").SerializeToString()


def test_arrays_of_every_kind(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {kind: (rng.normal(size=(3, 2)) * 9).astype(kind) for kind in KINDS}
    arrays |= {"encoder._bn0.weight": np.float32(3), "empty": np.zeros((0, 4), "f4")}
    tensors = [numpy_helper.from_array(np.asarray(x), name) for name, x in arrays.items()]
    (tmp_path / "x.onnx").write_bytes(model(*tensors))
    found = files.read(tmp_path / "x.onnx")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and not found[name].flags.writeable
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    "kind", ["FLOAT", "DOUBLE", "INT64", "INT32", "UINT64", "UINT8", "FLOAT16", "BFLOAT16", "BOOL"]
)
def test_numbers_in_fields_of_their_own(kind):
    """As `onnx.helper` writes them, not as raw bytes; bfloat16's bits are those of a uint16."""
    values = [0, 1, 1, 0] if kind in ("BOOL", "UINT8", "UINT64") else [0, 1, -1, 2]
    tensor = helper.make_tensor("x", getattr(TensorProto, kind), [2, 2], values)
    found = onnx_file.arrays(model(tensor))["x"]
    np.testing.assert_array_equal(found.astype(float), np.reshape(values, (2, 2)))


def external():
    tensor = numpy_helper.from_array(np.ones(3, "f4"), "x")
    onnx.external_data_helper.set_external_data(tensor, "../../secret")
    return model(tensor)


def changed(**fields):
    tensor = numpy_helper.from_array(np.ones(3, "f4"), "x")
    for name, value in fields.items():
        if name == "dims":
            del tensor.dims[:]
            tensor.dims.extend(value)
        else:
            setattr(tensor, name, value)
    return model(tensor)


ONE = numpy_helper.from_array(np.ones(3, "f4"), "x")
HOSTILE = {
    "another file": (external, "in another file"),
    "more than there is": (lambda: changed(dims=[2**40]), "not those of its shape"),
    "negative": (lambda: changed(dims=[-1, -3]), "not those of its shape"),
    "many axes": (lambda: changed(dims=[1] * 17), "more than 16 axes"),
    "texts": (lambda: changed(data_type=TensorProto.STRING), "holds no numbers"),
    "twice": (lambda: model(ONE, ONE), "two of its arrays"),
    "cut": (lambda: model(ONE)[:-20], "ends inside a field"),
    "many fields": (lambda: b"\x08\x01" * (onnx_file.MAX_FIELDS + 1), "more than 262,144"),
    "an endless number": (lambda: b"\x08" + b"\xff" * 99, "more than 64 bits"),
    "a group": (lambda: b"\x08\x01\x0b", "no such kind"),
    "beyond its kind": (
        lambda: model(helper.make_tensor("x", TensorProto.INT32, [1], [300]), ONE)
        .replace(b"\x10\x06", b"\x10\x03", 1),
        "beyond its kind",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_says_why(tmp_path, name):
    make, said = HOSTILE[name]
    (tmp_path / "x.onnx").write_bytes(make())
    with pytest.raises(DataError, match=said) as error:
        files.read(tmp_path / "x.onnx")
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_the_bombs_are_of_this_format():
    assert all(content.startswith(onnx_file.START) for content in bombs.onnx().values())
