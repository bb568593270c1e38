"""VGG is the published one: shapes, parameter counts, torchvision's and timm's numbers."""

import functools

import pytest

from segjax.encoders import vgg
from segjax.errors import ConfigError
from segjax.pretrained import timm as timm_names
from segjax.pretrained import torchvision as torchvision_names
from tests import parity
from tests.encoders import contract
from tests.pretrained import names as published

DOUBLE = {"compute_dtype": "float64", "param_dtype": "float64"}


class TestPlain(contract.EncoderContract):
    def encoder(self, **overrides):
        return vgg.Encoder(depth=11, width=4, norm="none", **overrides)


class TestNormalized(contract.EncoderContract):
    def encoder(self, **overrides):
        return vgg.Encoder(width=2, **overrides)


# torchvision's documented counts less the three fully connected layers.
CLASSIFIER = 25_089 * 4096 + 4097 * 4096 + 4097 * 1000
COUNTS = {
    (11, "none"): 132_863_336,
    (13, "none"): 133_047_848,
    (16, "none"): 138_357_544,
    (16, "batch"): 138_365_992,
    (19, "batch"): 143_678_248,
}


@pytest.mark.parametrize(("form", "expected"), COUNTS.items())
def test_parameters_are_those_published(form, expected):
    depth, norm = form
    assert contract.count(vgg.Encoder(depth=depth, norm=norm)) == expected - CLASSIFIER


@pytest.mark.parametrize(("name", "norm"), [("vgg16", "none"), ("vgg16_bn", "batch")])
def test_every_published_name_is_used(name, norm):
    encoder, section = vgg.Encoder(norm=norm), {"norm": norm}
    rules = torchvision_names.vgg(section)
    published.check(f"torchvision-{name}", encoder, rules, unused=r"classifier\..*")
    if norm == "batch":
        rules = timm_names.ENCODERS["vgg"](section)
        published.check(f"timm-{name}", encoder, rules, unused=r"(pre_logits|head)\..*")


# An eighth of the channels of torchvision's configuration "D".
THIN = (8, 8, "M", 16, 16, "M", 32, 32, 32, "M", 64, 64, 64, "M", 64, 64, 64, "M")


def keep_odd_edges(layers):
    """Pool as ours does: the reference drops an odd last row or column."""
    for layer in layers:
        if type(layer).__name__ == "MaxPool2d":
            layer.ceil_mode = True


@pytest.mark.parametrize(("name", "norm"), [("vgg16", "none"), ("vgg16_bn", "batch")])
def test_features_are_torchvisions(name, norm, float64):
    models = parity.torchvision().models.vgg
    parity.record_names(getattr(models, name)(), f"torchvision-{name}")
    layers = models.make_layers(THIN, batch_norm=norm == "batch")
    keep_odd_edges(layers)
    reference = parity.randomize(pytest.importorskip("torch").nn.ModuleDict({"features": layers}))

    def features(y):
        found = []
        for layer in layers:
            if type(layer).__name__ == "MaxPool2d":
                found.append(y)
            y = layer(y)
        return [*found, y]

    encoder, rules = vgg.Encoder(width=8, norm=norm, **DOUBLE), torchvision_names.vgg
    contract.check_features(encoder, reference, rules({"norm": norm}), features)


def test_features_are_timms(float64):
    parity.torchvision()
    timm = pytest.importorskip("timm", reason=parity.REASON)
    parity.record_names(timm.create_model("vgg16_bn"), "timm-vgg16_bn")
    norm_layer = pytest.importorskip("torch").nn.BatchNorm2d
    reference = parity.randomize(timm.models.vgg.VGG(THIN, norm_layer=norm_layer))
    keep_odd_edges(reference.features)
    features = functools.partial(reference.forward_intermediates, intermediates_only=True)
    encoder, rules = vgg.Encoder(width=8, **DOUBLE), timm_names.ENCODERS["vgg"]({})
    contract.check_features(encoder, reference, rules, features)


def test_what_cannot_be_built_says_why():
    with pytest.raises(ConfigError, match="depth=12: expected 11 or 13 or 16 or 19"):
        contract.count(vgg.Encoder(depth=12))
