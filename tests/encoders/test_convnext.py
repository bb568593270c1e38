"""ConvNeXt is the published one: shapes, parameter counts, torchvision's and timm's numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.encoders import convnext
from segjax.errors import ConfigError
from segjax.pretrained import timm as timm_names
from segjax.pretrained import torchvision as torchvision_names
from tests import parity
from tests.encoders import contract
from tests.pretrained import names as published

DOUBLE = {"compute_dtype": "float64", "param_dtype": "float64"}
TINY = {"widths": (8, 12, 16, 20), "depths": (1, 1, 2, 1)}


class TestConvNeXt(contract.EncoderContract):
    def encoder(self, **overrides):
        return convnext.Encoder(**TINY, **overrides)


@pytest.mark.slow
class TestSharding(contract.ShardingContract):
    rows = 128  # windows of 7 reach three rows of stride 32, XLA no further than the next device

    def encoder(self, **overrides):
        return convnext.Encoder(widths=(8, 12, 16, 20), depths=(1, 1, 1, 1), **overrides)


class TestDilated(contract.EncoderContract):
    def encoder(self, **overrides):
        return convnext.Encoder(output_stride=8, **TINY, **overrides)


# torchvision's documented counts less the classifier and the layer norm before it.
COUNTS = {
    "tiny": 28_589_128 - 769_000 - 2 * 768,
    "small": 50_223_688 - 769_000 - 2 * 768,
    "base": 88_591_464 - 1_025_000 - 2 * 1024,
}


@pytest.mark.parametrize(("variant", "expected"), COUNTS.items())
def test_parameters_are_those_published(variant, expected):
    assert contract.count(convnext.Encoder(variant=variant)) == expected


def test_every_published_name_is_used():
    encoder = convnext.Encoder()
    rules = torchvision_names.convnext({})
    published.check("torchvision-convnext_tiny", encoder, rules, unused=r"classifier\..*")
    published.check("timm-convnext_tiny", encoder, timm_names.convnext({}), unused=r"head\..*")


def test_features_are_torchvisions(float64):
    # The reference drops what fills no whole patch: at 65 x 97 its features are smaller than ours.
    theirs = parity.torchvision().models.convnext
    parity.record_names(theirs.convnext_tiny(), "torchvision-convnext_tiny")
    stages = zip(TINY["widths"], (*TINY["widths"][1:], None), TINY["depths"], strict=True)
    blocks = [theirs.CNBlockConfig(*stage) for stage in stages]
    reference = parity.randomize(theirs.ConvNeXt(blocks, stochastic_depth_prob=0.1))

    def features(y):
        return [y := layer(y) for layer in reference.features][1::2]

    encoder = convnext.Encoder(edge="drop", drop_path=0.1, **TINY, **DOUBLE)
    contract.check_features(encoder, reference, torchvision_names.convnext({}), features)
    rates = [m.p for m in reference.modules() if type(m).__name__ == "StochasticDepth"]
    np.testing.assert_allclose(contract.drop_rates(encoder), rates)


def test_timms_names():
    parity.torchvision()
    timm = pytest.importorskip("timm", reason=parity.REASON)
    parity.record_names(timm.create_model("convnext_tiny"), "timm-convnext_tiny")


@pytest.mark.parametrize("output_stride", [32, 16, 8])
def test_features_are_timms(output_stride, float64):
    parity.torchvision()
    timm = pytest.importorskip("timm", reason=parity.REASON)
    reference = timm.create_model(
        "convnext_tiny",
        depths=TINY["depths"],
        dims=TINY["widths"],
        output_stride=output_stride,
    )
    parity.randomize(reference)
    features = functools.partial(reference.forward_intermediates, intermediates_only=True)
    encoder = convnext.Encoder(edge="drop", output_stride=output_stride, **TINY, **DOUBLE)
    contract.check_features(encoder, reference, timm_names.convnext({}), features)


def test_cut_off_patches_are_completed_by_zeros(float64):
    encoder = convnext.Encoder(**TINY, **DOUBLE)
    x = jnp.asarray(parity.image((30, 33)))
    rng = np.random.default_rng(1)
    variables = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), contract.shapes(encoder, x.shape)[1]
    )
    padded = jnp.pad(x, [(0, 0), (0, 2), (0, 3), (0, 0)])
    forward = jax.jit(lambda v, x: encoder.apply(v, x, train=False)[0])
    np.testing.assert_allclose(forward(variables, x), forward(variables, padded), rtol=1e-12)


@pytest.mark.parametrize(
    "fields",
    [{"variant": "huge"}, {"output_stride": 4}, {"edge": "keep"}, {"depths": (1, 2)}],
)
def test_what_cannot_be_built_says_why(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        contract.count(convnext.Encoder(**fields))
