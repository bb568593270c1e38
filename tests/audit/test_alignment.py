"""Borders of masks and edges of images."""

import numpy as np
import pytest
from scipy import ndimage

from segjax.audit import alignment


def scene(seed, size=(160, 200)):
    """Return an image of blobs with noise, and the mask of the blobs."""
    chance = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(chance.normal(size=size), 8)
    label = np.digitize(field, np.quantile(field, [0.4, 0.7])).astype(np.uint8)
    image = np.array([40.0, 120.0, 200.0])[label] + chance.normal(0, 20, size)
    return image.astype(np.float32), label


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("move", [(0, 0), (12, 0), (0, -12), (-7, 9)])
def test_a_moved_mask_is_moved_back(seed, move):
    image, label = scene(seed)
    found = alignment.align(image, np.roll(label, move, (0, 1)))
    assert np.abs(np.add(found.move, move)).max() <= 1
    assert (found.there - found.here > 1.5) == (move != (0, 0))


@pytest.mark.parametrize("seed", range(4))
def test_the_mask_of_another_image_fits_nowhere(seed):
    image, _ = scene(seed)
    _, other = scene(seed + 100)
    own = alignment.align(*scene(seed))
    assert alignment.align(image, other).here < own.here / 2


def test_void_has_no_borders_and_few_pixels_say_nothing():
    image, label = scene(0)
    label[:, 100:] = 255
    label[:, :100] = 1
    assert alignment.align(image, label) is None
    assert alignment.align(np.zeros_like(image), scene(0)[1]) is None
