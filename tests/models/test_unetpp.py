"""U-Net++ keeps the contract and is segmentation_models.pytorch's; it supervises deeply."""

import flax
import jax
import jax.numpy as jnp
import pytest

from segjax.config import lookup
from segjax.models import unetpp
from segjax.pretrained import smp
from tests import parity
from tests.models import contract
from tests.pretrained import names as published

TINY = flax.core.FrozenDict({"type": "resnet", "depth": 18, "width": 2, "stages": 3})
RESNET18 = flax.core.FrozenDict({"type": "resnet", "depth": 18})
DOUBLE = {"compute_dtype": "float64", "param_dtype": "float64"}


def build(**fields):
    section = {"type": "unetpp", "encoder": TINY, "widths": (4, 3, 2), **fields}
    return lookup.build("models", section, where="config.model", num_classes=5)


def full_size(encoder=RESNET18, **fields):
    return unetpp.Model(num_classes=5, encoder=encoder, **fields)


class TestContract(contract.ModelContract):
    def model(self, **overrides):
        return build(deep_supervision=True, **overrides)


@pytest.mark.slow
class TestCompiled(contract.CompiledContract):
    of = TestContract()


def parameters(model):
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    return contract.shapes(model, image, train=True)[2]["params"]


# smp.UnetPlusPlus(encoder, classes=5) of segmentation_models.pytorch 0.6.0, counted by PyTorch.
@pytest.mark.parametrize(("depth", "expected"), [(18, 15_971_029), (50, 48_986_325)])
def test_parameters_are_those_of_smp(depth, expected):
    params = parameters(full_size(flax.core.FrozenDict({"type": "resnet", "depth": depth})))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected


def test_the_triangle_is_that_of_the_figure():
    # Figure 1a: X[i, j] exists for i + j <= 4, and sees j nodes of its row and one from below.
    params = parameters(full_size())
    nodes = {(i, j) for i in range(4) for j in range(1, 5 - i)}
    assert {name for name in params if name[0] == "x"} == {f"x{i}_{j}" for i, j in nodes}
    channels = {0: 64, 1: 64, 2: 128, 3: 256, 4: 512}  # ResNet-18's
    for i, j in nodes - {(i, 4 - i) for i in range(4)}:
        seen = params[f"x{i}_{j}"]["conv1"]["conv"]["kernel"].shape[2]
        assert seen == j * channels[i] + channels[i + 1]


@pytest.mark.parametrize("deep_supervision", [False, True])
def test_inner_nodes_of_the_finest_row_are_supervised_in_training(deep_supervision):
    image = jax.ShapeDtypeStruct((1, 65, 97, 3), jnp.float32)
    model = full_size(deep_supervision=deep_supervision)
    _, aux, variables = contract.shapes(model, image, train=True)
    assert len(aux) == (3 if deep_supervision else 0)
    outputs = jax.eval_shape(lambda v, x: model.apply(v, x, train=False), variables, image)
    assert not outputs.aux


def test_every_published_name_is_used():
    rules = smp.unetpp({"encoder": RESNET18})
    published.check("smp-unetplusplus-resnet18", full_size(), rules)


@pytest.mark.parametrize("size", [(64, 96), (96, 32)])  # smp refuses sizes that 32 does not divide
def test_logits_are_those_of_smp(size, float64):
    parity.torchvision()
    library = pytest.importorskip("segmentation_models_pytorch", reason=parity.REASON)
    theirs = library.UnetPlusPlus("resnet18", encoder_weights=None, classes=5)
    parity.record_names(parity.randomize(theirs), "smp-unetplusplus-resnet18")
    ours = full_size(**DOUBLE)
    variables = parity.variables_from(ours, theirs, smp.unetpp({"encoder": RESNET18}))
    x = parity.image(size)
    outputs = jax.jit(lambda v, x: ours.apply(v, x, train=False))(variables, x)
    parity.assert_close(outputs.logits, theirs(parity.to_torch(x)))
