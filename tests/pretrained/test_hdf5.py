"""What h5py wrote is read without it, and a file from a stranger costs what its size explains."""

import struct
import zipfile

import numpy as np
import pytest

from segjax.errors import DataError
from segjax.pretrained import files, hdf5
from tests.golden.outside import of_hdf5
from tests.outside import recorded
from tests.pretrained import bombs

FORMS = ("earliest", "v108")


def written(form):
    return recorded.load("hdf5")[1][form].arrays["file"].tobytes()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("packed", [None, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_arrays_by_the_groups_they_lie_in(tmp_path, form, packed):
    """In a file of its own, or in what Keras saves a model as."""
    path = tmp_path / "x.weights.h5"
    path.write_bytes(written(form))
    if packed is not None:
        with zipfile.ZipFile(tmp_path / "x.keras", "w", packed) as archive:
            archive.writestr("config.json", "{}")
            archive.write(path, files.KERAS)
        path = tmp_path / "x.keras"
    found = files.read(path)
    expected = of_hdf5.arrays()
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and not found[name].flags.writeable
        np.testing.assert_array_equal(found[name], array)


def test_the_newer_index_of_large_groups_is_named():
    """h5py writes it for more than eight members with `libver='v108'` or later."""
    content = bytearray(written("v108"))
    at = content.index(b"\x02\x12\x00\x00\x00")  # message 2, 18 bytes: no heap, no tree
    while content[at + 6 : at + 14] != b"\xff" * 8:
        at = content.index(b"\x02\x12\x00\x00\x00", at + 1)
    content[at + 6 : at + 14] = struct.pack("<Q", 96)
    with pytest.raises(DataError, match="newer form: write it again with h5py, libver='earliest'"):
        hdf5.File(bytes(content)).arrays()


@pytest.mark.parametrize("name", bombs.hdf5())
def test_a_hostile_file_says_why(tmp_path, name):
    content, said = bombs.hdf5()[name]
    (tmp_path / "x.h5").write_bytes(content)
    with pytest.raises(DataError, match=said) as error:
        files.read(tmp_path / "x.h5")
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_an_archive_that_claims_much_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(files.KERAS, bytes(files.SPARE + (2 << 20)))
    with pytest.raises(DataError, match="4 times as much as the file"):
        files.read(tmp_path / "x.keras")
