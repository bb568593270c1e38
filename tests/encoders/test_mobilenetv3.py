"""MobileNetV3 is the published one: shapes, parameter counts, torchvision's and timm's numbers."""

import functools

import jax
import numpy as np
import pytest

from segjax.encoders import mobilenetv3
from segjax.errors import ConfigError
from segjax.pretrained import timm as timm_names
from segjax.pretrained import torchvision as torchvision_names
from tests import parity
from tests.encoders import contract
from tests.pretrained import names as published

DOUBLE = {"compute_dtype": "float64", "param_dtype": "float64"}
SMALL = {"width": 0.1, "depths": (1, 1, 1, 1, 1, 1)}


class TestLarge(contract.EncoderContract):
    def encoder(self, **overrides):
        return mobilenetv3.Encoder(**SMALL, **overrides)


@pytest.mark.slow
class TestSharding(contract.ShardingContract):
    def encoder(self, **overrides):
        return mobilenetv3.Encoder(**SMALL, **overrides)


class TestDilated(contract.EncoderContract):
    def encoder(self, **overrides):
        fields = {"output_stride": 8, "first_blocks": True, "norm": "group"}
        return mobilenetv3.Encoder(**SMALL, **fields, **overrides)


def test_parameters_are_those_published():
    # torchvision's documented count less the classifier.
    expected = 5_483_032 - 961 * 1280 - 1281 * 1000
    assert contract.count(mobilenetv3.Encoder()) == expected


def test_every_published_name_is_used():
    encoder, rules = mobilenetv3.Encoder(), torchvision_names.mobilenetv3({})
    published.check("torchvision-mobilenet_v3_large", encoder, rules, unused=r"classifier\..*")
    rules = timm_names.mobile({})
    unused = r"(conv_head|classifier)\..*"
    published.check("timm-mobilenetv3_large_100", encoder, rules, unused=unused)


def torchvision_reference(**options):
    reference = parity.randomize(parity.torchvision().models.mobilenet_v3_large(**options))
    parity.record_names(reference, "torchvision-mobilenet_v3_large")
    return reference


# The stem and the blocks marked `_is_cn` are what torchvision's segmentation models take.
@pytest.mark.parametrize(
    ("fields", "taken"),
    [
        ({"output_stride": 32}, (1, 3, 6, 12, 16)),
        ({"output_stride": 16, "first_blocks": True}, (0, 2, 4, 7, 16)),
    ],
)
def test_features_are_torchvisions(fields, taken, float64):
    reference = torchvision_reference(dilated=fields["output_stride"] == 16)

    def features(y):
        found = [y := layer(y) for layer in reference.features]
        return [found[i] for i in taken]

    encoder, rules = mobilenetv3.Encoder(**fields, **DOUBLE), torchvision_names.mobilenetv3({})
    contract.check_features(encoder, reference, rules, features)


def test_features_are_timms(float64):
    parity.torchvision()
    timm = pytest.importorskip("timm", reason=parity.REASON)
    reference = parity.randomize(timm.create_model("mobilenetv3_large_100"))
    parity.record_names(reference, "timm-mobilenetv3_large_100")
    encoder, rules = mobilenetv3.Encoder(epsilon=1e-5, **DOUBLE), timm_names.mobile({})
    features = functools.partial(reference.forward_intermediates, intermediates_only=True)
    contract.check_features(encoder, reference, rules, features)


def test_running_means_move_as_torchvisions(float64):
    reference, rules = torchvision_reference(), torchvision_names.mobilenetv3({})
    encoder = mobilenetv3.Encoder(**DOUBLE)
    variables = parity.variables_from(encoder, reference, rules)
    x = parity.image((64, 96))
    reference.train()(parity.to_torch(x))
    expected = parity.variables_from(encoder, reference, rules)["batch_stats"]
    step = jax.jit(lambda v, x: encoder.apply(v, x, train=True, mutable=["batch_stats"])[1])
    found = step(variables, x)["batch_stats"]
    before = variables["batch_stats"]["stem"]["norm"]["mean"]
    assert (found["stem"]["norm"]["mean"] != before).all()

    def compare(path, ours, theirs):  # PyTorch keeps another variance: n - 1 for n samples
        if path[-1].key == "mean":
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9)

    jax.tree.map_with_path(compare, found, expected)


@pytest.mark.parametrize("fields", [{"output_stride": 4}, {"depths": (1, 2)}])
def test_what_cannot_be_built_says_why(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        contract.count(mobilenetv3.Encoder(**fields))
