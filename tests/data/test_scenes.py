"""Pictures of many things of many sizes, which cannot be told apart by colour."""

import numpy as np
import pytest

from segjax.data import synthetic
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


@pytest.mark.parametrize("size", [(32, 32), (33, 97), (160, 64)])
def test_any_size_renders(size):
    image, label, instance = read(synthetic.Source(split="val", size=size), 20)
    assert image.shape[1:] == (*size, 3)
    assert label.shape[1:] == instance.shape[1:] == size
    assert (instance > 0).any()


def test_every_class_occurs_often_and_background_does_not_drown_it(scenes):
    _, label, _ = scenes
    in_scene = [(label == k).any(axis=(1, 2)).mean() for k in range(8)]
    assert min(in_scene) > 0.3
    assert 0.4 < (label == 0).mean() < 0.75
    assert set(np.unique(label)) == {*range(8), IGNORE_LABEL}


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
