"""Images reach the model on the scale it expects, and wrong statistics are refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from segjax.augment import compose, normalize
from segjax.config import lookup
from segjax.errors import ConfigError

IMAGE = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 3)).astype(np.uint8)


def test_fixed_works_in_units_of_one_for_bytes_and_floats():
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
    expected = (IMAGE / 255.0 - mean) / std
    for image in (jnp.asarray(IMAGE), jnp.asarray(IMAGE / 255.0, jnp.float32)):
        out = normalize.fixed(image, mean=mean, std=std)
        assert out.dtype == jnp.float32
        np.testing.assert_allclose(out, expected, atol=1e-5)


def build(**section):
    return lookup.build("augment", section, where="config.normalize", takes=("image",))


def test_fixed_takes_one_number_for_all_channels():
    out = normalize.fixed(jnp.asarray(IMAGE[..., :1]), mean=0.5, std=[0.5])
    np.testing.assert_allclose(out, IMAGE[..., :1] / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize(
    "mean, std", [((0.5, 0.5), (1, 1, 1)), ((0.5,), (1, 1)), ((0.5,), (1, 1, 0)), ((), 1), (0, -1)]
)
def test_fixed_refuses_numbers_that_do_not_fit(mean, std):
    with pytest.raises(ConfigError, match="expected"):
        build(type="normalize:fixed", mean=mean, std=std)(jnp.asarray(IMAGE))


def test_per_image_gives_zero_mean_and_unit_deviation_to_each():
    out = np.asarray(normalize.per_image(jnp.asarray(IMAGE), epsilon=1e-6))
    np.testing.assert_allclose(out.mean((1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(out.std((1, 2)), 1, atol=1e-4)


@pytest.mark.parametrize("size", [(30,), (2, 3, 5)])
def test_per_image_is_over_all_axes_in_space(size):
    out = normalize.per_image(jnp.asarray(IMAGE).reshape(2, *size, 3))
    expected = normalize.per_image(jnp.asarray(IMAGE))
    np.testing.assert_allclose(out, expected.reshape(out.shape), atol=1e-5)


def test_whole_numbers_become_floats_by_one_rule():
    """Unsigned ones end at 1; signed ones, such as Hounsfield units, keep their values."""
    for dtype, top, expected in (
        ("uint8", 255, 1.0),
        ("uint16", 65535, 1.0),
        ("int16", -1000, -1000.0),
        ("float32", 0.25, 0.25),
    ):
        image = jnp.full((1, 4, 2), top, dtype)
        out = compose.unit_range(image)
        assert out.dtype == jnp.float32 and (np.asarray(out) == expected).all()
        fixed = normalize.fixed(image, mean=0.5, std=2.0)
        np.testing.assert_allclose(fixed, (expected - 0.5) / 2, rtol=1e-6)


def test_per_image_turns_a_blank_image_into_zeros():
    out = normalize.per_image(jnp.full((1, 4, 4, 2), 0.3), epsilon=1e-3)
    np.testing.assert_allclose(out, 0, atol=1e-3)


def test_per_image_refuses_no_epsilon():
    with pytest.raises(ConfigError, match="epsilon=0: expected a number from 1e-09"):
        build(type="normalize:per_image", epsilon=0)
