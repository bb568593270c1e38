"""What is drawn of a large image is every so manyth pixel of all that belongs to it."""

import itertools

import numpy as np
import pytest

from segjax.data.lazy import Lazy
from segjax.inference import preview


def cut(array, sides):
    spans = [
        [slice(a, min(a + side, length)) for a in range(0, length, side)]
        for length, side in zip(array.shape, sides, strict=True)
    ]
    for region in itertools.product(*spans):
        yield region, array[region]


@pytest.mark.parametrize("size", [(50, 70), (1, 33), (300,), (20, 30, 25)])
@pytest.mark.parametrize("step", [1, 3, 7, 40])
def test_tiles_are_thinned_as_the_whole_is(size, step):
    label = np.random.default_rng(0).integers(0, 9, size).astype(np.uint8)
    expected = label[(slice(None, None, step),) * len(size)]
    found = preview.thinned_tiles(cut(label, (6, 11, 4)[: len(size)]), size, step)
    np.testing.assert_array_equal(found, expected)
    several = ((region, np.stack([tile, tile + 1], -1)) for region, tile in cut(label, size))
    found = preview.thinned_tiles(several, size, step)  # with an axis of classes behind
    np.testing.assert_array_equal(found, np.stack([expected, expected + 1], -1))
    array = Lazy(size, np.uint8, lambda region: label[region], name="x")
    np.testing.assert_array_equal(preview.thinned(array, step, dims=len(size)), expected)


def test_only_large_images_are_thinned():
    assert preview.step_of((8000, 8000)) == 1
    step = preview.step_of((20_000, 20_000))
    assert step == 10 and (20_000 // step) ** 2 == preview.DRAWN
    assert preview.step_of((1000, 1000, 1000)) == 7
