"""EfficientNet is the published one: shapes, parameter counts, torchvision's and timm's numbers."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from segjax.encoders import efficientnet
from segjax.errors import ConfigError
from segjax.pretrained import smp as smp_names
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


@pytest.mark.slow
class TestUnevenly(contract.EncoderContract):
    """Lite, with TensorFlow's padding and dilation."""

    def encoder(self, **overrides):
        fields = {"variant": "lite1", "padding": "same", "output_stride": 16, "stem_skip": True}
        return efficientnet.Encoder(**SMALL, **fields, **overrides)


# torchvision's documented counts less the last convolution with its norm, and the classifier.
COUNTS = {"b0": (5_288_548, 320), "b1": (7_794_184, 320)}
COUNTS |= {"b2": (9_109_994, 352), "b3": (12_233_232, 384), "b4": (19_341_616, 448)}
COUNTS |= {"b5": (30_389_784, 512), "b6": (43_040_704, 576), "b7": (66_347_960, 640)}
# EfficientNet-Lite-PyTorch's own counts, whose last convolution always has 1280 channels.
LITE = {"lite0": (4_652_008, 320), "lite1": (5_416_680, 320), "lite2": (6_092_072, 352)}
LITE |= {"lite3": (8_197_096, 384), "lite4": (13_006_568, 448)}


@pytest.mark.parametrize(("variant", "expected"), COUNTS.items())
def test_parameters_are_those_published(variant, expected):
    total, last = expected
    head = last * 4 * last + 2 * 4 * last + (4 * last + 1) * 1000
    assert contract.count(efficientnet.Encoder(variant=variant)) == total - head


@pytest.mark.parametrize(("variant", "expected"), LITE.items())
def test_parameters_of_the_lite_forms(variant, expected):
    total, last = expected
    head = last * 1280 + 2 * 1280 + (1280 + 1) * 1000
    assert contract.count(efficientnet.Encoder(variant=variant)) == total - head


@pytest.mark.parametrize(
    ("padding", "length", "expected"),
    [
        ("even", 16, 1), ("same", 16, 0), ("same", 17, 1), ("published", 16, 0),
        ("published", 17, 0),
    ],
)  # fmt: skip
def test_zeros_lie_where_the_form_says(padding, length, expected):
    """Of a signal of ones, a strided window of 3 of which is 2 where it begins on a zero."""
    encoder = efficientnet.Encoder(padding=padding)
    pads = encoder.pad(jnp.ones((1, length, 1)), 224, kernel=3, stride=2) or [(1, 1)]
    padded = np.pad(np.ones(length), pads[0])
    sums = np.convolve(padded, np.ones(3), "valid")[::2]
    assert pads[0][0] == expected and len(sums) == -(-length // 2)
    assert sums[0] == 3 - expected


def test_every_published_name_is_used():
    encoder, rules = efficientnet.Encoder(), torchvision_names.efficientnet({})
    unused = r"(features\.8|classifier)\..*"
    published.check("torchvision-efficientnet_b0", encoder, rules, unused=unused)
    rules, unused = timm_names.mobile({}), r"(conv_head|bn2|classifier)\..*"
    published.check("timm-efficientnet_b0", encoder, rules, unused=unused)
    rules, unused = smp_names.efficientnet({"variant": "lite0"}), r"(_conv_head|_bn1|_fc)\..*"
    lite = efficientnet.Encoder(variant="lite0")
    published.check("smp-efficientnet_lite0", lite, rules, unused=unused)


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


@pytest.mark.slow
def test_features_of_tensorflows_form_are_timms(float64):
    """At odd sizes too: what lies before and behind is as each image needs it."""
    parity.torchvision()
    timm = pytest.importorskip("timm", reason=parity.REASON)
    reference = parity.randomize(timm.create_model("tf_efficientnet_lite0"))
    form = {"variant": "lite0", "padding": "same", "epsilon": 1e-3}
    encoder, rules = efficientnet.Encoder(**form, **DOUBLE), timm_names.mobile({})
    features = functools.partial(reference.forward_intermediates, intermediates_only=True)
    contract.check_features(encoder, reference, rules, features)


@pytest.mark.parametrize("fields", [{"variant": "b9"}, {"output_stride": 4}])
def test_what_cannot_be_built_says_why(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        contract.count(efficientnet.Encoder(**fields))
