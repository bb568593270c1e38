"""Boxes against plain NumPy; torchvision's own numbers are in tests/outside."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.layers import boxes


def some(count: int, seed: int = 0) -> jax.Array:
    """Return boxes within 40 x 60 pixels, one of them without area."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, (30, 50), (count, 2))
    made = np.concatenate([corners, corners + rng.uniform(1, 10, (count, 2))], axis=-1)
    made[0, 2:] = made[0, :2]
    return jnp.asarray(made, jnp.float32)


def test_overlaps_are_those_of_pixels():
    """Of boxes with whole corners they are numbers of pixels, which can be counted."""
    one, other = jnp.round(some(9)), jnp.round(some(7, seed=1))

    def drawn(found):
        canvas = np.zeros((len(found), 50, 70), bool)
        for image, (y0, x0, y1, x1) in zip(canvas, np.asarray(found, int), strict=True):
            image[y0:y1, x0:x1] = True
        return canvas.reshape(len(found), -1)

    a, b = drawn(one), drawn(other)
    both, either = (a[:, None] & b).sum(-1), (a[:, None] | b).sum(-1)
    np.testing.assert_allclose(boxes.iou(one, other), both / np.maximum(either, 1), atol=1e-6)
    whole = np.maximum(a.sum(-1), 1)[:, None]
    np.testing.assert_allclose(boxes.inside(one, other), both / whole, atol=1e-6)


def test_offsets_lead_back():
    targets, around = some(9)[1:], some(9, seed=1)[1:]
    weights = (10.0, 5.0)
    offsets = boxes.encode(targets, around, weights=weights)
    found = boxes.decode(offsets, around, weights=weights)
    np.testing.assert_allclose(found, targets, rtol=1e-4, atol=1e-4)


def test_a_side_grows_by_a_bounded_factor():
    found = boxes.decode(jnp.full((1, 4), 1e4), jnp.asarray([[0.0, 0.0, 2.0, 4.0]]))
    np.testing.assert_allclose(boxes.sides(found), [[125, 250]], rtol=1e-3)


@pytest.mark.parametrize("space", [(33,), (20, 31), (7, 9, 11)])
@pytest.mark.parametrize("n", [1, 8, 13])
def test_boxes_of_masks_hold_their_pixels_exactly(space, n):
    """In one, two and three dimensions, for any number of bits, empty and whole masks too."""
    masks = np.random.default_rng(n).random((*space, n)) < 0.02
    masks[..., 0], masks[..., n // 2] = False, True
    packed = np.packbits(masks, axis=-1, bitorder="little")
    found, there = jax.jit(boxes.of_masks, static_argnums=1)(jnp.asarray(packed), n)
    for i in range(n):
        places = np.argwhere(masks[..., i])
        assert there[i] == bool(len(places))
        expected = [*places.min(0), *places.max(0) + 1] if len(places) else [0] * 2 * len(space)
        np.testing.assert_array_equal(found[i], expected)
