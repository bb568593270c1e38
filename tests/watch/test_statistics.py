"""Statistics of images and predictions: against plain NumPy, moved by what they are named after."""

import numpy as np
import pytest
from scipy import ndimage

from segjax.watch import statistics

RNG = np.random.default_rng(0)
PICTURE = ndimage.gaussian_filter(RNG.uniform(0, 255, (90, 120, 3)), (1, 1, 0)).astype(np.uint8)


def of(image: np.ndarray) -> dict[str, float]:
    return statistics.of_image(image)


def test_small_images_are_seen_whole():
    found = of(PICTURE)
    pixels = PICTURE.astype(float)
    assert (found["input/height"], found["input/width"]) == (90, 120)
    assert found["input/brightness"] == pytest.approx(pixels.mean(), rel=1e-5)
    assert found["input/contrast"] == pytest.approx(pixels.std(), rel=1e-4)
    assert found["input/channel2"] == pytest.approx(pixels[..., 2].mean() - pixels.mean(), abs=1e-2)
    assert found["input/saturation"] == pytest.approx(np.ptp(pixels, axis=-1).mean(), rel=1e-5)


@pytest.mark.parametrize(
    "change, name, sign",
    [
        (lambda a: a * 0.5, "input/brightness", -1),
        (lambda a: a * 0.5, "input/contrast", -1),
        (lambda a: ndimage.gaussian_filter(a, (2, 2, 0)), "input/sharpness", -1),
        (lambda a: a + RNG.normal(0, 20, a.shape), "input/noise", 1),
        (lambda a: np.repeat(a.mean(-1, keepdims=True), 3, -1), "input/saturation", -1),
        (lambda a: ndimage.gaussian_filter(a, (1, 1, 0)), "input/fineness", -1),
        (lambda a: ndimage.zoom(a[::2, ::2], (2, 2, 1), order=1), "input/fineness", -1),
    ],
)
def test_a_change_moves_its_statistic(change, name, sign):
    changed = np.clip(change(PICTURE.astype(float)), 0, 255).astype(np.uint8)
    assert sign * (of(changed)[name] - of(PICTURE)[name]) > 0.1 * abs(of(PICTURE)[name])


@pytest.mark.parametrize(
    "shape",
    [(64, 1), (4096, 2), (32, 40, 1), (700, 900, 3), (20, 30, 40, 1), (3, 3, 12), (1, 1, 3)],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_any_image_has_finite_statistics(shape, dtype):
    image = RNG.integers(0, 100, shape).astype(dtype)
    found = of(image)
    assert np.isfinite([*found.values()]).all() and len(found) >= len(shape)
    assert ("input/saturation" in found) == (2 <= shape[-1] <= statistics.FEW_CHANNELS)


def test_which_way_up_it_is():
    """A ramp, light below, in pictures, volumes and signals; turned over its sign changes."""
    for shape in ((60, 1), (60, 40, 3), (20, 30, 40, 1)):
        ramp = np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1)) * np.ones(shape)
        name = f"input/tilt_{statistics.SIDES[len(shape) - 1][0]}"
        assert of(ramp)[name] == pytest.approx(shape[0] / 2, rel=0.1)
        assert of(ramp[::-1])[name] == pytest.approx(-shape[0] / 2, rel=0.1)
    assert of(np.ones((40, 50, 3)) * np.arange(50)[:, None])["input/tilt_height"] == 0


def test_fineness_knows_no_contrast():
    """The same scene by half the light has it as before; other statistics of detail have not."""
    full, half = (of(PICTURE.astype(np.float32) * factor) for factor in (1.0, 0.5))
    assert half["input/fineness"] == pytest.approx(full["input/fineness"], abs=0.02)
    assert half["input/sharpness"] < full["input/sharpness"] - 0.5


def test_a_sample_stands_for_a_large_image():
    image = np.kron(PICTURE, np.ones((8, 8, 1), np.uint8))
    assert of(image)["input/brightness"] == pytest.approx(PICTURE.mean(), rel=0.05)


def test_areas_are_shares_of_what_is_valid():
    classes = np.zeros((60, 80), np.uint8)
    classes[:30], classes[30:45] = 2, 255
    found = statistics.of_classes(classes, ["a", "b", "c"])
    assert found["output/area/a"] == pytest.approx(1 / 3, abs=0.02)
    assert (found["output/area/b"], found["output/area/c"]) == pytest.approx((0, 2 / 3), abs=0.02)
    assert found["output/boundary"] == 0, "classes change along the other axis alone"
    stripes = np.tile(np.array([0, 1], np.uint8), (60, 40))
    assert statistics.of_classes(stripes, ["a", "b"])["output/boundary"] == 1


def test_classes_that_overlap_have_an_area_each():
    classes = np.zeros((50, 50, 2), np.uint8)
    classes[..., 0], classes[:25, :, 1] = 1, 1
    found = statistics.of_classes(classes, ["all", "half"])
    assert found["output/area/all"] == 1
    assert found["output/area/half"] == pytest.approx(0.5, abs=0.02)


def test_confidence_and_entropy_at_their_ends():
    sure, unsure = np.zeros((9, 9, 4)), np.full((9, 9, 4), 0.25)
    sure[..., 1] = 1
    found = statistics.of_probabilities(sure)
    assert found["output/confidence"] == 1 and found["output/entropy"] == pytest.approx(0, abs=1e-6)
    found = statistics.of_probabilities(unsure)
    assert found["output/confidence"] == 0.25 and found["output/entropy"] == pytest.approx(1)
