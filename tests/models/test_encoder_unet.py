"""U-Net on an encoder keeps the contract and is segmentation_models.pytorch's."""

import flax
import jax
import jax.numpy as jnp
import pytest

from segjax.config import lookup
from segjax.errors import ConfigError
from segjax.models import encoder_unet
from segjax.pretrained import smp
from tests import parity
from tests.models import contract
from tests.pretrained import names as published

TINY = flax.core.FrozenDict({"type": "resnet", "depth": 18, "width": 2, "stages": 3})
RESNET18 = flax.core.FrozenDict({"type": "resnet", "depth": 18})
DOUBLE = {"compute_dtype": "float64", "param_dtype": "float64"}


def build(**fields):
    section = {"type": "encoder_unet", "encoder": TINY, "widths": (4, 3, 2), **fields}
    return lookup.build("models", section, where="config.model", num_classes=5)


def full_size(encoder=RESNET18, **fields):
    return encoder_unet.Model(num_classes=5, encoder=encoder, **fields)


def count(model):
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = contract.shapes(model, image, train=True)[2]
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


class TestContract(contract.ModelContract):
    def model(self, **overrides):
        # Eight devices can split a kernel of 8 channels.
        return build(center=True, widths=(8, 3, 2), **overrides)


@pytest.mark.slow
class TestCompiled(contract.CompiledContract):
    of = TestContract()


# smp.Unet(encoder, classes=5) of segmentation_models.pytorch 0.6.0, parameters counted by PyTorch.
@pytest.mark.parametrize(("depth", "expected"), [(18, 14_328_789), (50, 32_521_685)])
def test_parameters_are_those_of_smp(depth, expected):
    encoder = flax.core.FrozenDict({"type": "resnet", "depth": depth})
    assert count(full_size(encoder)) == expected


def test_every_published_name_is_used():
    rules = smp.encoder_unet({"encoder": RESNET18})
    published.check("smp-unet-resnet18", full_size(), rules)


def reference(name="resnet18"):
    parity.torchvision()
    library = pytest.importorskip("segmentation_models_pytorch", reason=parity.REASON)
    return parity.randomize(library.Unet(name, encoder_weights=None, classes=5))


# A ResNet has features of strides 2 to 32, a VGG of 1 too, which smp does not use, but it convolves
# the last ones twice; a transformer has them of 4 to 32.
ENCODERS = {
    "resnet18": (RESNET18, {}),
    "vgg11_bn": ({"type": "vgg", "depth": 11}, {"center": True, "finest_skip": 2}),
    "mit_b0": ({"type": "mit", "epsilon": 1e-6}, {}),
}


@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", (65, 97)), ("vgg11_bn", (32, 64)), ("mit_b0", (64, 96))]
)
def test_logits_are_those_of_smp(name, size, float64):
    theirs, (encoder, fields) = reference(name), ENCODERS[name]
    if name == "resnet18":
        parity.record_names(theirs, "smp-unet-resnet18")
    ours = full_size(flax.core.freeze(encoder), **fields, **DOUBLE)
    variables = parity.variables_from(ours, theirs, smp.encoder_unet({"encoder": encoder}))
    x = parity.image(size)
    outputs = jax.jit(lambda v, x: ours.apply(v, x, train=False))(variables, x)
    parity.assert_close(outputs.logits, theirs(parity.to_torch(x)))


def test_gradients_are_those_of_smp(float64):
    rules = smp.encoder_unet({"encoder": RESNET18})
    parity.assert_gradients_close(full_size(**DOUBLE), reference(), rules, lambda y: [y])


def test_features_finer_than_asked_for_are_not_used():
    # The block that would see the ResNet's 64 channels at stride 2 sees them no more.
    assert count(full_size()) - count(full_size(finest_skip=4)) == 9 * 64 * 32


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"widths": (8, 8)}, "widths=.* expected 3 widths"),
        ({"encoder": flax.core.FrozenDict({**TINY, "stages": 4})}, "stride 16"),
    ],
)
def test_what_cannot_be_built_says_why(fields, message):
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    with pytest.raises(ConfigError, match=message):
        contract.shapes(build(**fields), image, train=True)


def test_strides_must_be_halvings():
    with pytest.raises(ConfigError, match="strides .*14.* expected powers of two"):
        encoder_unet.check_halvings((14,), (8, 8, 8))
