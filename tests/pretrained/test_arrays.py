"""Pickles of NumPy arrays, as detectron2's: read as they are, and nothing that they name is run."""

import os
import pickle
import struct

import numpy as np
import pytest

from segjax.errors import DataError
from segjax.export import weights
from segjax.pretrained import files

NUMBERS = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
CONTENT = {
    "model": {
        "backbone.weight": NUMBERS,
        "columns": np.asfortranarray(NUMBERS[0]),
        "steps": np.array(7),
        "big_endian": NUMBERS.astype(">f8"),
        "half": NUMBERS.astype(np.float16),
        "flags": NUMBERS > 3,
        "none": np.zeros((0, 3), np.int32),
        "same": NUMBERS,
    },
    "__author__": "someone",
    "matching_heuristics": True,
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_by_the_names_of_what_they_are_nested_in(tmp_path, protocol):
    """Whatever the protocol: bytes are text, bytes, or a buffer; others are left out."""
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(CONTENT, protocol))
    found = files.read(tmp_path / "x.pkl")
    assert set(found) == {f"model.{name}" for name in CONTENT["model"]}
    for name, expected in CONTENT["model"].items():
        np.testing.assert_array_equal(found[f"model.{name}"], expected)
        assert found[f"model.{name}"].dtype == expected.dtype
        assert not found[f"model.{name}"].flags.writeable


def test_what_is_exported_is_what_pickle_reads(tmp_path):
    weights.save(tmp_path / "x.pkl", {"a.weight": NUMBERS}, about={"step": "3"})
    content = pickle.loads((tmp_path / "x.pkl").read_bytes())
    assert content["__author__"] == "segjax" and content["step"] == "3"
    np.testing.assert_array_equal(content["model"]["a.weight"], NUMBERS)


def of_python_2(data, *, dtype=b"f4", shape=b"K\x18\x85", order=b"<"):
    """Return the pickle of `{"a": array}` as Python 2 wrote it: its bytes are a string."""

    def text(content):
        return b"T" + struct.pack("<i", len(content)) + content

    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + text(b"b")
    kind = b"cnumpy\ndtype\n(" + text(dtype) + b"K\x00K\x01tR(K\x03" + text(order)
    kind += b"NNN" + 2 * b"J\xff\xff\xff\xff" + b"K\x00tb"
    state = b"(K\x01" + shape + kind + b"\x89" + text(data) + b"tb"
    return b"\x80\x02}" + text(b"a") + array + b"tR" + state + b"s."


@pytest.mark.parametrize("numbers", [NUMBERS, np.zeros(24, "f4"), np.full(24, 0.3, "f4")])
def test_what_python_2_wrote(tmp_path, numbers):
    """Bytes that are text by chance, and bytes that are none."""
    (tmp_path / "x.pkl").write_bytes(of_python_2(numbers.tobytes()))
    np.testing.assert_array_equal(files.read(tmp_path / "x.pkl")["a"], numbers.ravel())


DATA = NUMBERS.tobytes()
GROWING = b"\x80\x02](" + b"c_codecs\nencode\n(X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20)
GROWING += b"q\x00X\x06\x00\x00\x00latin1tR"
GROWING += b"c_codecs\nencode\n(h\x00X\x06\x00\x00\x00latin1tR" * 200 + b"e."
HOSTILE = {
    "another call": (pickle.dumps(os.getcwd, 2), "asks for posix.getcwd"),
    "another call of numpy": (b"\x80\x02cnumpy\nload\nX\x01\x00\x00\x00a\x85R.", "numpy.load"),
    "objects": (of_python_2(DATA, dtype=b"O8"), "is of O8|is of 'O8'"),
    "more than there is": (of_python_2(DATA, shape=b"J\xff\xff\xff\x7f\x85"), "96 bytes"),
    "a negative side": (of_python_2(DATA, shape=b"J\xff\xff\xff\xff\x85"), "no shape"),
    "another order": (of_python_2(DATA, order=b"?"), "no order"),
    "no contents": (
        b"\x80\x02}X\x01\x00\x00\x00acnumpy.core.multiarray\n_reconstruct\n)Rs.", "no contents"
    ),
    "a million times": (GROWING, "much larger than the file"),
    "cut short": (of_python_2(DATA)[:-20], "cannot be read"),
    "a long text": (b"\x80\x02X" + struct.pack("<I", 2**32 - 1), "at once"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_says_why(tmp_path, name):
    """The rule: nothing it names is called, and what it takes is counted before it costs."""
    content, said = HOSTILE[name]
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(DataError, match=said) as error:
        files.read(tmp_path / "x.pkl")
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
