"""Outlines, checked by rasterisers that know nothing of how they were traced."""

import numpy as np
import pytest
from matplotlib.path import Path

from segjax.data import contours


def inside(ring, shape):
    """Return the pixels whose centre is within a ring, by Matplotlib's crossing numbers."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    centres = np.stack([x.ravel() + 0.5, y.ravel() + 0.5], axis=1)
    return Path(np.vstack([ring, ring[:1]])).contains_points(centres).reshape(shape)


def area(ring):
    """Return the signed area by the shoelace formula: what numbers alone say."""
    (x, y), (u, v) = ring.T, np.roll(ring, -1, axis=0).T
    return (x * v - u * y).sum() / 2


def maps():
    key = np.random.default_rng(0)
    for _ in range(40):  # noise: holes in holes, regions that touch at corners
        yield key.integers(0, key.integers(1, 4), key.integers(1, 16, 2)).astype(np.uint8)
    for _ in range(10):
        coarse = key.integers(0, 3, (5, 6)).astype(np.uint8)
        yield np.kron(coarse, np.ones((2, 3), np.uint8))
    y, x = np.mgrid[:31, :40]
    yield (np.hypot(y - 15, x - 20) // 4 % 2).astype(np.uint8)  # rings within rings
    yield np.full((1, 1), 7, np.uint8)


def test_regions_rasterised_are_the_label_map_bit_for_bit():
    """The rule: each pixel is in one region, that of its class; areas are counts of pixels."""
    for label in maps():
        whole, cut = np.full(label.shape, 99), np.full(label.shape, 99)
        for region in contours.find(label):
            mask = inside(region.outline, label.shape)
            for hole in region.holes:
                mask &= ~inside(hole, label.shape)
            assert (whole[mask] == 99).all()
            whole[mask] = region.label
            cut[inside(region.joined(), label.shape)] = region.label
            rings = [region.outline, *region.holes]
            assert region.pixels == mask.sum() == sum(map(area, rings)) == area(region.joined())
            rows, columns = np.nonzero(mask)
            x, y, width, height = region.box
            assert (x, y) == (columns.min(), rows.min())
            assert (width, height) == (columns.max() + 1 - x, rows.max() + 1 - y)
        np.testing.assert_array_equal(whole, label)
        np.testing.assert_array_equal(cut, label)


def test_rings_are_simple_and_without_idle_corners():
    """The rule: no ring passes a corner twice; every corner turns; outer rings run one way."""
    for label in maps():
        for region in contours.find(label):
            assert area(region.outline) > 0 and all(area(hole) < 0 for hole in region.holes)
            for ring in (region.outline, *region.holes):
                assert len({*map(tuple, ring.tolist())}) == len(ring) >= 4
                steps = np.diff(np.vstack([ring, ring[:1]]), axis=0)
                assert ((steps == 0).sum(axis=1) == 1).all()  # along an axis each
                assert ((steps[:, 0] == 0) != (np.roll(steps, 1, axis=0)[:, 0] == 0)).all()


def test_pixels_that_touch_at_a_corner_are_two_regions():
    diagonal = np.array([[1, 0], [0, 1]], np.uint8)
    found = [(region.label, region.pixels) for region in contours.find(diagonal)]
    assert found == [(0, 1), (0, 1), (1, 1), (1, 1)]
    ring = contours.find(diagonal)[2].outline
    assert ring.tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]


def test_classes_and_void_are_left_out():
    label = np.array([[0, 1, 255], [2, 1, 255]], np.uint8)
    assert [region.label for region in contours.find(label)] == [0, 1, 2]
    assert [region.label for region in contours.find(label, without={0, 255})] == [1, 2]
    assert not contours.find(np.full((3, 3), 255, np.uint8))


def test_shapely_takes_the_polygons():
    geometry = pytest.importorskip("shapely.geometry")
    for label in maps():
        for region in contours.find(label):
            polygon = geometry.Polygon(region.outline, region.holes)
            assert polygon.is_valid and polygon.area == region.pixels


def test_pycocotools_fills_the_joined_outline_exactly():
    masks = pytest.importorskip("pycocotools.mask")
    for label in maps():
        found = np.full(label.shape, 99)
        for region in contours.find(label):
            polygon = region.joined().ravel().astype(float).tolist()
            run_lengths = masks.merge(masks.frPyObjects([polygon], *label.shape))
            assert masks.area(run_lengths) == region.pixels
            found[masks.decode(run_lengths) > 0] = region.label
        np.testing.assert_array_equal(found, label)
