"""DeepLabv3+ keeps the contract and is segmentation_models.pytorch's."""

import flax
import pytest

from segjax.config import lookup
from segjax.pretrained import smp
from tests import parity
from tests.encoders.contract import count
from tests.models import contract
from tests.pretrained import names

TINY = flax.core.FrozenDict(
    {"type": "resnet", "depth": 18, "width": 4, "output_stride": 8, "stages": 4}
)
SMP = {"rates": (12, 24, 36), "pyramid_convs": 1, "fuse_convs": 1, "dropout": 0.5}


def build(num_classes=5, **fields):
    section = {"type": "deeplabv3plus", **fields}
    return lookup.build("models", section, where="config.model", num_classes=num_classes)


def encoder_of(depth):
    return {"type": "resnet", "depth": depth, "output_stride": 16}


class TestContract(contract.ModelContract):
    def model(self, **overrides):
        small = {"rates": (1, 2), "width": 6, "low_width": 4, "fuse_convs": 1}
        return build(encoder=TINY, **small, **overrides)


@pytest.mark.slow
class TestCompiled(contract.CompiledContract):
    of = TestContract()


# smp 0.6.0's, 21 classes, counted with PyTorch.
@pytest.mark.parametrize(("depth", "expected"), [(18, 12_334_437), (50, 26_682_725)])
def test_parameters_are_those_of_smp(depth, expected):
    assert count(build(21, encoder=encoder_of(depth), **SMP)) == expected


def test_plain_convolutions_mix_channels_in_every_tap():
    # By hand, on the 2048 and 256 channels of a ResNet-50: three dilated convolutions in the
    # pyramid, two in the decoder, each with scale and bias; 9 * in + in * out when separable.
    plain, separable = (
        count(build(21, encoder=encoder_of(50), separable=flag)) for flag in (False, True)
    )
    inputs = (2048, 2048, 2048, 256 + 48, 256)
    assert plain - separable == sum(9 * n * 256 - (9 * n + n * 256) for n in inputs)


def test_every_name_of_smp_is_used():
    rules = smp.deeplabv3plus({"encoder": encoder_of(18)})
    names.check("smp-deeplabv3plus-resnet18", build(21, encoder=encoder_of(18), **SMP), rules)


def reference(**options):
    parity.torchvision()
    package = pytest.importorskip("segmentation_models_pytorch", reason=parity.REASON)
    return package.DeepLabV3Plus("resnet18", encoder_weights=None, **options)


def test_names_are_smps():
    parity.record_names(reference(classes=21), "smp-deeplabv3plus-resnet18")


@pytest.mark.parametrize("size", [(64, 96), (80, 48)])  # smp takes multiples of 16 only
def test_logits_are_smps(size, float64):
    theirs = parity.randomize(reference(classes=3, decoder_atrous_rates=(1, 2, 3)))
    model = build(3, encoder=encoder_of(18), **{**SMP, "rates": (1, 2, 3)})
    rules = smp.deeplabv3plus({"encoder": encoder_of(18)})
    parity.assert_logits_close(model, theirs, rules, size=size)


def test_gradients_are_smps(monkeypatch, float64):
    narrow = {"decoder_atrous_rates": (1, 2, 3), "decoder_channels": 32}
    theirs = parity.one_block_each(reference(classes=3, **narrow), monkeypatch)
    fields = {**SMP, "rates": (1, 2, 3), "width": 32, "dropout": 0.0, **contract.DOUBLE}
    model = build(3, encoder=encoder_of(18), **fields)
    rules = smp.deeplabv3plus({"encoder": encoder_of(18)})
    parity.randomize(theirs)
    parity.assert_gradients_close(model, theirs, rules, lambda y: (y,), size=(32, 64))
