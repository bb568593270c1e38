"""Deformable attention reads where it is told to, and its gradient says where to look instead.

Its numbers beside Hugging Face's, inside of Mask2Former, are in tests/outside.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from segjax.costs import hlo
from segjax.layers import deformable
from segjax.layers.style import Style
from tests.outside import recorded

SIZES = ((2, 3), (4, 5))
COUNT = 26
"""Places of both levels."""


def made(points=2, heads=2, images=2):
    """Return values, offsets and shares of noise."""
    rng = np.random.default_rng(0)
    shares = rng.uniform(size=(images, COUNT, heads, 2, points))
    shares /= shares.sum((-1, -2), keepdims=True)
    return (
        rng.normal(size=(images, COUNT, heads, 3)),
        1.5 * rng.normal(size=(images, COUNT, heads, 2, points, 2)),
        shares,
    )


def by_hand(value, offsets, shares):
    """Return what NumPy finds, point by point; what lies outside of a level is 0."""
    found = np.zeros_like(value)
    starts = (0, 6)
    where = [((y + 0.5) / h, (x + 0.5) / w) for h, w in SIZES for y in range(h) for x in range(w)]
    for index in np.ndindex(offsets.shape[:5]):
        b, n, head, level, _ = index
        (h, w), (own_y, own_x) = SIZES[level], where[n]
        grid = value[b, starts[level] : starts[level] + h * w, head].reshape(h, w, -1)
        y, x = own_y * h - 0.5 + offsets[index][0], own_x * w - 0.5 + offsets[index][1]
        for i in (int(np.floor(y)), int(np.floor(y)) + 1):
            for j in (int(np.floor(x)), int(np.floor(x)) + 1):
                if 0 <= i < h and 0 <= j < w:
                    share = (1 - abs(y - i)) * (1 - abs(x - j)) * shares[index]
                    found[b, n, head] += share * grid[i, j]
    return found


def test_points_are_read_bilinearly(float64):
    of = made()
    found = recorded.compiled(functools.partial(deformable.sample, sizes=SIZES))(*of)
    np.testing.assert_allclose(found, by_hand(*of), atol=1e-12)


def test_the_gradient_is_that_of_differences(float64):
    """By values, offsets and shares: along a direction of noise of all three together."""
    of = made(points=1, heads=1, images=1)
    rng = np.random.default_rng(1)
    way = tuple(rng.normal(size=x.shape) for x in of)

    def total(far):
        moved = (x + far * along for x, along in zip(of, way, strict=True))
        return (deformable.sample(*moved, sizes=SIZES) ** 2).sum()

    (slope,) = recorded.compiled(jax.grad(lambda far: total(far[0])))(jnp.zeros(1))
    steps = [sum((by_hand(*(x + far * w for x, w in zip(of, way, strict=True))) ** 2).ravel())
             for far in (1e-6, -1e-6)]  # fmt: skip
    np.testing.assert_allclose(slope, (steps[0] - steps[1]) / 2e-6, rtol=1e-6)


def test_a_point_on_a_pixel_still_learns_where_to_go(float64):
    """As all points are at first: the gradient is that towards the next pixel, never 0."""
    value, offsets, shares = map(jnp.asarray, made(points=1, heads=1, images=1))
    of = recorded.compiled(
        jax.grad(lambda x: deformable.sample(value, x, shares, SIZES).sum())
    )(jnp.zeros(offsets.shape))  # fmt: skip
    own = np.asarray(of)[0, :6, 0, 0, 0]  # of the first level's places, on that level
    grid = np.pad(np.asarray(value)[0, :6, 0].sum(-1).reshape(2, 3), ((0, 1), (0, 1)))
    share = np.asarray(shares)[0, :6, 0, 0].reshape(2, 3)
    np.testing.assert_allclose(own[:, 0].reshape(2, 3), share * np.diff(grid, axis=0)[:, :3])
    np.testing.assert_allclose(own[:, 1].reshape(2, 3), share * np.diff(grid, axis=1)[:2])


def test_heads_start_by_looking_around():
    """Each along its own direction, its points 1, 2, … pixels far on every level (DETR's start)."""
    layer = deformable.Attention(4, 2, SIZES, style=Style())
    x = jnp.zeros((1, COUNT, 8))
    params = layer.init(jax.random.key(0), x, x)["params"]
    found = np.asarray(params["offsets"]["bias"]).reshape(4, 2, 2, 2)
    towards = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]])
    for far in (1, 2):
        np.testing.assert_allclose(found[:, 0, far - 1], far * towards, atol=1e-6)
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    assert not np.asarray(params["offsets"]["kernel"]).any()


@pytest.mark.slow
def test_a_split_batch_gathers_nothing():
    mesh = Mesh(np.asarray(jax.devices()).reshape(8), ("data",))
    split = NamedSharding(mesh, P("data"))
    of = [jax.ShapeDtypeStruct((8, *x.shape[1:]), jnp.float32, sharding=split) for x in made()]

    def total(of):
        return (deformable.sample(*of, sizes=SIZES) ** 2).sum()

    text = jax.jit(jax.value_and_grad(total)).lower(of).compile().as_text()
    assert {found.kind for found in hlo.collectives_of(text)} == {"all-reduce"}
