"""What each op does to pixel values, against its definition, SciPy, or statistics."""

import functools
import math

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from segjax.augment import photometric
from segjax.errors import ConfigError
from tests.augment import samples

LUMA = np.array([0.299, 0.587, 0.114])


def run(op, image, keys=64):
    """Apply `op` to one example with many keys."""
    label = np.arange(math.prod(image.shape[:-1])).reshape(image.shape[:-1])
    return samples.run(op, image, label, keys=keys, seed=3)


def soft_image(channels=3):
    """Return an image within [0.4, 0.6]: mild changes do not reach the clipping."""
    return 0.4 + 0.2 * np.random.default_rng(0).random((12, 16, channels), np.float32)


def jitter(**strength):
    return functools.partial(photometric.color_jitter, **strength)


GAMMA = functools.partial(photometric.gamma, exponent=(0.5, 2))


def test_brightness_multiplies_by_a_factor_from_the_range():
    image = soft_image()
    factor = run(jitter(brightness=0.3), image)[0] / image
    np.testing.assert_allclose(
        factor, np.broadcast_to(factor[:, :1, :1, :1], factor.shape), rtol=1e-5
    )
    assert 0.7 <= factor.min() < 0.75 and 1.25 < factor.max() <= 1.3001


def test_a_large_strength_is_cut_at_zero_and_the_result_at_one():
    out = run(jitter(brightness=3.0), soft_image(), keys=256)[0]
    assert out.min() >= 0 and out.max() == 1


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_contrast_blends_with_the_mean_grey(channels):
    image = soft_image(channels)
    mean = (image @ LUMA).mean() if channels == 3 else image.mean()
    factor = (run(jitter(contrast=0.5), image)[0] - mean) / (image - mean)
    far = np.broadcast_to(np.abs(image - mean) > 0.05, factor.shape)
    middle = np.array([np.median(one) for one in factor])
    np.testing.assert_allclose(factor[far], np.repeat(middle, far[0].sum()), rtol=1e-3)
    assert 0.5 <= middle.min() < 0.6 and 1.4 < middle.max() <= 1.5


def test_saturation_scales_the_distance_to_grey():
    image = soft_image()
    grey = (image @ LUMA)[..., None]
    factor = np.median((run(jitter(saturation=0.5), image)[0] - grey) / (image - grey), (1, 2, 3))
    expected = grey + factor[:, None, None, None] * (image - grey)
    np.testing.assert_allclose(run(jitter(saturation=0.5), image)[0], expected, atol=1e-5)
    assert 0.5 <= factor.min() < 0.6 and 1.4 < factor.max() <= 1.5


def test_hue_turns_colours_and_keeps_grey_and_chroma():
    image = soft_image()
    out = run(jitter(hue=0.5), image, keys=128)[0]
    np.testing.assert_allclose(out @ LUMA, np.broadcast_to(image @ LUMA, out.shape[:3]), atol=1e-5)
    yiq = np.array([[0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    before, after = ((x @ yiq.T) @ [1, 1j] for x in (image, out))
    np.testing.assert_allclose(
        np.abs(after), np.broadcast_to(np.abs(before), after.shape), atol=1e-3
    )
    turn = np.angle((after / before)[:, 0, 0])
    assert turn.min() < -2.9 and turn.max() > 2.9 and abs(turn.mean()) < 0.5


def test_colour_needs_three_channels():
    for strength in ({"saturation": 0.1}, {"hue": 0.1}):
        with pytest.raises(ConfigError, match="3 channels"):
            run(jitter(**strength), soft_image(1), keys=1)


def test_probability_selects_examples():
    image = soft_image()
    out = run(jitter(brightness=0.3, hue=0.1, p=0.25), image, keys=400)[0]
    untouched = (out == image).all((1, 2, 3))
    assert 0.68 < untouched.mean() < 0.82


def test_gamma_raises_to_a_power():
    image = soft_image()
    power = np.log(run(GAMMA, image)[0])
    power = power / np.log(image)
    np.testing.assert_allclose(power, np.broadcast_to(power[:, :1, :1, :1], power.shape), rtol=1e-4)
    assert 0.5 <= power.min() < 0.6 and 1.8 < power.max() <= 2.001


@pytest.mark.parametrize("channels", [1, 3])
def test_blur_equals_scipy(channels):
    image = np.random.default_rng(0).random((17, 23, channels), np.float32)
    out = run(functools.partial(photometric.gaussian_blur, sigma=(2, 2)), image, keys=1)[0]
    expected = scipy.ndimage.gaussian_filter(image, (2, 2, 0), mode="nearest", truncate=3)
    np.testing.assert_allclose(out[0], expected, atol=1e-6)


def test_blur_draws_its_width():
    image = np.zeros((21, 21, 1), np.float32)
    image[10, 10] = 1
    out = run(functools.partial(photometric.gaussian_blur, sigma=(0.4, 2)), image)[0][..., 0]
    np.testing.assert_allclose(out.sum((1, 2)), 1, rtol=1e-5)
    sigma = np.sqrt((out.sum(1) * (np.arange(21) - 10) ** 2).sum(1))
    assert 0.3 < sigma.min() < 0.6 and 1.8 < sigma.max() <= 2


def test_noise_is_white_and_gaussian():
    image = np.full((64, 64, 3), 0.5, np.float32)
    op = functools.partial(photometric.gaussian_noise, std=(0.05, 0.05))
    out = (run(op, image, keys=16)[0] - 0.5) / 0.05
    assert abs(out.mean()) < 0.01 and abs(out.std() - 1) < 0.01
    assert scipy.stats.kstest(out[0].ravel(), "norm").pvalue > 0.01
    assert scipy.stats.kstest(out.ravel()[::7], "norm").pvalue > 0.01
    for axis in (0, 1, 2, 3):
        ahead, behind = np.split(out, [out.shape[axis] // 2], axis)
        near = (
            np.take(out, range(1, out.shape[axis]), axis),
            np.take(out, range(out.shape[axis] - 1), axis),
        )
        assert abs(np.corrcoef(near[0].ravel(), near[1].ravel())[0, 1]) < 0.02
        if ahead.shape == behind.shape:
            assert abs(np.corrcoef(ahead.ravel(), behind.ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("bits", [0, 2**32 - 1])
def test_the_rarest_noise_is_finite(bits, monkeypatch):
    monkeypatch.setattr(
        photometric, "_hash_bits", lambda key, shape: jnp.full(shape, bits, jnp.uint32)
    )
    image = np.full((4, 4, 1), 0.5, np.float32)
    op = functools.partial(photometric.gaussian_noise, std=(0.05, 0.05))
    out = (run(op, image, keys=1)[0] - 0.5) / 0.05
    assert (np.abs(out) > 5).all() and (np.abs(out) < 6).all()


def test_cutout_paints_rectangles_of_the_asked_size():
    image = np.ones((40, 60, 2), np.float32)
    op = functools.partial(photometric.cutout, size=(0.2, 0.5), fill=(0.25, 0.75), void=True)
    out, label = run(op, image, keys=128)
    hidden = label == 255
    hidden[:, 4, 15] = out[:, 4, 15, 0] == 0.25  # label 255 of its own
    np.testing.assert_array_equal(hidden, out[..., 0] == 0.25)
    np.testing.assert_array_equal(out[hidden], np.broadcast_to([0.25, 0.75], out[hidden].shape))
    rows, columns = hidden.any(2).sum(1), hidden.any(1).sum(1)
    np.testing.assert_array_equal(hidden.sum((1, 2)), rows * columns)
    assert rows.max() <= 21 and columns.max() <= 31
    assert rows.max() >= 18 and columns.max() >= 26


def test_cutout_leaves_the_label_unless_asked():
    op = functools.partial(photometric.cutout, size=(0.3, 0.3), count=3)
    out, label = run(op, soft_image(), keys=32)
    assert (out == 0).any((1, 2, 3)).all()
    assert (label == np.arange(12 * 16).reshape(12, 16)).all()


@pytest.mark.parametrize("size", [(40,), (12, 18, 20)])
def test_blur_equals_scipy_in_any_dimension(size):
    image = np.random.default_rng(0).random((*size, 2), np.float32)
    out = run(functools.partial(photometric.gaussian_blur, sigma=(2, 2)), image, keys=1)[0]
    sigma = (*[2] * len(size), 0)
    expected = scipy.ndimage.gaussian_filter(image, sigma, mode="nearest", truncate=3)
    np.testing.assert_allclose(out[0], expected, atol=1e-6)


@pytest.mark.parametrize("size", [(600,), (12, 8, 10)])
def test_colour_and_gamma_see_pixels_and_their_mean_in_any_dimension(size):
    image = soft_image().reshape(-1, 3)
    image = np.resize(image, (*size, 3))
    flat = image.reshape(-1, 1, 3)  # the same pixels as an image one pixel wide
    for op in (jitter(brightness=0.2, contrast=0.3, saturation=0.5, hue=0.1), GAMMA):
        expected = run(op, flat, keys=8)[0].reshape(8, *size, 3)
        np.testing.assert_allclose(run(op, image, keys=8)[0], expected, atol=1e-5)


@pytest.mark.parametrize("size", [(4096,), (16, 16, 16)])
def test_noise_is_white_in_any_dimension(size):
    op = functools.partial(photometric.gaussian_noise, std=(0.05, 0.05))
    out = (run(op, np.full((*size, 1), 0.5), keys=8)[0] - 0.5) / 0.05
    assert abs(out.mean()) < 0.02 and abs(out.std() - 1) < 0.02
    for axis in range(1, out.ndim - 1):
        near = np.delete(out, -1, axis), np.delete(out, 0, axis)
        assert abs(np.corrcoef(near[0].ravel(), near[1].ravel())[0, 1]) < 0.03


@pytest.mark.parametrize("size", [(100,), (20, 30, 40)])
def test_cutout_paints_boxes_of_the_asked_size_in_any_dimension(size):
    op = functools.partial(photometric.cutout, size=(0.2, 0.5), fill=0.25, void=True)
    label = np.zeros(size)
    out = samples.run_fields(op, np.ones((*size, 1)), label, label + 1, keys=128)
    hidden = out["label"] == 255
    np.testing.assert_array_equal(hidden, out["image"][..., 0] == 0.25)
    np.testing.assert_array_equal(hidden, out["instance"] == 0)
    lengths = []
    for axis, side in enumerate(size, start=1):
        others = tuple(i for i in range(1, hidden.ndim) if i != axis)
        lengths.append(hidden.any(others).sum(1))
        assert 0.4 * side <= lengths[-1].max() <= 0.5 * side + 1
    np.testing.assert_array_equal(hidden.sum(tuple(range(1, hidden.ndim))), np.prod(lengths, 0))
    if len(size) > 1:
        shares = np.corrcoef([n / side for n, side in zip(lengths, size, strict=True)])
        assert (np.abs(shares - np.eye(len(size))) < 0.3).all()
