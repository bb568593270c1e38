"""VGG is the published one: shapes, parameter counts, torchvision's and timm's numbers."""

import jax
import pytest

from segjax.encoders import vgg
from segjax.errors import ConfigError
from segjax.layers import resample
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


def reference_of(publisher, name):
    """Return the reference network, which keeps an odd last row and column as ours does."""
    models = parity.torchvision().models
    if publisher == "torchvision":
        reference = getattr(models, name)()
    else:
        reference = pytest.importorskip("timm", reason=parity.REASON).create_model(name)
    parity.record_names(reference, f"{publisher}-{name}")
    for part in ("classifier", "pre_logits", "head"):  # 124 million parameters for nothing
        if hasattr(reference, part):
            delattr(reference, part)
    for module in reference.modules():
        if type(module).__name__ == "MaxPool2d":
            module.ceil_mode = True
    return parity.randomize(reference)


@pytest.mark.parametrize(
    ("publisher", "name", "norm", "size"),
    [
        ("torchvision", "vgg16", "none", (64, 96)),
        ("torchvision", "vgg16_bn", "batch", (65, 97)),
        ("timm", "vgg16_bn", "batch", (65, 97)),
    ],
)
def test_features_are_the_publishers(publisher, name, norm, size, float64):
    reference = reference_of(publisher, name)
    encoder = vgg.Encoder(norm=norm, **DOUBLE)
    rules = {"torchvision": torchvision_names, "timm": timm_names}[publisher].ENCODERS["vgg"]
    variables = parity.variables_from(encoder, reference, rules({"norm": norm}))
    x = parity.image(size, count=1)
    y, expected = parity.to_torch(x), []
    for layer in reference.features:
        before, y = y, layer(y)
        expected += [before.clone()] if type(layer).__name__ == "MaxPool2d" else []
    features = jax.jit(lambda v, x: encoder.apply(v, x, train=False))(variables, x)
    for ours, theirs in zip(features, [*expected, y], strict=True):
        parity.assert_close(ours, theirs)
    parity.assert_close(resample.max_pool(features[4]), y)


def test_what_cannot_be_built_says_why():
    with pytest.raises(ConfigError, match="depth=12 is none of 11, 13, 16, 19"):
        contract.count(vgg.Encoder(depth=12))
