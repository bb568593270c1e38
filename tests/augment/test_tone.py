"""Values of Pillow's operations, of JPEG, and of fewer pixels, against those who define them."""

import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.ImageEnhance
import PIL.ImageOps
import pytest

from segjax.augment import degrade, intensity, photometric, tone
from segjax.errors import ConfigError
from tests.augment import samples

RANDOM = np.random.default_rng(0)
BYTES = RANDOM.integers(0, 256, (37, 45, 3)).astype(np.uint8)
DULL = (60 + BYTES // 3 * (np.arange(45)[:, None] / 45)).astype(np.uint8)
"""Few levels, and more of some than of others."""


def ours(function, image):
    return np.asarray(jax.jit(function)(jnp.asarray(image, jnp.float32) / 255)) * 255


@pytest.mark.parametrize("image", [BYTES, DULL], ids=["noise", "dull"])
def test_bytes_become_what_pillow_makes_of_them(image):
    theirs = PIL.Image.fromarray(image)
    cases = {
        "posterize": (lambda x: tone.to_bits(x, 3), PIL.ImageOps.posterize(theirs, 3), 0),
        "solarize": (
            lambda x: tone.above_inverted(x, 100 / 255), PIL.ImageOps.solarize(theirs, 100), 0
        ),
        "equalize": (tone.equalized, PIL.ImageOps.equalize(theirs), 0),
        "autocontrast": (tone.stretched, PIL.ImageOps.autocontrast(theirs), 1),
        "sharper": (
            lambda x: tone.sharpened(x, 2.5), PIL.ImageEnhance.Sharpness(theirs).enhance(2.5), 2
        ),
        "softer": (
            lambda x: tone.sharpened(x, 0.3), PIL.ImageEnhance.Sharpness(theirs).enhance(0.3), 2
        ),
        "brightness": (
            lambda x: tone.blended(x, 0.0, 0.4), PIL.ImageEnhance.Brightness(theirs).enhance(0.4), 1
        ),
    }  # fmt: skip
    for name, (function, expected, slack) in cases.items():
        off = np.abs(ours(function, image) - np.asarray(expected))
        assert off.max() <= slack + 1e-3, name


def test_one_level_stays_one_level():
    flat = np.full((6, 7, 3), 77, np.uint8)
    for function in (tone.equalized, tone.stretched, lambda x: tone.sharpened(x, 3.0)):
        np.testing.assert_allclose(ours(function, flat), flat, atol=1e-3)


@pytest.mark.parametrize("quality", [20, 75])
def test_jpeg_loses_what_libjpeg_loses(quality):
    y, x = np.mgrid[:40, :52] / 52
    image = np.stack([np.sin(9 * x + 5 * y), np.cos(7 * y), x * y], -1) * 90 + 128
    image[10:20, 10:30] = (200, 40, 60)
    image = image.astype(np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=0)
    theirs = np.asarray(PIL.Image.open(buffer), float)
    found = ours(lambda x: degrade.as_jpeg(x, quality), image)
    lost = np.abs(theirs - image).mean()
    assert np.abs(found - theirs).mean() < 0.6  # it counts in whole numbers on the way
    assert np.abs(found - theirs).max() < 10
    assert 0.9 < np.abs(found - image).mean() / lost < 1.1


def test_fewer_pixels_are_those_of_torch():
    """`nearest-exact`, then `linear`, by their formulas."""
    line = RANDOM.random(29).astype(np.float32)
    few = round(29 * 0.4)
    small = line[np.floor((np.arange(few) + 0.5) * 29 / few).astype(int)]
    at = np.clip((np.arange(29) + 0.5) * few / 29 - 0.5, 0, few - 1)
    expected = np.interp(at, np.arange(few), small)
    found = intensity.coarse(jnp.asarray(line)[:, None], jnp.float32(0.4), axis=0)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-6)


def test_nnunet_gamma_keeps_mean_and_deviation_and_its_formula():
    volume = RANDOM.normal(size=(6, 7, 8, 2)).astype(np.float32)
    label = np.zeros((6, 7, 8))
    for invert in (False, True):
        op = functools.partial(intensity.gamma, exponent=(1.4, 1.4), invert=invert, p=1)
        out, _ = samples.run(op, volume, label, keys=2)
        x = -volume if invert else volume
        low, high = x.min((0, 1, 2)), x.max((0, 1, 2))
        y = ((x - low) / (high - low)) ** 1.4 * (high - low) + low
        y = (y - y.mean((0, 1, 2))) / y.std((0, 1, 2)) * x.std((0, 1, 2)) + x.mean((0, 1, 2))
        np.testing.assert_allclose(out[0], -y if invert else y, atol=2e-5)


def test_nnunet_brightness_and_contrast_draw_for_each_channel():
    image = RANDOM.normal(size=(12, 14, 3)).astype(np.float32) + 5
    label = np.zeros((12, 14))
    op = functools.partial(intensity.brightness, mean=(5, 4, 3), p=1)
    out, _ = samples.run(op, image, label, keys=64)
    middle = np.array([5, 4, 3])
    factor = np.median((out - middle) / (image - middle), axis=(1, 2))
    np.testing.assert_allclose(out, middle + factor[:, None, None] * (image - middle), atol=1e-4)
    assert 0.75 <= factor.min() < 0.8 and 1.2 < factor.max() <= 1.251
    assert 0.35 < (factor < 1).mean() < 0.65, "below 1 as often as above"
    assert abs(np.corrcoef(factor[:, 0], factor[:, 1])[0, 1]) < 0.3
    out, _ = samples.run(functools.partial(intensity.contrast, p=1), image, label, keys=16)
    assert (out.min((0, 1, 2)) >= image.min((0, 1)) - 1e-5).all()
    assert (out.max((0, 1, 2)) <= image.max((0, 1)) + 1e-5).all()
    assert np.abs(out - image).max() > 0.3


@pytest.mark.slow
def test_fog_hides_by_depth_and_shadow_is_a_straight_band():
    image = np.full((40, 60, 3), 0.3, np.float32)
    label = np.zeros((40, 60))
    op = functools.partial(degrade.fog, density=(2, 2), color=1.0)
    out, _ = samples.run(op, image, label, keys=8)
    through = (1 - out) / 0.7
    assert through.min() >= np.exp(-2) - 1e-5 and through.max() <= 1 + 1e-5
    assert np.abs(np.diff(through, axis=1)).max() < 0.2 and (through.std((1, 2, 3)) > 0.02).all()
    op = functools.partial(degrade.shadow, darkness=(0.5, 0.5), width=(0.3, 0.3))
    out, _ = samples.run(op, image, label, keys=16)
    dark = np.isclose(out[..., 0], 0.15)
    np.testing.assert_array_equal(dark, ~np.isclose(out[..., 0], 0.3))
    for one in dark:  # of a straight band every line through it sees one piece
        for axis in (0, 1):
            assert (np.diff(one.astype(int), axis=axis) != 0).sum(axis).max() <= 2
    assert 0.05 < dark.mean() < 0.6


def test_channels_change_places_and_are_dropped():
    image = np.stack([np.full((4, 5), v) for v in (0.1, 0.2, 0.3, 0.4)], -1).astype(np.float32)
    out, _ = samples.run(photometric.channel_shuffle, image, np.zeros((4, 5)), keys=64)
    orders = {tuple(np.round(10 * one[0, 0]).astype(int)) for one in out}
    assert len(orders) > 12 and all(sorted(order) == [1, 2, 3, 4] for order in orders)
    op = functools.partial(photometric.channel_dropout, count=(1, 3), fill=0.9)
    out, _ = samples.run(op, image, np.zeros((4, 5)), keys=64)
    dropped = np.isclose(out, 0.9).all((1, 2)).sum(1)
    assert {*dropped} == {1, 2, 3}
    with pytest.raises(ConfigError, match="jpeg: expected images with a height and a width"):
        op = functools.partial(degrade.jpeg, quality=(50, 50))
        samples.run(op, np.zeros((4, 5, 6, 1)), np.zeros((4, 5, 6)), keys=1)
