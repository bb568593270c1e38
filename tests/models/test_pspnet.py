"""PSPNet keeps the contract and is segmentation_models.pytorch's."""

import flax
import pytest

from segjax.config import lookup
from segjax.pretrained import smp
from tests import parity
from tests.encoders.contract import count
from tests.models import contract
from tests.pretrained import names

TINY = flax.core.FrozenDict({"type": "resnet", "depth": 18, "width": 4, "stages": 3})
SMP = {"fuse_kernel": 1, "head_kernel": 3, "norm_of_mean": "none", "dropout": 0.2, "aux": ()}


def build(num_classes=5, **fields):
    section = {"type": "pspnet", **fields}
    return lookup.build("models", section, where="config.model", num_classes=num_classes)


def encoder_of(depth):
    return {"type": "resnet", "depth": depth, "stages": 3}


class TestContract(contract.ModelContract):
    def model(self, **overrides):
        return build(encoder=TINY, width=6, **overrides)


@pytest.mark.slow
class TestCompiled(contract.CompiledContract):
    of = TestContract()


# smp 0.6.0's, 21 classes, counted with PyTorch, less the encoder's stages 4 and 5, which it makes
# and never uses: 11,422,005 and 24,393,173 with them.
@pytest.mark.parametrize(("depth", "expected"), [(18, 928_565), (50, 2_330_069)])
def test_parameters_are_those_of_smp(depth, expected):
    assert count(build(21, encoder=encoder_of(depth), **SMP)) == expected


def test_parameters_of_the_paper():
    # By hand for 19 classes on ResNet-50: four levels of 2048 -> 512, 4096 -> 512 with 3x3, the
    # classifier; auxiliary 1024 -> 256 with 3x3 and its classifier. Norms have two each.
    head = 4 * (2048 * 512 + 2 * 512) + 9 * 4096 * 512 + 2 * 512 + 512 * 19 + 19
    aux = 9 * 1024 * 256 + 2 * 256 + 256 * 19 + 19
    encoder = {"type": "resnet", "depth": 50, "output_stride": 8}
    assert count(build(19, encoder=encoder)) == 23_508_032 + head + aux


def test_every_name_of_smp_is_used():
    rules, model = smp.pspnet({"encoder": encoder_of(18)}), build(21, encoder=encoder_of(18), **SMP)
    names.check("smp-pspnet-resnet18", model, rules, unused=r"encoder\.layer[34]\..*")


def reference(**options):
    parity.torchvision()
    package = pytest.importorskip("segmentation_models_pytorch", reason=parity.REASON)
    return package.PSPNet("resnet18", encoder_weights=None, **options)


def test_names_are_smps():
    parity.record_names(reference(classes=21), "smp-pspnet-resnet18")


@pytest.mark.parametrize("size", [(64, 96), (72, 40)])  # smp takes multiples of 8 only
def test_logits_are_smps(size, float64):
    theirs = parity.randomize(reference(classes=3))
    model = build(3, encoder=encoder_of(18), **SMP)
    rules = smp.pspnet({"encoder": encoder_of(18)})
    parity.assert_logits_close(model, theirs, rules, size=size)


def test_gradients_are_smps(monkeypatch, float64):
    theirs = parity.one_block_each(reference(classes=3, psp_out_channels=32), monkeypatch)
    theirs.encoder.layer3 = theirs.encoder.layer4 = None
    fields = {**SMP, "width": 32, "dropout": 0.0, **contract.DOUBLE}
    model, rules = (
        build(3, encoder=encoder_of(18), **fields),
        smp.pspnet({"encoder": encoder_of(18)}),
    )
    parity.assert_gradients_close(model, parity.randomize(theirs), rules, lambda y: (y,))
