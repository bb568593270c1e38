"""ResNet is the published one: shapes, parameter counts, torchvision's numbers."""

import functools

import jax
import pytest

from segjax.encoders import resnet
from segjax.errors import ConfigError
from segjax.pretrained import torchvision as names
from tests import parity
from tests.encoders import contract
from tests.pretrained import names as published

DOUBLE = {"compute_dtype": "float64", "param_dtype": "float64"}


class TestBasic(contract.EncoderContract):
    def encoder(self, **overrides):
        return resnet.Encoder(depth=18, width=4, **overrides)


class TestDilatedBottleneck(contract.EncoderContract):
    def encoder(self, **overrides):
        fields = {"depth": 50, "width": 2, "output_stride": 8, "multi_grid": (1, 2, 4)}
        return resnet.Encoder(**fields, **overrides)


@pytest.mark.slow
class TestResNeXtD(contract.EncoderContract):
    def encoder(self, **overrides):
        fields = {"depth": 50, "width": 4, "groups": 2, "group_width": 32, "deep_stem": True}
        return resnet.Encoder(**fields, pooled_shortcut=True, **overrides)


# torchvision's documented counts less the classifier: 513,000 and 2,049,000.
COUNTS = {18: 11_689_512 - 513_000, 34: 21_797_672 - 513_000}
COUNTS |= {50: 25_557_032 - 2_049_000, 101: 44_549_160 - 2_049_000}


@pytest.mark.parametrize(("depth", "expected"), COUNTS.items())
def test_parameters_are_those_published(depth, expected):
    assert contract.count(resnet.Encoder(depth=depth)) == expected


# torchvision's and timm's documented counts less the classifier.
FORMS = {
    "resnext50_32x4d": ({"groups": 32, "group_width": 4}, 25_028_904),
    "wide_resnet50_2": ({"group_width": 128}, 68_883_240),
    "resnet50d": ({"deep_stem": True, "pooled_shortcut": True}, 25_576_264),
}


@pytest.mark.parametrize("name", FORMS)
def test_parameters_of_other_forms(name):
    fields, expected = FORMS[name]
    assert contract.count(resnet.Encoder(depth=50, **fields)) == expected - 2_049_000


def test_groups_are_of_bottlenecks():
    with pytest.raises(ConfigError, match="only bottlenecks"):
        contract.count(resnet.Encoder(depth=18, groups=2))
    with pytest.raises(ConfigError, match="pooled_shortcut=True with output_stride=8"):
        contract.count(resnet.Encoder(pooled_shortcut=True, output_stride=8))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnext50_32x4d", "resnet50d"])
def test_features_are_timms(name, float64):
    parity.torchvision()
    timm = pytest.importorskip("timm", reason=parity.REASON)
    reference = parity.randomize(timm.create_model(name))
    fields, _ = FORMS[name]
    encoder = resnet.Encoder(depth=50, **fields, **DOUBLE)
    features = functools.partial(reference.forward_intermediates, intermediates_only=True)
    contract.check_features(encoder, reference, names.resnet(fields), features)


@pytest.mark.parametrize("depth", [18, 50])
def test_every_published_name_is_used(depth):
    encoder = resnet.Encoder(depth=depth)
    published.check(f"torchvision-resnet{depth}", encoder, names.resnet({}), unused=r"fc\..*")


@pytest.mark.parametrize("size", parity.SIZES)
@pytest.mark.parametrize(("depth", "output_stride"), [(18, 32), (50, 8), (50, 16)])
def test_features_are_torchvisions(depth, output_stride, size, float64):
    models = parity.torchvision().models
    dilate = {32: [False] * 3, 16: [False, False, True], 8: [False, True, True]}[output_stride]
    options = {} if depth == 18 else {"replace_stride_with_dilation": dilate}
    reference = parity.randomize(getattr(models, f"resnet{depth}")(**options))
    parity.record_names(reference, f"torchvision-resnet{depth}")
    fields = {"depth": depth, "output_stride": output_stride, "dilate_first": False, **DOUBLE}
    encoder = resnet.Encoder(**fields)
    variables = parity.variables_from(encoder, reference, names.resnet({}))
    x = parity.image(size)
    y = parity.to_torch(x)
    y = reference.relu(reference.bn1(reference.conv1(y)))
    expected = [y]
    y = reference.maxpool(y)
    for layer in (reference.layer1, reference.layer2, reference.layer3, reference.layer4):
        y = layer(y)
        expected.append(y)
    features = jax.jit(lambda v, x: encoder.apply(v, x, train=False))(variables, x)
    assert len(features) == len(expected)
    for ours, theirs in zip(features, expected, strict=True):
        parity.assert_close(ours, theirs)


@pytest.mark.parametrize("fields", [{"depth": 42}, {"output_stride": 4}, {"stages": 1}])
def test_what_cannot_be_built_says_why(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        contract.count(resnet.Encoder(**fields))
