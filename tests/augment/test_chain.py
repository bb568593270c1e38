"""Geometric ops that follow each other: one interpolation, at the places of all of them."""

import functools

import jax
import numpy as np
import pytest

from segjax.augment import compose, geometry, photometric
from tests.augment import samples

SIZE, SMALL = (40, 56), (32, 48)
STEPS = {
    "scale": functools.partial(geometry.affine, size=SMALL, scale=(1.0, 1.4), horizontal=0.5),
    "turn": functools.partial(geometry.affine, size=SMALL, rotate=25),
    "elastic": functools.partial(geometry.elastic, std=1.5),
    "flip": functools.partial(geometry.flip, horizontal=0.5, vertical=0.5),
    "stripes": functools.partial(geometry.grid_distortion, limit=0.2),
    "aside": functools.partial(geometry.perspective, distortion=0.2),
}
ROWS = 6


def smooth():
    """Return an image that linear interpolation hardly changes, and one that shows places."""
    y, x = (np.mgrid[: SIZE[0], : SIZE[1]] + 0.5) / 64
    return np.stack([y, x], -1).astype(np.float32)


def blocks():
    rows, columns = np.arange(SIZE[0])[:, None] // 8, np.arange(SIZE[1]) // 8
    return ((3 * rows + 2 * columns) % 7 + 1).astype(np.int32)


def make_batch(image, label):
    tiled = {"image": image, "label": label, "instance": 10 * label}
    batch = {name: np.stack([value] * ROWS) for name, value in tiled.items()}
    batch["object_masks"] = np.zeros((ROWS, *SIZE, 1), np.uint8)
    batch["spacing"] = np.zeros((ROWS, 3), np.float32)
    return batch | {"mask": np.ones(ROWS, bool), "index": np.arange(ROWS, dtype=np.int32)}


@functools.cache
def chain(*names, apart=False):
    """Compile steps together; with `apart` each is hidden from the others and moves by itself."""
    ops = [STEPS[name] for name in names]
    if apart:
        ops = [lambda key, sample, op=op: op(key, sample) for op in ops]
    return jax.jit(compose.make_augment(ops, samples.schema(2, "float32")))


@pytest.mark.parametrize(
    "names",
    [
        ("scale", "flip"),
        pytest.param(("turn", "elastic", "aside"), marks=pytest.mark.slow),
        pytest.param(("elastic", "scale", "stripes"), marks=pytest.mark.slow),
    ],
)
def test_together_they_are_what_they_are_one_after_the_other(names):
    """The image within what interpolating several times blurs; the label where it says."""
    key, batch = jax.random.key(1), make_batch(smooth(), blocks())
    one, several = (jax.device_get(chain(*names, apart=apart)(key, batch)) for apart in (0, 1))
    void = one["label"] == 255
    np.testing.assert_array_equal(one["instance"], np.where(void, 0, 10 * one["label"]))
    both = ~void & (several["label"] != 255)
    assert both.mean() > 0.4 and (void != (several["label"] == 255)).mean() < 0.03
    inner = both.copy()  # the border is interpolated with the fill, if one by one
    for axis in (1, 2):
        for step in (-3, -2, -1, 1, 2, 3):
            inner &= np.roll(both, step, axis)
    inner[:, [0, 1, 2, -3, -2, -1]] = inner[:, :, [0, 1, 2, -3, -2, -1]] = False
    assert inner.mean() > 0.2
    assert np.abs(one["image"] - several["image"])[inner].max() * 64 < 0.25, "of a pixel"
    # The image says its places, and the label is that of the pixel there: taken several times it
    # is off by up to half a pixel each time.
    place = one["image"][inner] * 64
    clear = (np.abs(place - np.round(place)) > 1e-3).all(-1)
    rows, columns = np.floor(place[clear]).astype(int).T
    np.testing.assert_array_equal(one["label"][inner][clear], blocks()[rows, columns])
    assert (one["label"] == several["label"])[inner].mean() > 0.85


@pytest.mark.slow
def test_pixels_are_read_once():
    """White noise that is interpolated several times loses its contrast; once, less."""
    noise = np.random.default_rng(0).normal(size=(*SIZE, 2)).astype(np.float32)
    batch, key = make_batch(noise, blocks()), jax.random.key(1)
    names = ("turn", "elastic", "aside")
    left = []
    for apart in (False, True):
        out = jax.device_get(chain(*names, apart=apart)(key, batch))
        left.append(out["image"][out["label"] != 255].std())
    assert left[0] > 1.4 * left[1]
    assert 0.6 < left[0] < 0.75  # 2/3 along each of two axes: what one linear interpolation leaves


def test_mirroring_alone_or_after_a_crop_copies_pixels():
    noise = np.random.default_rng(0).random((*SIZE, 2)).astype(np.float32)
    batch, key = make_batch(noise, blocks()), jax.random.key(3)
    for names in (("scale", "flip"), ("flip",)):
        one, several = (jax.device_get(chain(*names, apart=apart)(key, batch)) for apart in (0, 1))
        for field in ("image", "label", "instance"):
            np.testing.assert_array_equal(one[field], several[field])


@pytest.mark.slow
def test_an_op_between_that_changes_values_sees_what_was_moved():
    key, batch = jax.random.key(1), make_batch(smooth(), blocks())
    gamma = functools.partial(photometric.gamma, exponent=(2, 2))
    ops = [STEPS["turn"], gamma, STEPS["elastic"]]
    out = jax.device_get(
        jax.jit(compose.make_augment(ops, samples.schema(2, "float32")))(key, batch)
    )
    plain = jax.device_get(chain("turn", "elastic")(key, batch))
    assert out["image"].shape == plain["image"].shape and (out["image"] >= 0).all()
    inner = (out["label"] != 255) & (plain["label"] != 255)
    assert np.abs(out["image"][inner]).mean() < 0.8 * np.abs(plain["image"][inner]).mean()
