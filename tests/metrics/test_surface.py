"""Surface metrics by brute force, where masks are empty, and where labels are void.

What DeepMind's own code gives is compared in `tests/outside/test_functions.py`.
"""

import itertools

import numpy as np
import pytest

from segjax.errors import DataError
from segjax.metrics import contours, surface
from tests.metrics import scenes

NAMES = ("a", "b", "c", "d")
METRICS = (surface.Hausdorff(), surface.Hd95(), surface.Assd(), surface.SurfaceDice(tolerance=0.5))


def corner_points(mask, spacing):
    """Return the corners of pixels around which some are of the mask and some are not."""
    padded = np.pad(mask, 1)
    found = []
    for place in np.ndindex(*[side + 1 for side in mask.shape]):
        block = padded[tuple(slice(at, at + 2) for at in place)]
        if block.any() and not block.all():
            found.append(np.array(place) * spacing)
    return np.array(found)


@pytest.mark.parametrize("shape", [(9,), (6, 7), (4, 3, 5)], ids=str)
def test_distances_equal_brute_force(shape):
    """From every corner to the nearest corner of the other surface, at an anisotropic spacing."""
    spacing = (0.7, 2.0, 1.3)[: len(shape)]
    for seed in range(4):
        random = np.random.default_rng(seed)
        truth, pred = (random.random(shape) < 0.4 for _ in range(2))
        found = contours.distances(truth, pred, spacing=spacing)
        a, b = (corner_points(mask, spacing) for mask in (truth, pred))
        apart = np.linalg.norm(a[:, None] - b[None], axis=-1)
        np.testing.assert_allclose(found.to_pred, np.sort(apart.min(axis=1)), atol=1e-12)
        np.testing.assert_allclose(found.to_truth, np.sort(apart.min(axis=0)), atol=1e-12)
        assert surface.Hausdorff().distance(found) == pytest.approx(
            max(apart.min(axis=1).max(), apart.min(axis=0).max())
        )


@pytest.mark.parametrize(
    "spacing", [(1.0, 1.0), (0.5, 3.0), (2.0, 1.0, 1.0), (0.5, 3.0, 2.0)], ids=str
)
def test_a_plane_and_a_single_pixel_have_the_areas_of_geometry(spacing):
    """Half of an image has a straight border; one pixel is a diamond (an octahedron in 3-D)."""
    axes = len(spacing)
    one = np.zeros((5,) * axes, bool)
    one[(2,) * axes] = True
    a, b, *c = (step / 2 for step in spacing)
    if c:
        sides = np.sqrt((a * b) ** 2 + (b * c[0]) ** 2 + (a * c[0]) ** 2) / 2
        expected = 8 * sides  # triangles through the middles of three edges
    else:
        expected = 4 * np.hypot(a, b)
    assert contours.elements(one, spacing=spacing).sum() == pytest.approx(expected)
    half = np.zeros((6,) * axes, bool)
    half[:3] = True
    found = contours.elements(half, spacing=spacing)[(3, *(slice(1, -1),) * (axes - 1))]
    assert found == pytest.approx(np.prod(spacing[1:]))


def test_the_table_of_elements_is_symmetric():
    """An element is that of the complement, and turned or mirrored with its corners."""
    places = contours.corners(3)
    areas = contours.areas_of_codes((1.0, 1.0, 1.0))
    np.testing.assert_allclose(areas, areas[::-1])
    for order in itertools.permutations(range(3)):
        turned = [places.index(tuple(corner[axis] for axis in order)) for corner in places]
        codes = [sum((code >> bit & 1) << turned[bit] for bit in range(8)) for code in range(256)]
        np.testing.assert_allclose(areas, areas[codes])
    assert areas[0] == areas[255] == 0 and (areas[1:255] > 0).all()


def test_values_by_hand():
    """Two pixels of a row, three apart: 3 to the nearest corners, and at a spacing of 2 it is 6."""
    label, pred = np.zeros((3, 6)), np.zeros((3, 6))
    label[1, 1], pred[1, 4] = 1, 1
    for spacing, factor in (((), 1), ((2.0, 2.0), 2)):
        found = scenes.seen(label, pred, 2)
        assert surface.Hausdorff(spacing=spacing)(found)[1] == 3 * factor
        assert surface.Assd(spacing=spacing)(found)[1] == pytest.approx(2.5 * factor)
        near = surface.SurfaceDice(spacing=spacing, tolerance=2.0 * factor)(found)[1]
        assert near == pytest.approx(0.5)
    own = scenes.seen(label, pred, 2, spacing=np.float32([2, 2]))
    assert surface.Hausdorff()(own)[1] == 6 and surface.Hausdorff(spacing=(1, 1))(own)[1] == 3


@pytest.mark.parametrize("metric", METRICS, ids=repr)
def test_void_is_in_neither_mask(metric):
    """The rule: whatever is predicted on void changes nothing."""
    label, pred = scenes.maps(3, void=0.2)
    expected = metric(scenes.seen(label, pred))
    assert np.isfinite(expected[1:]).all()
    for other in range(4):
        changed = np.where(label == 255, other, pred)
        np.testing.assert_array_equal(metric(scenes.seen(label, changed)), expected)


@pytest.mark.parametrize("metric", METRICS, ids=repr)
def test_a_perfect_prediction_is_perfect(metric):
    label, _ = scenes.maps(1)
    best = 1.0 if isinstance(metric, surface.SurfaceDice) else 0.0
    np.testing.assert_array_equal(metric(scenes.seen(label, label)), [np.nan, best, best, best])


def test_the_background_counts_on_request_and_a_single_class_does():
    label, pred = scenes.maps(2)
    assert np.isnan(surface.Hd95()(scenes.seen(label, pred))[0])
    assert np.isfinite(surface.Hd95(background=True)(scenes.seen(label, pred))[0])
    assert surface.Hd95()(scenes.seen(np.zeros((3, 4)), np.zeros((3, 4)), 1)) == [0]


def test_what_is_missing_is_said_and_in_no_mean():
    """Class b is found in one example, missed in another, in neither in the third."""
    empty, some, far = np.zeros((4, 8)), np.zeros((4, 8)), np.zeros((4, 8))
    some[1, 1], far[1, 3] = 1, 1
    pairs = [(some, far), (some, empty), (empty, empty)]
    metric = surface.Hd95()
    found = metric.summarize(
        [metric(scenes.seen(*pair, 2)) for pair in pairs], class_names=("a", "b")
    )
    assert found.value == 2 and found.detail["per_class"] == {"a": None, "b": 2}
    assert found.detail["examples"]["b"] == found.detail["infinite"]["b"] == 1
    assert found.notes == [
        "1 of 2 pairs of example and class have truth or prediction alone: infinite, and in no mean"
    ]
    counted = surface.Hd95(missing="diagonal", spacing=(3.0, 2.0))
    found = counted.summarize(
        [counted(scenes.seen(*pair, 2)) for pair in pairs], class_names=("a", "b")
    )
    assert found.value == pytest.approx((4 + np.hypot(12, 16)) / 2) and not found.notes


@pytest.mark.parametrize("spacing", [[1.0], [1.0, 2.0, 3.0], [0.0, 1.0], [np.nan, 1.0]], ids=str)
def test_a_spacing_that_means_nothing_is_an_error(spacing):
    label, pred = scenes.maps(0)
    with pytest.raises(DataError, match="spacing .* for a label of 2 axes, expected 2 numbers"):
        surface.Hd95()(scenes.seen(label, pred, spacing=np.array(spacing)))
