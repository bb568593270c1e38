"""The scenes are reproducible, well labelled, and cannot be told apart by colour."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from segjax.data import synthetic
from segjax.errors import ConfigError
from segjax.structs import IGNORE_LABEL


def read(source, count):
    """Stack images, labels and instances of the first `count` scenes."""
    scenes = [source[i] for i in range(count)]
    return tuple(
        np.stack([scene[key] for scene in scenes]) for key in ("image", "label", "instance")
    )


@pytest.fixture(scope="module")
def scenes():
    return read(synthetic.Source(split="train"), 200)


def same(first, second):
    return all(np.array_equal(first[key], second[key]) for key in ("image", "label", "instance"))


def test_scenes_have_the_contract_shapes(scenes):
    image, label, instance = scenes
    source = synthetic.Source(split="train")
    assert image.dtype == label.dtype == instance.dtype == np.uint8
    assert image.shape == (200, 128, 128, *source.schema["image"].shape)
    assert label.shape == instance.shape == (200, 128, 128)
    assert image[0].flags.c_contiguous


@pytest.mark.parametrize("size", [(32, 32), (33, 97), (160, 64)])
def test_any_size_renders(size):
    image, label, instance = read(synthetic.Source(split="val", size=size), 20)
    assert image.shape[1:] == (*size, 3)
    assert label.shape[1:] == instance.shape[1:] == size
    assert (instance > 0).any()


def test_a_scene_depends_on_seed_split_and_position_only():
    source = synthetic.Source(split="train", num_examples=8)
    longer = synthetic.Source(split="train", num_examples=80)
    in_order = [source[i] for i in range(8)]
    assert all(same(in_order[i], source[i]) for i in reversed(range(8)))
    assert all(same(in_order[i], longer[i]) for i in range(8))
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(pickle.loads(pickle.dumps(source)).__getitem__, range(8)))
    assert all(same(a, b) for a, b in zip(in_order, threaded, strict=True))


def test_no_scene_is_shared_between_splits_and_seeds():
    families = [
        synthetic.Source(split=split, seed=seed, num_examples=8, size=(32, 32))
        for split in ("train", "val", "test")
        for seed in (0, 1)
    ]
    images = {family[i]["image"].tobytes() for family in families for i in range(8)}
    assert len(images) == 6 * 8


def test_every_class_occurs_often_and_background_does_not_drown_it(scenes):
    _, label, _ = scenes
    in_scene = [(label == k).any(axis=(1, 2)).mean() for k in range(8)]
    assert min(in_scene) > 0.3
    assert 0.4 < (label == 0).mean() < 0.75
    assert set(np.unique(label)) == {*range(8), IGNORE_LABEL}


def test_instances_are_the_things_of_the_label(scenes):
    _, label, instance = scenes
    is_thing = (label != 0) & (label != IGNORE_LABEL)
    assert np.array_equal(instance > 0, is_thing)
    for k, ids in zip(label, instance, strict=True):
        for number in np.unique(ids[ids > 0]):
            assert len(np.unique(k[ids == number])) == 1


def test_a_void_rim_parts_all_classes_and_instances(scenes):
    _, label, instance = scenes
    regions = instance.astype(int) + 1  # the background is a region too
    regions[label == IGNORE_LABEL] = 0
    for axis in (1, 2):
        a = regions.take(range(127), axis=axis)
        b = regions.take(range(1, 128), axis=axis)
        assert not ((a != b) & (a > 0) & (b > 0)).any()
    assert 0.02 < (label == IGNORE_LABEL).mean() < 0.1


def test_small_and_thin_things_are_there_but_do_not_dominate(scenes):
    _, label, instance = scenes
    wire = label == 7
    shrunk = wire[:, 2:-2, 2:-2].copy()
    for shift in (-2, -1, 1, 2):
        shrunk &= np.roll(wire, shift, axis=1)[:, 2:-2, 2:-2]
        shrunk &= np.roll(wire, shift, axis=2)[:, 2:-2, 2:-2]
    assert shrunk.mean() < 0.1 * wire.mean()  # few pixels have two of wire on all four sides
    areas = np.concatenate([np.bincount(ids.ravel())[1:] for ids in instance])
    areas = areas[areas > 0]
    assert 0.05 < (areas < 250).mean() < 0.5


def colour_code(image):
    """Return the bin of every pixel in a 16 x 16 x 16 histogram of colours."""
    r, g, b = np.moveaxis(image.astype(int) >> 4, -1, 0)
    return (r * 16 + g) * 16 + b


def miou(truth, pred):
    confusion = np.bincount(truth * 8 + pred, minlength=64).reshape(8, 8)
    hit = np.diag(confusion)
    return (hit / (confusion.sum(axis=0) + confusion.sum(axis=1) - hit)).mean()


@pytest.mark.parametrize("balanced", [False, True])
def test_colour_alone_tells_no_classes_apart(scenes, balanced):
    image, label, _ = scenes
    valid = label != IGNORE_LABEL
    counts = np.bincount(colour_code(image)[valid] * 8 + label[valid], minlength=8 * 4096)
    counts = counts.reshape(4096, 8)
    if balanced:  # choose the class most likely under equal class frequencies
        counts = counts / counts.sum(axis=0)
    classify = counts.argmax(axis=1)
    held_out, truth, _ = read(synthetic.Source(split="val"), 100)
    seen = truth != IGNORE_LABEL
    assert miou(truth[seen].astype(int), classify[colour_code(held_out)[seen]]) < 0.2
    assert miou(label[valid].astype(int), classify[colour_code(image)[valid]]) < 0.3


def test_all_kinds_share_one_distribution_of_colours(scenes):
    image, label, _ = scenes
    means = np.stack([image[label == k].mean(axis=0) for k in range(8)])
    assert np.ptp(means, axis=0).max() < 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(split="vall"), r"split='vall'.*train, val, test"),
        (dict(split="val", num_examples=-1), "num_examples=-1"),
        (dict(split="val", seed=-1), "seed=-1"),
        (dict(split="val", size=(16, 64)), r"size=\(16, 64\).*32"),
        (dict(split="val", size=(64,)), "height and width"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        synthetic.Source(**arguments)


def test_reading_past_the_end_ends_iteration():
    source = synthetic.Source(split="val", num_examples=3, size=(32, 32))
    assert len(list(source)) == len(source) == 3
    with pytest.raises(IndexError, match="3 scenes"):
        source[-1]


def test_classes_have_names_and_distinct_colours():
    source = synthetic.Source(split="test")
    assert len(source) == 256
    assert len(set(source.class_names)) == len(set(source.palette)) == 8
    assert source.class_names[0] == "background"
