"""Objects on the host: what is packed comes out again, and fields hold what the image has."""

import numpy as np
import pytest

from segjax.data import core, masks, synthetic
from segjax.structs import Mask, Objects


def scattered(size, count, seed=0, crowds=()):
    """Return overlapping objects of random boxes, and their masks on the whole image."""
    random = np.random.default_rng(seed)
    found, whole = [], np.zeros((count, *size), bool)
    for number in range(count):
        low = [int(random.integers(side - 2)) for side in size]
        sides = [int(random.integers(2, side - at + 1)) for at, side in zip(low, size, strict=True)]
        inside = random.random(sides) < 0.6
        inside.flat[0] = True
        mask = masks.trim(inside, low)
        found.append((mask, masks.About(int(random.integers(1, 4)), number in crowds)))
        whole[(number, *masks.place_of(mask))] = mask.inside
    return masks.make(found, dims=len(size)), whole


@pytest.mark.parametrize("size", [(40,), (13, 21), (5, 9, 7)])
@pytest.mark.parametrize("count", [0, 1, 8, 11])
def test_what_is_packed_comes_out_again(size, count):
    """The rule: bit `i % 8` of byte `i // 8` is object i, whatever the axes; overlaps survive."""
    objects, whole = scattered(size, count)
    packed = masks.pack(whole)
    assert packed.shape == (*size, -(-count // 8)) and packed.dtype == np.uint8
    for number in range(count):
        np.testing.assert_array_equal(packed[..., number // 8] >> number % 8 & 1, whole[number])
    np.testing.assert_array_equal(masks.unpack(packed, count), whole)
    fields = masks.fields(objects, size, most=16)
    np.testing.assert_array_equal(masks.unpack(fields["object_masks"], 16)[:count], whole)
    again = masks.of_fields(fields)
    for mine, theirs in zip(again, objects, strict=True):
        if isinstance(mine, np.ndarray):
            np.testing.assert_array_equal(mine, theirs)
    for (corner, inside), (corner_, inside_) in zip(again.masks, objects.masks, strict=True):
        assert corner == corner_
        np.testing.assert_array_equal(inside, inside_)
    for name, field in core.object_schema(16).items():
        shape = (*size, *field.shape) if field.is_spatial else field.shape
        assert fields[name].shape == shape and fields[name].dtype == field.dtype, name


def test_boxes_hold_the_pixels_and_end_behind_them():
    objects, whole = scattered((13, 21), 6)
    for box, mask in zip(objects.boxes, whole, strict=True):
        ys, xs = np.nonzero(mask)
        np.testing.assert_array_equal(box, [ys.min(), xs.min(), ys.max() + 1, xs.max() + 1])


def test_of_too_many_the_largest_stay_in_their_order():
    objects, whole = scattered((30, 40), 9, crowds=(2,))
    fields = masks.fields(objects, (30, 40), most=4)
    areas = whole.sum((1, 2))
    kept = sorted(np.argsort(-areas, kind="stable")[:4])
    np.testing.assert_array_equal(masks.unpack(fields["object_masks"], 4), whole[kept])
    np.testing.assert_array_equal(fields["object_classes"], objects.classes[kept])
    np.testing.assert_array_equal(fields["object_crowd"], objects.crowd[kept])
    assert fields["object_count"] == 9


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "int64"])
def test_a_map_s_objects_are_those_that_are_asked_for(dtype):
    """Whatever its type; a number that is not asked for, or not there, is none."""
    numbers = np.random.default_rng(1).choice([0, 3, 7, 200], (20, 30)).astype(dtype)
    about = {7: masks.About(2), 5: masks.About(1), 3: masks.About(1, crowd=True)}
    found = masks.of_map(numbers, about)
    assert found.classes.tolist() == [2, 1] and found.crowd.tolist() == [False, True]
    for mask, number in zip(found.masks, (7, 3), strict=True):
        whole = np.zeros(numbers.shape, bool)
        whole[masks.place_of(mask)] = mask.inside
        np.testing.assert_array_equal(whole, numbers == number)


def test_an_object_without_pixels_is_none():
    empty = masks.trim(np.zeros((4, 5), bool))
    found = masks.make([(empty, masks.About(1)), (Mask((1, 1), np.ones((1, 1), bool)),
                                                  masks.About(2))], dims=2)  # fmt: skip
    assert isinstance(found, Objects) and found.classes.tolist() == [2]
    none = masks.make([], dims=3)
    assert none.boxes.shape == (0, 6) and len(none.masks) == 0


@pytest.mark.parametrize(
    ("dims", "scene"), [(1, ""), (1, "sounds"), (1, "texts"), (2, ""), (3, "")]
)
def test_painted_objects_are_the_label_of_a_scene(dims, scene):
    """In every family, hidden or shining through: what is not void is what its masks say."""
    for overlap in (False, True):
        source = synthetic.Source(
            split="val", dims=dims, scene=scene, num_examples=3, objects=64, overlap=overlap
        )
        assert source.things == tuple(range(1, len(source.class_names)))
        several = 0
        for index in range(3):
            example, found = source[index], source.objects(index)
            assert example["object_count"] == len(found.masks) > 0
            painted = np.zeros_like(example["label"])
            masks.paint(painted, found)
            known = example["label"] != 255
            np.testing.assert_array_equal(painted[known], example["label"][known])
            seen = masks.unpack(example["object_masks"], 64)
            several += int((seen.sum(0) > 1).sum())
            again = masks.of_fields(example)
            np.testing.assert_array_equal(again.classes, found.classes)
            np.testing.assert_array_equal(again.boxes, found.boxes)
        assert bool(several) == (overlap and scene != "texts"), "only whole masks overlap"


def test_overlapping_classes_have_whole_objects_too():
    source = synthetic.Source(split="val", num_examples=2, objects=8, multilabel=True)
    example = source[1]
    assert source.things[0] == 0
    shown = np.zeros_like(example["label"])
    for mask, number in zip(masks.unpack(example["object_masks"], 8),
                            example["object_classes"].tolist(), strict=True):  # fmt: skip
        if number >= 0:
            shown[mask, number] = 1
    known = example["label"] != 255
    np.testing.assert_array_equal(shown[known], example["label"][known])
