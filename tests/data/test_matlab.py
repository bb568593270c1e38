"""MATLAB's files: what SciPy writes is read, what is hostile costs nothing."""

import struct
import zlib

import numpy as np
import pytest
import scipy.io

from segjax.data import decode, folder, raster
from segjax.data.readers import matlab
from segjax.errors import DataError
from tests import fuzz

RANDOM = np.random.default_rng(0)
NAME = "GTcls.Segmentation"


def save(path, whole, **options):
    scipy.io.savemat(path, whole, **options)
    return path


def sbd(array):
    """Return what SBD stores of a mask."""
    boundaries = np.empty((2, 1), object)
    boundaries[0, 0], boundaries[1, 0] = np.eye(3), "text"
    return {"GTcls": {"Boundaries": boundaries, "Segmentation": array, "CategoriesPresent": 1.0}}


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i4", "f4", "f8", "i8"])
def test_a_field_of_a_struct(tmp_path, dtype, compress):
    array = RANDOM.integers(0, 100, (7, 5)).astype(dtype)
    file = save(tmp_path / "a.mat", sbd(array), do_compression=compress)
    found = matlab.open_file(file, name=NAME).array
    np.testing.assert_array_equal(np.asarray(found), array)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found[1:4, 2:5], array[1:4, 2:5])


def test_a_variable_by_name_or_the_only_one(tmp_path):
    array = RANDOM.integers(0, 9, (3, 4, 5)).astype(np.int16)
    file = save(tmp_path / "a.mat", {"map": array})
    np.testing.assert_array_equal(np.asarray(matlab.open_file(file).array), array)
    file = save(tmp_path / "b.mat", {"x": np.zeros(1), "map": array})
    np.testing.assert_array_equal(np.asarray(matlab.open_file(file, name="map").array), array)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "no array of real numbers"),
        ("GT", "no variable 'GT'; it has GTcls"),
        ("GTcls.Mask", "no field 'Mask'; it has Boundaries, Segmentation"),
        ("GTcls.Boundaries", "no array of real numbers"),
        ("GTcls.Segmentation.more", "no struct with a field 'more'"),
    ],
)
def test_what_is_no_mask_is_said(tmp_path, name, said):
    file = save(tmp_path / "a.mat", sbd(np.zeros((3, 3), np.uint8)))
    with pytest.raises(ValueError, match=said):
        matlab.open_file(file, name=name)


def element(kind, data):
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def array_of(sides, data, kind=9):
    head = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack("<2i", *sides))
    return element(14, head + element(1, b"map") + element(2, data))


HEAD = bytes(124) + b"\x00\x01IM"
HOSTILE = {
    "nothing": (b"", "no MATLAB file"),
    "a version of HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(600), "Save it with -v7"),
    "no variable": (HEAD, "it has none"),
    "more sides than numbers": (HEAD + array_of((60_000, 60_000), b"1234"), "MiB"),
    "fewer numbers": (HEAD + array_of((60, 60), b"1234"), "in 4 bytes"),
    "negative sides": (HEAD + array_of((-2, -2), b"1234"), "shape"),
    "an object": (HEAD + array_of((1, 1), b"1", kind=3), "no array of real numbers"),
    "an element without end": (HEAD + struct.pack("<II", 14, 2**31), "cut off"),
    "a bomb": (
        HEAD + struct.pack("<II", 15, len(b := zlib.compress(bytes(1 << 26)))) + b, "expected an"
    ),
    "no zlib": (HEAD + element(15, b"12345678"), "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_hostile_file_is_one_line(tmp_path, fault):
    content, said = HOSTILE[fault]
    file = tmp_path / "a.mat"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=said):
        matlab.open_file(file)


def test_what_unfolds_without_end_is_left_folded(tmp_path, monkeypatch):
    monkeypatch.setattr(raster, "MAX_BYTES", 1 << 20)
    file = save(tmp_path / "a.mat", {"map": np.zeros((1100, 1000), np.uint8)}, do_compression=True)
    assert file.stat().st_size < 10_000
    with pytest.raises(ValueError, match="a variable of more than 1 MiB"):
        matlab.open_file(file)


def test_any_change_of_a_file_is_read_or_refused(tmp_path):
    """300 files changed at random: none fails otherwise than a reader may."""
    import random

    seed = save(tmp_path / "a.mat", sbd(np.eye(9, dtype=np.uint8)), do_compression=False)
    content, chance, file = seed.read_bytes(), random.Random(0), tmp_path / "b.mat"
    read = 0
    for _ in range(300):
        file.write_bytes(fuzz.changed(content, content, chance, text=False, kept=124))
        try:
            with decode.explained("b.mat"):
                read += np.asarray(matlab.open_file(file, name=NAME).array).size > 0
        except DataError as error:
            assert "\n" not in str(error) and "struct.error" not in str(error)
    assert 0 < read < 300


def test_a_folder_of_them_is_a_data_set(tmp_path):
    from PIL import Image

    for part in ("images", "labels"):
        (tmp_path / "train" / part).mkdir(parents=True)
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(tmp_path / "train/images/a.png")
    mask = RANDOM.integers(0, 3, (8, 9)).astype(np.uint8)
    save(tmp_path / "train/labels/a.mat", sbd(mask), do_compression=True)
    source = folder.Source(
        split="train", root=str(tmp_path), class_names=("a", "b", "c"), label_array=NAME
    )
    np.testing.assert_array_equal(source[0]["label"], mask)
    assert source.check() == {(8, 9)}
