"""EfficientNet is the published one: shapes, parameter counts, torchvision's and timm's numbers."""

import functools

import numpy as np
import pytest

from segjax.encoders import efficientnet
from segjax.errors import ConfigError
from segjax.pretrained import timm as timm_names
from segjax.pretrained import torchvision as torchvision_names
from tests import parity
from tests.encoders import contract
from tests.pretrained import names as published

DOUBLE = {"compute_dtype": "float64", "param_dtype": "float64"}
SMALL = {"width": 0.1, "depth": 0.1}


class TestEfficientNet(contract.EncoderContract):
    def encoder(self, **overrides):
        return efficientnet.Encoder(**SMALL, **overrides)


@pytest.mark.slow
class TestSharding(contract.ShardingContract):
    def encoder(self, **overrides):
        return efficientnet.Encoder(**SMALL, **overrides)


class TestDilated(contract.EncoderContract):
    def encoder(self, **overrides):
        return efficientnet.Encoder(output_stride=8, norm="group", **SMALL, **overrides)


# torchvision's documented counts less the last convolution with its norm, and the classifier.
COUNTS = {"b0": (5_288_548, 320), "b1": (7_794_184, 320)}
COUNTS |= {"b2": (9_109_994, 352), "b3": (12_233_232, 384)}


@pytest.mark.parametrize(("variant", "expected"), COUNTS.items())
def test_parameters_are_those_published(variant, expected):
    total, last = expected
    head = last * 4 * last + 2 * 4 * last + (4 * last + 1) * 1000
    assert contract.count(efficientnet.Encoder(variant=variant)) == total - head


def test_every_published_name_is_used():
    encoder, rules = efficientnet.Encoder(), torchvision_names.efficientnet({})
    unused = r"(features\.8|classifier)\..*"
    published.check("torchvision-efficientnet_b0", encoder, rules, unused=unused)
    rules, unused = timm_names.mobile({}), r"(conv_head|bn2|classifier)\..*"
    published.check("timm-efficientnet_b0", encoder, rules, unused=unused)


@pytest.mark.parametrize("output_stride", [32, 16])
def test_features_are_torchvisions(output_stride, float64):
    reference = parity.randomize(parity.torchvision().models.efficientnet_b0())
    parity.record_names(reference, "torchvision-efficientnet_b0")
    if output_stride == 16:  # torchvision has no dilated form of it
        reason = "segmentation_models_pytorch dilates the reference"
        smp = pytest.importorskip("segmentation_models_pytorch.encoders._utils", reason=reason)
        for layer in reference.features[6:8]:
            smp.replace_strides_with_dilation(layer, 2)

    def features(y):
        found = [y := layer(y) for layer in reference.features]
        return [found[i] for i in (1, 2, 3, 5, 7)]

    encoder = efficientnet.Encoder(output_stride=output_stride, **DOUBLE)
    contract.check_features(encoder, reference, torchvision_names.efficientnet({}), features)
    rates = [m.p for m in reference.modules() if type(m).__name__ == "StochasticDepth"]
    used = contract.drop_rates(encoder)
    assert len(used) == 9 and set(np.round(used, 9)) <= set(np.round(rates, 9))


def test_features_are_timms(float64):
    parity.torchvision()
    timm = pytest.importorskip("timm", reason=parity.REASON)
    reference = parity.randomize(timm.create_model("efficientnet_b0"))
    parity.record_names(reference, "timm-efficientnet_b0")
    encoder, rules = efficientnet.Encoder(**DOUBLE), timm_names.mobile({})
    features = functools.partial(reference.forward_intermediates, intermediates_only=True)
    contract.check_features(encoder, reference, rules, features)


@pytest.mark.parametrize("fields", [{"variant": "b9"}, {"output_stride": 4}])
def test_what_cannot_be_built_says_why(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        contract.count(efficientnet.Encoder(**fields))
