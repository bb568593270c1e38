import numpy as np
import pytest

from segjax.errors import DataError, UserError
from segjax.inference import folder


def test_areas_add_up():
    areas = folder.class_areas(np.array([[0, 0, 2], [2, 2, 2]], np.uint8), ["a", "b", "c"])
    assert areas["a"] == {"pixels": 2, "share": 2 / 6} and areas["b"]["pixels"] == 0


def test_inputs_are_a_file_a_folder_or_a_glob(tmp_path):
    for name in ("a.jpg", "b.PNG", "notes.txt", "deep/c.webp", "deep/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [path.name for path in folder.list_images(str(tmp_path))]
    assert sorted(names) == ["a.jpg", "a.png", "b.PNG", "c.webp"]
    assert len(folder.list_images(str(tmp_path / "*.jpg"))) == 1
    assert len(folder.list_images(str(tmp_path / "a.jpg"))) == 1
    with pytest.raises(UserError, match="no images"):
        folder.list_images(str(tmp_path / "*.tif"))
    outputs = folder.output_names(folder.list_images(str(tmp_path)))
    assert len(set(outputs.values())) == 4


def test_arrays_are_read_as_they_lie(tmp_path):
    volume = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    np.save(tmp_path / "a.npy", volume)
    read = folder.read(tmp_path / "a.npy", channels=1, dims=3)
    np.testing.assert_array_equal(read, volume[..., None])
    assert read.dtype == np.int16
    with pytest.raises(DataError, match=r"shape \(2, 3, 4\); expected 2 spatial axes"):
        folder.read(tmp_path / "a.npy", channels=1, dims=2)
    (tmp_path / "b.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match="b.npy: cannot be read"):
        folder.read(tmp_path / "b.npy", channels=1, dims=3)
