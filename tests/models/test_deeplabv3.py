"""DeepLabv3 keeps the contract and is torchvision's and segmentation_models.pytorch's."""

import flax
import pytest

from segjax.config import lookup
from segjax.encoders import resnet
from segjax.errors import ConfigError
from segjax.models import base
from segjax.pretrained import smp, torchvision
from tests import parity
from tests.encoders.contract import count
from tests.models import contract
from tests.pretrained import names

TINY = flax.core.FrozenDict(
    {"type": "resnet", "depth": 18, "width": 4, "output_stride": 8, "stages": 4}
)
TORCHVISION = {"rates": (12, 24, 36), "convs": 1, "aux": (-2,), "dropout": 0.5}
SMP = {"rates": (12, 24, 36), "convs": 1, "align_corners": True, "dropout": 0.5}


def build(num_classes=5, **fields):
    return lookup.build(
        "models", {"type": "deeplabv3", **fields}, where="config.model", num_classes=num_classes
    )


def encoder_of(depth, **fields):
    return {"type": "resnet", "depth": depth, "output_stride": 8, **fields}


MOBILE = {"type": "mobilenetv3", "output_stride": 16, "first_blocks": True}


class TestContract(contract.ModelContract):
    def model(self, **overrides):
        return build(encoder=TINY, rates=(1, 2), width=6, convs=1, aux=(-2,), **overrides)


@pytest.mark.slow
class TestCompiled(contract.CompiledContract):
    of = TestContract()


# torchvision's documented counts (21 classes, auxiliary head); smp 0.6.0's, counted with PyTorch.
COUNTS = [
    (build(21, encoder=encoder_of(50), **TORCHVISION), 42_004_074),
    (build(21, encoder=encoder_of(101), **TORCHVISION), 60_996_202),
    (build(21, encoder=MOBILE, **{**TORCHVISION, "aux": (2,)}), 11_029_328),
    (build(21, encoder=encoder_of(18), **SMP), 15_904_085),
    (build(21, encoder=encoder_of(50), **SMP), 39_638_869),
]


@pytest.mark.parametrize(("model", "expected"), COUNTS)
def test_parameters_are_those_published(model, expected):
    assert count(model) == expected


@pytest.mark.parametrize("aux", [(-2,), ()])
def test_every_name_of_torchvision_is_used(aux):
    model = build(21, encoder=encoder_of(50), **{**TORCHVISION, "aux": aux})
    rules = torchvision.deeplabv3({"encoder": encoder_of(50)})
    unused = "" if aux else r"aux_classifier\..*"
    names.check("torchvision-deeplabv3_resnet50", model, rules, unused=unused)


def test_every_name_of_torchvisions_mobile_form_is_used():
    model = build(21, encoder=MOBILE, **{**TORCHVISION, "aux": (2,)})
    rules = torchvision.deeplabv3({"encoder": MOBILE})
    names.check("torchvision-deeplabv3_mobilenet_v3_large", model, rules)


def test_every_name_of_smp_is_used():
    rules = smp.deeplabv3({"encoder": encoder_of(18)})
    names.check("smp-deeplabv3-resnet18", build(21, encoder=encoder_of(18), **SMP), rules)


@pytest.mark.parametrize("size", parity.SIZES)
def test_logits_are_torchvisions(size, monkeypatch, float64):
    models, blocks, dilate = parity.torchvision().models, (1, 1, 2, 2), (False, True, True)
    monkeypatch.setitem(resnet.BLOCKS, 50, blocks)
    backbone = models.ResNet(models.resnet.Bottleneck, blocks, replace_stride_with_dilation=dilate)
    parts = models.segmentation.deeplabv3
    reference = parts._deeplabv3_resnet(backbone, 3, aux=True)
    # Of features of 8 x 12 pixels the published rates would see zeros only.
    reference.classifier[0] = parts.ASPP(2048, (2, 3, 4))
    encoder = encoder_of(50, dilate_first=False)
    model = build(3, encoder=encoder, **{**TORCHVISION, "rates": (2, 3, 4)})
    rules = torchvision.deeplabv3({"encoder": encoder})
    parity.randomize(reference)
    parity.assert_logits_close(model, reference, rules, size=size, head=lambda y: y["out"])


def test_gradients_are_torchvisions(monkeypatch, float64):
    models = parity.torchvision().models
    monkeypatch.setattr(base, "AUX_DROPOUT", 0.0)
    monkeypatch.setitem(resnet.BLOCKS, 18, (1, 1, 1, 1))
    backbone = models.ResNet(models.resnet.BasicBlock, (1, 1, 1, 1))
    parts, layers = models.segmentation.deeplabv3, {"layer4": "out", "layer3": "aux"}
    reference = parts.DeepLabV3(  # not dilated: torchvision does that to bottlenecks only
        parts.IntermediateLayerGetter(backbone, layers),
        parts.DeepLabHead(512, 3, (1, 2, 3)),
        parts.FCNHead(256, 3),
    )
    encoder = {"type": "resnet", "depth": 18}
    fields = {**TORCHVISION, "rates": (1, 2, 3), "dropout": 0.0, **contract.DOUBLE}
    model, rules = build(3, encoder=encoder, **fields), torchvision.deeplabv3({"encoder": encoder})
    heads = lambda y: (y["out"], y["aux"])  # noqa: E731
    parity.assert_gradients_close(model, parity.randomize(reference), rules, heads, size=(65, 97))


@pytest.mark.parametrize("name", ["deeplabv3_resnet50", "deeplabv3_mobilenet_v3_large"])
def test_names_are_torchvisions(name):
    make = getattr(parity.torchvision().models.segmentation, name)
    reference = make(weights=None, weights_backbone=None, aux_loss=True)
    parity.record_names(reference, f"torchvision-{name}")


def smp_reference(**options):
    parity.torchvision()
    package = pytest.importorskip("segmentation_models_pytorch", reason=parity.REASON)
    return package.DeepLabV3("resnet18", encoder_weights=None, **options)


@pytest.mark.parametrize("size", [(64, 96), (72, 40)])  # smp takes multiples of 8 only
def test_logits_are_smps(size, float64):
    reference = smp_reference(classes=3, decoder_atrous_rates=(2, 3, 4))
    model = build(3, encoder=encoder_of(18), **{**SMP, "rates": (2, 3, 4)})
    rules = smp.deeplabv3({"encoder": encoder_of(18)})
    parity.assert_logits_close(model, parity.randomize(reference), rules, size=size)


def test_names_are_smps():
    parity.record_names(smp_reference(classes=21), "smp-deeplabv3-resnet18")


def test_an_unknown_encoder_says_what_there_is():
    with pytest.raises(ConfigError, match="resnet"):
        count(build(encoder={"type": "resnett"}))
