"""Whole sets of ops: what they do to a batch as a whole, and that labels follow."""

import functools
import inspect

import numpy as np
import pytest

from segjax.augment import intensity, policies
from segjax.errors import ConfigError
from tests.augment import samples

CASES = {
    "volume": ((20, 24, 22), (16, 20, 18)),
    "image": ((40, 44), (32, 36)),
    "thick": ((6, 40, 44), (4, 32, 36)),
}


def painted(size):
    """Return a label of boxes, and the image that shows it."""
    places = np.indices(size) // 6
    label = np.tensordot(np.array([3, 2, 1])[: len(size)], places, 1) % 5 + 1
    return label, (label[..., None] / 5 - 0.5).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["image", "volume", "thick"])
def test_nnunet_moves_label_and_image_alike_and_leaves_the_middle_most_often(name):
    size, out_size = CASES[name]
    label, image = painted(size)
    op = functools.partial(policies.nnunet, size=out_size)
    keys = 96
    out = samples.run_fields(op, image, label, 10 * label, keys=keys)
    assert out["image"].shape == (keys, *out_size, 1)
    void = out["label"] == 255
    np.testing.assert_array_equal(out["instance"], np.where(void, 0, 10 * out["label"]))
    corner = [(old - new) // 2 for old, new in zip(size, out_size, strict=True)]
    box = tuple(slice(start, start + n) for start, n in zip(corner, out_size, strict=True))
    axes = range(len(size))
    mirrored = {
        np.flip(label[box], [a for a in axes if code >> a & 1]).tobytes() for code in range(8)
    }
    still = [one.astype(label.dtype).tobytes() in mirrored for one in out["label"]]
    assert 0.5 < np.mean(still) < 0.78, "0.8 of 0.8: neither turned nor scaled"
    # Whatever was done to values kept their order, nearly: dark classes are darker in the mean.
    for one, classes in zip(out["image"], out["label"], strict=True):
        inside = [one[classes == k].mean() for k in range(1, 6) if (classes == k).sum() > 60]
        assert np.corrcoef(inside, np.arange(len(inside)))[0, 1] > 0.9


def test_nnunet_has_its_numbers():
    """`nnUNetTrainer.get_training_transforms` of nnunetv2 2.6."""
    expected = {
        "noise": dict(std=(0, 0.1), p=0.1),
        "blur": dict(sigma=(0.5, 1.0), p=0.2, each=0.5),
        "brightness": dict(factor=(0.75, 1.25), p=0.15, each=1),
        "contrast": dict(factor=(0.75, 1.25), p=0.15, each=1),
        "low_resolution": dict(scale=(0.5, 1.0), p=0.25, each=0.5),
        "gamma": dict(exponent=(0.7, 1.5), p=0.3, each=1),
    }
    for name, numbers in expected.items():
        known = inspect.signature(getattr(intensity, name)).parameters
        assert {key: known[key].default for key in numbers} == numbers, name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rand_augment", "trivial_augment"])
def test_labels_follow_policies_of_photographs(name):
    label, grey = painted((40, 44))
    image = np.repeat(grey + 0.5, 3, -1)
    out = samples.run_fields(getattr(policies, name), image, label, 10 * label, keys=128)
    void = out["label"] == 255
    np.testing.assert_array_equal(out["instance"], np.where(void, 0, 10 * out["label"]))
    assert {*np.unique(out["label"])} <= {1, 2, 3, 4, 5, 255}
    moved = (out["label"] != label).any((1, 2))
    share = 1 - (9 / 14) ** (2 if name == "rand_augment" else 1)  # 5 of 14 move
    assert abs(moved.mean() - share) < 0.15
    off = functools.partial(getattr(policies, name), p=0)
    same = samples.run_fields(off, image, label, 10 * label, keys=2)
    np.testing.assert_array_equal(same["image"], np.stack([image] * 2))
    np.testing.assert_array_equal(same["label"], np.stack([label] * 2))
    changed = (np.abs(out["image"] - image) > 1e-3).any((1, 2, 3))
    assert changed.mean() > moved.mean() + 0.1 and not changed.all()
    with pytest.raises(ConfigError, match="expected RGB images"):
        samples.run(getattr(policies, name), grey, label, keys=1)
