"""Swin is the published one: shapes, parameter counts, names; its numbers are in tests/outside."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.encoders import swin
from segjax.layers.style import Style
from segjax.pretrained import huggingface as huggingface_names
from segjax.pretrained import timm as timm_names
from segjax.pretrained import torchvision as torchvision_names
from tests import parity
from tests.encoders import contract
from tests.pretrained import huggingface
from tests.pretrained import names as published

TINY = {"width": 8, "head_width": 4, "depths": (2, 1, 1, 1), "window": 3}


class TestSwin(contract.EncoderContract):
    dims = (2,)

    def encoder(self, **overrides):
        return swin.Encoder(**TINY, **overrides)


@pytest.mark.slow
def test_a_split_batch_needs_sums_only():
    encoder = swin.Encoder(**TINY, drop_path=0.0)
    assert contract.collectives(encoder, (8, 1), (8, 32, 32, 3)) == {"all-reduce"}


# torchvision's documented counts less the classifier and the layer norm before it.
COUNTS = {
    "t": 28_288_354 - 769_000 - 2 * 768,
    "s": 49_606_258 - 769_000 - 2 * 768,
    "b": 87_768_224 - 1_025_000 - 2 * 1024,
}


@pytest.mark.parametrize(("variant", "expected"), COUNTS.items())
def test_parameters_are_those_published(variant, expected):
    assert contract.count(swin.Encoder(variant=variant)) == expected


NAMES = {
    "torchvision-swin_t": (torchvision_names.swin, r"(head|norm)\..*|.*relative_position_index"),
    "timm-swin_tiny": (timm_names.swin, r"(head|norm)\..*"),
    "huggingface-swin_tiny": (huggingface_names.swin, r"layernorm\..*"),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_published_name_is_used(name):
    table, unused = NAMES[name]
    published.check(name, swin.Encoder(), table({}), unused=unused)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_those_of_their_code(name):
    vision = parity.torchvision()
    if name.startswith("torchvision"):
        reference = vision.models.swin_t()
    elif name.startswith("timm"):
        timm = pytest.importorskip("timm", reason=parity.REASON)
        reference = timm.create_model("swin_tiny_patch4_window7_224")
    else:
        transformers = huggingface.library()
        network = transformers.SwinModel(transformers.SwinConfig(), add_pooling_layer=False)
        reference = huggingface.Published(network)
    parity.record_names(reference, name)


def test_windows_see_what_was_next_to_them():
    """A shift of 1 in windows of 2: the last window holds what leaves at one end, and strangers."""
    sees = swin.visible((4, 4), 2, 1)
    assert sees.shape == (4, 4, 4)
    assert sees[0].all()  # in the middle
    np.testing.assert_array_equal(sees[3], np.eye(4, dtype=bool))  # four corners
    np.testing.assert_array_equal(sees[1], np.equal.outer([0, 1, 0, 1], [0, 1, 0, 1]))


def test_rates_of_dropped_branches_rise():
    rates = contract.drop_rates(swin.Encoder(**TINY, drop_path=0.4))
    np.testing.assert_allclose(rates[::2], np.linspace(0, 0.4, 5))


def test_a_place_hears_of_its_window_alone():
    """Of one that is shifted by 1: the places from 1 to 3."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 6, 6, 4)), "float32")
    block = swin.Block(heads=2, window=3, shift=1, drop_path=0.0, style=Style())

    @jax.jit
    def both(x, y):
        variables = block.init(jax.random.key(0), x, train=False)
        return [block.apply(variables, each, train=False) for each in (x, y)]

    first, second = both(x, x.at[:, 2, 2, 0].add(1.0))
    heard = np.zeros((6, 6), bool)
    heard[1:4, 1:4] = True
    np.testing.assert_array_equal(np.abs(second - first)[0].max(-1) > 0, heard)
