"""Examples of any dimension are reproducible and well labelled."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from segjax.config import lookup
from segjax.data import core, synthetic
from segjax.errors import ConfigError
from segjax.structs import IGNORE_LABEL

SMALL = {1: (64,), 2: (32, 32), 3: (16, 20, 24)}
CASES = {1: ("uint16", 1, 5), 2: ("uint8", 3, 8), 3: ("uint8", 1, 5)}


def read(source, count):
    """Stack images, labels and instances of the first `count` examples."""
    examples = [source[i] for i in range(count)]
    return tuple(np.stack([example[key] for example in examples]) for key in source.schema)


@pytest.fixture(scope="module", params=CASES)
def dims(request):
    return request.param


@pytest.fixture(scope="module")
def drawn(dims):
    return read(synthetic.Source(split="train", dims=dims), 60)


def same(first, second):
    return all(np.array_equal(first[key], second[key]) for key in ("image", "label", "instance"))


def test_examples_are_what_the_schema_says(dims, drawn):
    image, label, instance = drawn
    source = synthetic.Source(split="train", dims=dims)
    dtype, channels, num_classes = CASES[dims]
    assert list(source.schema) == ["image", "label", "instance"]
    assert source.schema["instance"].kind == "ids" and source.schema["image"].dtype == dtype
    assert core.channels_of(source.schema) == channels
    assert image.shape == (60, *source.size, channels) and len(source.size) == dims
    assert label.shape == instance.shape == (60, *source.size)
    assert (image.dtype, label.dtype, instance.dtype) == (dtype, np.uint8, np.uint8)
    assert image[0].flags.c_contiguous
    assert len(set(source.class_names)) == len(set(source.palette)) == num_classes
    assert source.class_names[0] == "background" and len(synthetic.Source(split="test")) == 256
    assert set(np.unique(label)) == {*range(num_classes), IGNORE_LABEL}


def test_an_example_depends_on_seed_split_and_position_only(dims):
    source = synthetic.Source(split="train", num_examples=8, dims=dims)
    longer = synthetic.Source(split="train", num_examples=80, dims=dims)
    in_order = [source[i] for i in range(8)]
    assert all(same(in_order[i], source[i]) for i in reversed(range(8)))
    assert all(same(in_order[i], longer[i]) for i in range(8))
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(pickle.loads(pickle.dumps(source)).__getitem__, range(8)))
    assert all(same(a, b) for a, b in zip(in_order, threaded, strict=True))


def test_no_example_is_shared_between_splits_and_seeds(dims):
    families = [
        synthetic.Source(split=split, seed=seed, num_examples=8, size=SMALL[dims], dims=dims)
        for split in ("train", "val", "test")
        for seed in (0, 1)
    ]
    images = {family[i]["image"].tobytes() for family in families for i in range(8)}
    assert len(images) == 6 * 8


def test_instances_are_the_things_of_the_label(drawn):
    _, label, instance = drawn
    is_thing = (label != 0) & (label != IGNORE_LABEL)
    assert np.array_equal(instance > 0, is_thing)
    for k, ids in zip(label, instance, strict=True):
        for number in np.unique(ids[ids > 0]):
            assert len(np.unique(k[ids == number])) == 1


def test_a_void_rim_parts_all_classes_and_instances(drawn):
    _, label, instance = drawn
    regions = instance.astype(int) + 1  # the background is a region too
    regions[label == IGNORE_LABEL] = 0
    for axis in range(1, regions.ndim):
        a, b = np.delete(regions, -1, axis), np.delete(regions, 0, axis)
        assert not ((a != b) & (a > 0) & (b > 0)).any()
    assert 0.02 < (label == IGNORE_LABEL).mean() < 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(split="vall"), r"split='vall'.*train, val, test"),
        (dict(split="val", num_examples=-1), "num_examples=-1"),
        (dict(split="val", seed=-1), "seed=-1"),
        (dict(split="val", size=(16, 64)), r"size=\(16, 64\).*32"),
        (dict(split="val", size=(64,)), "height and width"),
        (dict(split="val", size=(64, 64), dims=3), "depth, height and width of dims=3"),
        (dict(split="val", size=(40,), dims=1), "length of dims=1, each at least 64"),
        (dict(split="val", dims=4), "dims=4: expected 1 or 2 or 3"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        lookup.build("data", {"type": "synthetic", **arguments}, where="config.input.source")


def test_reading_past_the_end_ends_iteration(dims):
    source = synthetic.Source(split="val", num_examples=3, size=SMALL[dims], dims=dims)
    assert len(list(source)) == len(source) == 3
    with pytest.raises(IndexError, match="3 examples"):
        source[-1]


def test_with_multilabel_things_overlap_and_each_has_all_of_its_pixels(dims):
    """A map of 0, 1 and void for each kind, without a background; the image shows through."""
    usual, source = (
        synthetic.Source(split="train", dims=dims, multilabel=more) for more in (False, True)
    )
    assert source.class_names == usual.class_names[1:] and source.palette == usual.palette[1:]
    assert list(source.schema) == ["image", "label"]
    image, label = read(source, 20)
    field = source.schema["label"]
    assert field.kind == "labels" and label.shape[1:] == (*source.size, *field.shape)
    assert field.shape == (len(source.class_names),) and label.dtype == np.uint8
    assert set(np.unique(label)) == {0, 1, IGNORE_LABEL}
    assert (label == 1).reshape(-1, *field.shape).any(0).all()
    several = ((label == 1).sum(-1) > 1).mean()
    assert 0.005 < several < 0.5 and image.dtype == source.schema["image"].dtype
    again = pickle.loads(pickle.dumps(source))[3]
    np.testing.assert_array_equal(again["label"], label[3])
