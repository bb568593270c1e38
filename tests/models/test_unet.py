"""U-Net keeps the contract, has the paper's parameters, and refuses what it cannot do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import lookup
from segjax.errors import ConfigError
from segjax.models import unet
from tests.models import contract


def build(**fields):
    section = {"type": "unet", "widths": (4, 6, 8), "convs_per_level": 1, **fields}
    return lookup.build("models", section, where="config.model", num_classes=5)


class TestClassic(contract.ModelContract):
    def model(self, **overrides):
        return build(**overrides)


class TestStrided(contract.ModelContract):
    def model(self, **overrides):
        form = {"widths": (4, 6), "convs_per_level": 2, "norm": "group", "up": "bilinear"}
        return build(stem_stride=2, **form, **overrides)


def count(*, channels, num_classes, **fields):
    model = unet.Model(num_classes=num_classes, **fields)
    image = jax.ShapeDtypeStruct((1, 32, 32, channels), jnp.float32)
    _, _, variables = contract.shapes(model, image, train=False)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_parameters_of_the_classic_form():
    # By hand: a 3x3 convolution has 9 * in * out + out, an up-convolution 4 * in * out + out.
    down = 37_568 + 221_440 + 885_248 + 3_539_968 + 14_157_824
    enlarge = 2_097_664 + 524_544 + 131_200 + 32_832
    up = (4_719_104 + 2_359_808) + (1_179_904 + 590_080) + (295_040 + 147_584) + (73_792 + 36_928)
    head = 64 * 2 + 2
    assert down + enlarge + up + head == 31_030_658
    assert count(channels=1, num_classes=2, norm="none") == 31_030_658


def test_parameters_of_the_normalised_form():
    # Scale and bias replace the bias of each 3x3 convolution: one more per output channel. Two more
    # input channels; one class instead of two. The well-known PyTorch port reports the same number.
    outputs = 2 * (64 + 128 + 256 + 512 + 1024) + 2 * (512 + 256 + 128 + 64)
    expected = 31_030_658 + outputs + 2 * 9 * 64 - 65
    assert expected == 31_037_633
    assert count(channels=3, num_classes=1) == 31_037_633


FORMS = [("transpose", 1), ("nearest", 2), ("bilinear", 4), ("transpose", 4)]


@pytest.mark.parametrize(("up", "stem_stride"), FORMS)
def test_any_size_for_every_form(up, stem_stride):
    model = build(up=up, stem_stride=stem_stride, widths=(4,) * 5)
    for size in ((32, 35), (61, 33)):
        image = jax.ShapeDtypeStruct((1, *size, 1), jnp.float32)
        logits, _, _ = contract.shapes(model, image, train=True)
        assert logits.shape == (1, *size, 5)


@pytest.mark.parametrize(
    ("fields", "size", "message"),
    [
        ({}, (31, 64), "31 x 64"),
        ({}, (64, 31), "64 x 31"),
        ({"stem_stride": 3}, (64, 64), "stem_stride=3"),
        ({"widths": (8,)}, (64, 64), "widths"),
        ({"convs_per_level": 0}, (64, 64), "convs_per_level=0"),
        ({"up": "bicubic"}, (64, 64), "bicubic"),
        ({"norm": "spectral"}, (64, 64), "spectral"),
        ({"activation": "rleu"}, (64, 64), "rleu"),
    ],
)
def test_what_cannot_be_built_says_why(fields, size, message):
    image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    with pytest.raises(ConfigError, match=message):
        contract.shapes(build(**fields), image, train=True)


def test_dropout_acts_in_training_only():
    model = build(dropout=0.5)
    variables = contract.fill(model, 3)
    image = jnp.ones((1, 32, 32, 3))

    @jax.jit
    def logits(key):
        rngs = {"dropout": key}
        outputs, _ = model.apply(variables, image, train=True, mutable=["batch_stats"], rngs=rngs)
        return outputs.logits

    assert (logits(jax.random.key(0)) != logits(jax.random.key(1))).any()
    model.apply(variables, image, train=False)  # needs no key


@pytest.mark.parametrize("stem_stride", [2, 4])
def test_strided_stem_keeps_the_image_in_place(stem_stride, float64):
    # With kernels that are their own mirror images a mirrored image has mirrored logits, provided
    # that stem and up-sampling are centred on the same points.
    model = build(stem_stride=stem_stride, up="bilinear", **contract.DOUBLE)
    image = np.random.default_rng(0).normal(size=(1, 32, 64, 3))

    def mirrored(leaf):
        return leaf + leaf[::-1, ::-1] if leaf.ndim == 4 else leaf

    variables = jax.tree.map(mirrored, contract.fill(model, 3))
    straight, _ = contract.evaluate(model)(variables, image)
    turned, _ = contract.evaluate(model)(variables, image[:, ::-1, ::-1])
    np.testing.assert_allclose(turned[:, ::-1, ::-1], straight, rtol=1e-9, atol=1e-9)
