"""Maps and packed regions at points are bilinear, and void does not count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.losses import points

SIZE = (5, 7)


def drawn(*shape):
    """Return points, some of them near the edges, one on a corner."""
    found = np.random.default_rng(0).uniform(size=(*shape, 2)).astype(np.float32)
    found[..., 0, :], found[..., 1, :] = (0, 1), (0.01, 0.5)
    return jnp.asarray(found)


def by_hand(maps, where):
    """Return [p c]: bilinear between centres of pixels, 0 outside."""
    padded = np.pad(np.asarray(maps, float), ((1, 1), (1, 1), (0, 0)))
    found = []
    for y, x in np.asarray(where, float) * maps.shape[:2] + 0.5:
        i, j = int(y), int(x)
        a, b = y - i, x - j
        rows = (1 - a) * padded[i] + a * padded[min(i + 1, len(padded) - 1)]
        found.append((1 - b) * rows[j] + b * rows[min(j + 1, len(rows) - 1)])
    return np.array(found)


def scene():
    """Return masks of 11 objects that overlap, their packed form, a label and a truth of both."""
    rng = np.random.default_rng(2)
    masks = rng.uniform(size=(*SIZE, 11)) > 0.6
    label = rng.integers(0, 3, SIZE)
    label[2, 1:4] = 255
    packed = jnp.asarray(np.packbits(masks, axis=-1, bitorder="little"))
    classes = jnp.arange(14, dtype=jnp.int32)
    values = jnp.asarray([0, 1, 2], jnp.int32)
    every = np.concatenate([masks, label[..., None] == [0, 1, 2]], axis=-1)
    return every, label, points.Truth(classes, packed, jnp.asarray(label, jnp.int32), values)


def test_all_channels_at_the_same_points():
    maps, where = np.random.default_rng(1).normal(size=(*SIZE, 3)).astype(np.float32), drawn(30)
    found = points.sample(jnp.asarray(maps), where)
    np.testing.assert_allclose(found, by_hand(maps, where), atol=1e-5)


def test_each_channel_at_points_of_its_own():
    maps, where = np.random.default_rng(1).normal(size=(*SIZE, 3)).astype(np.float32), drawn(2, 30)
    found = points.sample_each(jnp.asarray(maps), jnp.asarray([2, 0], jnp.int32), where)
    for row, channel, own in zip(found, (2, 0), where, strict=True):
        np.testing.assert_allclose(row, by_hand(maps, own)[:, channel], atol=1e-5)


def test_regions_are_looked_up_in_their_bits_and_in_the_label():
    """Both ways give what the masks give, divided by what is known; void is in no region."""
    every, label, truth = scene()
    where = drawn(40)
    known = 1 - by_hand((label == 255)[..., None], where) / by_hand(np.ones((*SIZE, 1)), where)
    inside = by_hand(every, where) / np.where(known > 1e-6, known, 1)
    seen = points.see(truth, where)
    np.testing.assert_allclose(seen.known, known, atol=1e-5)
    np.testing.assert_allclose(seen.inside, inside, atol=1e-4)
    each = points.see_each(truth, jnp.broadcast_to(where, (14, 40, 2)))
    np.testing.assert_allclose(each.inside.T, seen.inside, atol=1e-6)
    np.testing.assert_allclose(each.known.T, jnp.broadcast_to(seen.known, (40, 14)), atol=1e-6)


@pytest.mark.parametrize("count", [1, 7, 50])
def test_the_smallest_are_found_in_the_order_of_their_places(count):
    """Zeros, ties and infinities among them."""
    values = np.abs(np.random.default_rng(0).normal(size=(6, 50))).astype(np.float32)
    values[1], values[2, ::3], values[3, 5:9], values[4] = 0, 0, np.inf, np.round(values[4])
    found = np.asarray(jax.jit(points.smallest, static_argnums=1)(jnp.asarray(values), count))
    order = np.sort(np.argsort(values, axis=1, kind="stable")[:, :count], axis=1)
    chosen = np.take_along_axis(values, found, axis=1)
    np.testing.assert_array_equal(np.sort(chosen), np.sort(values)[:, :count])
    assert (np.diff(found, axis=1) > 0).all()
    np.testing.assert_array_equal(found[[0, 5]], order[[0, 5]])


def test_most_points_are_where_a_logit_is_near_0():
    """Three quarters: the nearest of three times as many; the others anywhere, by the key alone."""
    ramp = jnp.broadcast_to(jnp.linspace(-4, 4, 32)[:, None, None], (32, 32, 2))
    options = {"count": 200, "oversample": 3.0, "importance": 0.75}
    channels = jnp.asarray([0, 1], jnp.int32)
    where = points.uncertain(ramp, channels, jax.random.key(0), **options)
    away = jnp.abs(where[..., 0] - 0.5)
    assert where.shape == (2, 200, 2) and away[:, :150].max() < 0.18 < away[:, 150:].max()
    again = points.uncertain(ramp, channels, jax.random.key(0), **options)
    np.testing.assert_array_equal(where, again)
