import pickle
import threading

import numpy as np
import pytest

from segjax.data import core
from segjax.errors import ConfigError, DataError
from segjax.structs import Field
from segjax.views import colour


class Counting:
    """Four examples of 312 bytes that count how often they are read."""

    class_names = ("a", "b")
    palette = ((0, 0, 0), (1, 1, 1))
    schema = {**core.semantic_schema(2), "spacing": Field("value", (3,), "float32")}

    def __init__(self):
        self.reads = []

    def __len__(self):
        return 4

    def __getitem__(self, index):
        self.reads.append(index)
        image = np.full((10, 10, 2), index, np.uint8)
        spacing = np.ones(3, np.float32)  # 12 bytes
        return {
            "image": image, "label": np.zeros((10, 10), np.uint8), "spacing": spacing,
            "name": str(index),
        }  # fmt: skip


def check(label, **changes):
    arguments = {"num_classes": 3, "name": "street.png"} | changes
    return core.check_label(np.asarray(label), **arguments)


def test_ignored_values_become_255():
    label = np.array([[0, 2], [3, 9]], np.uint8)
    np.testing.assert_array_equal(check(label, ignore=(3, 9)), [[0, 2], [255, 255]])
    assert check(label, ignore=(3, 9)).dtype == np.uint8


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_offset_moves_classes_but_not_the_ignored_value(dtype):
    label = np.array([[1, 3, 0]], dtype)
    np.testing.assert_array_equal(check(label, ignore=(0,), offset=-1), [[0, 2, 255]])
    with pytest.raises(DataError, match=r"label value 0 .* expected 1\.\.3"):
        check(label, offset=-1)


def test_value_out_of_range_is_named_with_the_file():
    with pytest.raises(DataError, match=r"street\.png: label value 3, 40 in 3 pixels.*0\.\.2 or"):
        check(np.array([[3, 40, 40, 1, 7]], np.uint8), ignore=(7,))
    with pytest.raises(DataError, match="label value -1"):
        check(np.array([[-1, 0]], np.int32))


def test_255_is_not_void_unless_said_so():
    mask = np.array([[0, 255]], np.uint8)
    with pytest.raises(DataError, match="black-and-white"):
        check(mask)
    np.testing.assert_array_equal(check(mask, ignore=(255,)), [[0, 255]])


def test_255_classes_fit_and_256_do_not():
    names = tuple(map(str, range(255)))
    assert core.check_classes(names, where="x") == names
    assert check(np.array([[254]], np.uint8), num_classes=255)[0, 0] == 254
    with pytest.raises(ConfigError, match="256 classes"):
        core.check_classes((*names, "one more"), where="x")
    with pytest.raises(ConfigError, match="road twice"):
        core.check_classes(("road", "road"), where="x")


def test_voc_palette_has_the_published_colours():
    palette = colour.voc_palette(255)
    assert palette[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert palette[20] == (0, 64, 128)  # tv/monitor
    assert len(set(palette)) == 255


def test_paths_expand_variables_and_home(monkeypatch, tmp_path):
    monkeypatch.setenv("SEGJAX_DATA", str(tmp_path))
    monkeypatch.setenv("HOME", "/home/ada")
    assert core.expand_path("$SEGJAX_DATA/a", where="root") == tmp_path / "a"
    assert str(core.expand_path("~/a", where="root")) == "/home/ada/a"
    monkeypatch.delenv("SEGJAX_DATA")
    for path in ("$SEGJAX_DATA/a", "${SEGJAX_DATA}/a"):
        with pytest.raises(DataError, match="variable SEGJAX_DATA is not set"):
            core.expand_path(path, where="root")
    with pytest.raises(ConfigError, match="root is empty"):
        core.expand_path("", where="root")


def test_cache_reads_once_and_stops_at_its_limit():
    source = Counting()
    cached = core.Cached(source, max_bytes=700)  # room for two
    for _ in range(3):
        for i in range(len(cached)):
            assert cached[i]["image"][0, 0, 0] == i
    assert [source.reads.count(i) for i in range(4)] == [1, 1, 3, 3]
    for name in source.schema:
        with pytest.raises(ValueError, match="read-only"):
            cached[0][name][...] = 7


def test_cache_serves_threads_and_survives_pickling():
    cached = core.Cached(Counting(), max_bytes=10_000)
    seen = []

    def read():
        seen.extend(int(cached[i % 4]["image"][0, 0, 0]) == i % 4 for i in range(100))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 400 and all(seen)
    copy = pickle.loads(pickle.dumps(cached))
    assert (copy.max_bytes, len(copy), copy[3]["name"]) == (10_000, 4, "3")


def test_subset_picks_in_order():
    subset = core.Subset(Counting(), [3, 1])
    assert [subset[i]["name"] for i in range(len(subset))] == ["3", "1"]
    assert subset.class_names == ("a", "b")
    assert subset.schema is Counting.schema


def test_a_batch_has_image_and_label_and_what_is_asked_for():
    schema = Counting.schema
    assert core.channels_of(schema) == 2
    assert list(core.choose_fields(schema)) == ["image", "label"]
    assert core.choose_fields(schema, ["spacing"]) == schema
    with pytest.raises(ConfigError, match="'boxes': the data set has image, label, spacing"):
        core.choose_fields(schema, ["boxes"])
