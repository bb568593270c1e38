"""LRASPP keeps the contract and is torchvision's."""

import flax
import pytest

from segjax.config import lookup
from segjax.errors import ConfigError
from segjax.pretrained import torchvision
from tests import parity
from tests.encoders.contract import count
from tests.models import contract
from tests.pretrained import names

PUBLISHED = {"type": "mobilenetv3", "output_stride": 16, "first_blocks": True}
# Not dilated: of so few pixels a dilated window of 5 would see only the middle.
TINY = flax.core.FrozenDict({"type": "mobilenetv3", "width": 0.5, "depths": (1,) * 6})


def build(num_classes=5, **fields):
    section = {"type": "lraspp", **fields}
    return lookup.build("models", section, where="config.model", num_classes=num_classes)


class TestContract(contract.ModelContract):
    def model(self, **overrides):
        return build(encoder=TINY, width=8, **overrides)


@pytest.mark.slow
class TestCompiled(contract.CompiledContract):
    of = TestContract()


def test_parameters_are_those_published():
    # torchvision's documented count, 21 classes.
    assert count(build(21, encoder=PUBLISHED)) == 3_221_538


def test_every_name_of_torchvision_is_used():
    rules = torchvision.lraspp({"encoder": PUBLISHED})
    names.check("torchvision-lraspp_mobilenet_v3_large", build(21, encoder=PUBLISHED), rules)


@pytest.mark.parametrize("size", parity.SIZES)
def test_logits_are_torchvisions(size, float64):
    segmentation = parity.torchvision().models.segmentation
    reference = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)
    parity.record_names(reference, "torchvision-lraspp_mobilenet_v3_large")
    model = build(21, encoder=PUBLISHED)
    rules = torchvision.lraspp({"encoder": PUBLISHED})
    parity.randomize(reference)
    parity.assert_logits_close(model, reference, rules, size=size, head=lambda y: y["out"])


def test_an_encoder_without_fine_features_is_refused():
    with pytest.raises(ConfigError, match="stride=8 is none of 2, 4"):
        count(build(encoder={"type": "resnet", "depth": 18, "stages": 2}))
