"""How far people agree, by hand and by NumPy."""

import numpy as np
import pytest

from segjax.audit import agreement
from segjax.errors import DataError

NAMES = ("ground", "cell")


def square(low: int, high: int) -> np.ndarray:
    mask = np.zeros((40, 40), np.uint8)
    mask[low:high, 10:20] = 1
    return mask


PEOPLE = {
    "a": {"x": square(10, 20), "y": square(0, 0)},
    "b": {"x": square(15, 25), "y": square(0, 0)},
    "c": {"x": square(10, 20)},
}


def reader(masks):
    def read(own):
        if own not in masks:
            raise DataError(f"{own}: none")
        return masks[own]

    return read


def summarize(people, **options):
    readers = {name: reader(masks) for name, masks in people.items()}
    return agreement.summarize(readers, ["x", "y", "z"], NAMES, tell=lambda _: None, **options)


def test_scores_are_those_of_the_definitions():
    """Squares of 100 pixels that share 50: IoU 50 / 150, Dice 100 / 200; the same one: 1."""
    found = summarize(PEOPLE)
    assert found["annotators"] == ["a", "b", "c"]
    assert (found["images"], found["images_of_one"]) == (2, 1)
    pairs = {(each["first"], each["second"]): each for each in found["pairs"]}
    assert [pairs[key]["images"] for key in (("a", "b"), ("a", "c"), ("b", "c"))] == [2, 1, 1]
    cell = pairs["a", "b"]["classes"][1]
    assert cell["iou"] == pytest.approx(1 / 3, abs=1e-4) and cell["dice"] == 0.5
    assert 0 < cell["boundary_f"] < 1
    assert pairs["a", "c"]["classes"][1] == {"name": "cell", "iou": 1, "dice": 1, "boundary_f": 1}
    assert found["least"] == [{"image": "x", "dice": pytest.approx(2 / 3, abs=1e-4)},
                              {"image": "y", "dice": 1.0}]  # fmt: skip


def test_void_of_either_is_left_out():
    void = square(10, 20)
    void[15:20] = 255
    one, other = square(10, 20), void
    pixels = agreement.compare(one, other, 2, multilabel=False, name="x").pixels
    assert pixels[:, 1].tolist() == [50, 50, 50]


def test_classes_that_overlap_and_that_nobody_has():
    maps = np.stack([square(10, 20), square(0, 0)], -1)
    found = agreement.compare(maps, maps, 2, multilabel=True, name="x")
    assert found.pixels.tolist() == [[100, 0]] * 3 and np.isnan(found.boundary[1])
    rows = summarize({"a": {"x": maps}, "b": {"x": maps}}, multilabel=True)["pairs"][0]["classes"]
    assert rows[1]["iou"] is None and rows[0]["dice"] == 1.0


def test_masks_of_other_sizes_are_an_error():
    with pytest.raises(DataError, match=r"x: masks of \(40, 40\) and \(40, 39\), expected one"):
        agreement.compare(square(0, 1), square(0, 1)[:, 1:], 2, multilabel=False, name="x")
