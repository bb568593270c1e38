"""FCN on a dilated ResNet keeps the contract and is torchvision's."""

import flax
import pytest

from segjax.config import lookup
from segjax.encoders import resnet
from segjax.pretrained import torchvision
from tests import parity
from tests.encoders.contract import count
from tests.models import contract
from tests.pretrained import names

TINY = flax.core.FrozenDict(
    {"type": "resnet", "depth": 18, "width": 4, "output_stride": 8, "stages": 4}
)


def build(num_classes=5, **fields):
    section = {"type": "fcn_dilated", **fields}
    return lookup.build("models", section, where="config.model", num_classes=num_classes)


def encoder_of(depth):
    return {"type": "resnet", "depth": depth, "output_stride": 8, "dilate_first": False}


class TestContract(contract.ModelContract):
    def model(self, **overrides):
        return build(encoder=TINY, **overrides)


@pytest.mark.slow
class TestCompiled(contract.CompiledContract):
    of = TestContract()


# torchvision's documented counts (21 classes, auxiliary head).
@pytest.mark.parametrize(
    ("depth", "expected"), [(50, 35_322_218), pytest.param(101, 54_314_346, marks=pytest.mark.slow)]
)
def test_parameters_are_those_published(depth, expected):
    assert count(build(21, encoder=encoder_of(depth))) == expected


def test_every_name_of_torchvision_is_used():
    rules = torchvision.fcn({"encoder": encoder_of(50)})
    names.check("torchvision-fcn_resnet50", build(21, encoder=encoder_of(50)), rules)


def test_names_are_torchvisions():
    options = {"weights": None, "weights_backbone": None, "aux_loss": True}
    reference = parity.torchvision().models.segmentation.fcn_resnet50(**options)
    parity.record_names(reference, "torchvision-fcn_resnet50")


@pytest.mark.parametrize("size", parity.SIZES)
def test_logits_are_torchvisions(size, monkeypatch, float64):
    models, blocks, dilate = parity.torchvision().models, (1, 1, 2, 2), (False, True, True)
    monkeypatch.setitem(resnet.BLOCKS, 50, blocks)
    backbone = models.ResNet(models.resnet.Bottleneck, blocks, replace_stride_with_dilation=dilate)
    reference = parity.randomize(models.segmentation.fcn._fcn_resnet(backbone, 3, aux=True))
    model, rules = build(3, encoder=encoder_of(50)), torchvision.fcn({"encoder": encoder_of(50)})
    parity.assert_logits_close(model, reference, rules, size=size, head=lambda y: y["out"])
