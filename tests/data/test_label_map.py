"""The rule: `label_map` says the class of every stored value, or an error names the value."""

import json

import numpy as np
import pytest
from PIL import Image

from segjax.data import core, folder
from segjax.data.label_map import LabelMap
from segjax.errors import ConfigError, DataError

TYPES = ("uint8", "uint16", "int32", "int64", "uint64")


def mapped(entries, values, dtype="uint8", num_classes=3):
    return LabelMap(entries, num_classes=num_classes, where="x")(np.array(values, dtype)).tolist()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("entries", "values", "expected"),
    [
        ({0: 0, 255: 1}, [0, 255, 7], [0, 1, -1]),
        ({"7": 0, "8": 1}, [7, 8, 0], [0, 1, -1]),
        ({"0": 0, "1-65535": 1}, [0, 1, 200], [0, 1, 1]),
        ({"*": 2, 5: 0}, [5, 0, 255], [0, 2, 2]),
        ({"1-9": 1, "5": 2, "20 - 30": 0}, [0, 1, 4, 5, 6, 9, 10, 19, 20, 30, 31],
         [-1, 1, 1, 2, 1, 1, -1, -1, 0, 0, -1]),
        ({"1-3": 1, "1": 0, "3": 2}, [0, 1, 2, 3, 4], [-1, 0, 1, 2, -1]),
    ],
)  # fmt: skip
def test_values_become_classes(entries, values, expected, dtype):
    assert mapped(entries, values, dtype) == expected


def test_wide_and_negative_values():
    assert mapped({0: 0, "1-70000": 1}, [0, 65536, 70000, 70001], "uint32") == [0, 1, 1, -1]
    assert mapped({"-1": 2, 0: 0}, [-1, 0, 1], "int16") == [2, 0, -1]


@pytest.mark.parametrize(
    ("entries", "word"),
    [
        ({0: 0, 255: 3}, "expected a class, 0..2"),
        ({0: 0, 255: -1}, "expected a class"),
        ({0: 0, 255: "1"}, "expected a class"),
        ({0: 0, 1: True}, "expected a class"),
        ({"a": 0}, "no stored value"),
        ({1.5: 0}, "no stored value"),
        ({True: 0}, "no stored value"),
        ({"": 0}, "no stored value"),
        ({"9-1": 0}, "no range"),
        ({"1-5": 0, "5-9": 1}, "overlap"),
        ({1: 0, "1": 1}, "named twice"),
        ([0, 1], "expected a mapping"),
    ],
)
def test_bad_entries(entries, word):
    with pytest.raises(ConfigError, match=word) as caught:
        LabelMap(entries, num_classes=3, where="x")
    assert "\n" not in str(caught.value) and str(caught.value).startswith("x: label_map")


def data_set(root, label, meta):
    (root / "meta.json").write_text(json.dumps(meta))
    for kind in ("images", "labels"):
        (root / "train" / kind).mkdir(parents=True)
    Image.fromarray(np.zeros(label.shape, np.uint8)).save(root / "train/images/a.png")
    Image.fromarray(label).save(root / "train/labels/a.png")
    return root


BINARY = {"class_names": ["ground", "crack"]}
BLACK_AND_WHITE = np.array([[0, 255, 255], [0, 0, 255]], np.uint8)
NUMBERS = np.array([[0, 1, 2], [0, 700, 65535]], np.uint16)
SEVENS = np.array([[7, 8, 8], [7, 7, 255]], np.uint8)


@pytest.mark.parametrize("place", ["config", "meta.json"])
@pytest.mark.parametrize(
    ("label", "entries", "ignore", "expected"),
    [
        (BLACK_AND_WHITE, {"0": 0, "255": 1}, -1, [[0, 1, 1], [0, 0, 1]]),
        (NUMBERS, {"0": 0, "1-65535": 1}, -1, [[0, 1, 1], [0, 1, 1]]),
        (NUMBERS, {"*": 1, "0": 0}, [65535, 2], [[0, 1, 255], [0, 1, 255]]),
        (SEVENS, {"7": 0, "8": 1}, 255, [[0, 1, 1], [0, 0, 255]]),
    ],
)
def test_it_reaches_the_examples_from_config_and_from_meta_json(
    tmp_path, label, entries, ignore, expected, place
):
    meta = BINARY | ({"label_map": entries} if place == "meta.json" else {})
    root = data_set(tmp_path, label, meta)
    options = {"label_map": entries} if place == "config" else {}
    source = folder.Source(split="train", root=str(root), ignore_index=ignore, **options)
    np.testing.assert_array_equal(source[0]["label"], expected)
    assert source[0]["label"].dtype == np.uint8


def test_the_config_counts_before_meta_json(tmp_path):
    root = data_set(tmp_path, BLACK_AND_WHITE, BINARY | {"label_map": {"0": 1, "255": 0}})
    source = folder.Source(split="train", root=str(root), label_map={0: 0, 255: 1})
    np.testing.assert_array_equal(source[0]["label"], BLACK_AND_WHITE // 255)


@pytest.mark.parametrize(
    ("label", "remedy"),
    [
        (BLACK_AND_WHITE, "label_map={0: 0, 255: 1}"),
        (NUMBERS, '"1-65535": 1'),
        (SEVENS, "label_map"),
    ],
)
def test_values_that_are_no_classes_name_the_remedy(tmp_path, label, remedy):
    source = folder.Source(split="train", root=str(data_set(tmp_path, label, BINARY)))
    with pytest.raises(DataError) as caught:
        _ = source[0]
    assert remedy in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("label", "entries", "found"),
    [
        (BLACK_AND_WHITE, {0: 0}, "255"),
        (NUMBERS, {"0-2": 0}, "700, 65535"),
        (SEVENS, {8: 1}, "7, "),
    ],
)
def test_values_that_it_does_not_name_are_errors(tmp_path, label, entries, found):
    root = data_set(tmp_path, label, BINARY)
    source = folder.Source(split="train", root=str(root), label_map=entries)
    with pytest.raises(DataError, match=f"label value {found}.*label_map names") as caught:
        _ = source[0]
    assert "ignore_index" in str(caught.value) and "\n" not in str(caught.value)


def test_not_with_an_offset():
    arguments = {"num_classes": 2, "where": "x"}
    with pytest.raises(ConfigError, match="label_offset=-1"):
        core.make_label_map({0: 0}, label_offset=-1, **arguments)
    assert core.make_label_map({}, label_offset=-1, **arguments) is None


def test_the_sample_meta_json_is_no_trap(tmp_path):
    """What the message tells to write must read a black-and-white mask as two classes."""
    (tmp_path / "meta.json").unlink(missing_ok=True)
    with pytest.raises(DataError, match="meta.json") as caught:
        folder.Source(split="train", root=str(tmp_path))
    assert "label_map" in str(caught.value) and "ignore_index" not in str(caught.value)
