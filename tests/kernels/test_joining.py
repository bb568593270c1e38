"""Features side by side are those of a concatenation, whatever their widths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.kernels import joining
from tests.kernels.forms import assert_agree, noise


@pytest.mark.parametrize("widths", [(3,), (4, 4), (8, 4, 12), (5, 3), (2,) * 12, (6, 1)])
@pytest.mark.parametrize("places", [(2, 5, 3), (1, 2, 3, 4)])
def test_channels_of_one_come_after_anothers(widths, places, float64):
    xs = [noise(*places, width, seed=seed) for seed, width in enumerate(widths)]
    assert_agree(joining.join, *xs)
    np.testing.assert_array_equal(joining.join(*xs), np.concatenate(xs, -1))


def test_equal_widths_are_laid_side_by_side_by_one_fusion():
    xs = [jax.ShapeDtypeStruct((1, 64, 64, 32), jnp.bfloat16)] * 2
    text = jax.jit(joining.join.cpu).lower(*xs).compile().as_text()
    entry = text[text.index("ENTRY") :]
    assert " fusion(" in entry and " concatenate(" not in entry, entry
