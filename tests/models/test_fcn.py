"""FCN keeps the contract, has the paper's parameters, and doubles as a transposed convolution."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from segjax.config import lookup
from segjax.costs import hlo
from segjax.errors import ConfigError
from segjax.layers import resample
from segjax.layers.style import Style
from segjax.models import fcn
from tests.encoders.contract import count
from tests.models import contract

VGG16 = {"type": "vgg", "depth": 16, "norm": "none"}
TINY = flax.core.FrozenDict({"type": "vgg", "depth": 11, "width": 4, "norm": "group"})


def build(num_classes=5, **fields):
    section = {"type": "fcn", **fields}
    return lookup.build("models", section, where="config.model", num_classes=num_classes)


class TestContract(contract.ModelContract):
    idle = "stage./conv./conv/bias$"  # at this width each channel is a group, less its mean

    def model(self, **overrides):
        # Of 64 rows two devices have one each at stride 32, too few for the halo of a window.
        return build(encoder=TINY, width=16, window=1, up="bilinear", dropout=0.1, **overrides)


@pytest.mark.slow
class TestCompiled(contract.CompiledContract):
    of = TestContract()


# torchvision's VGG-16 has 138,357,544 parameters with its classifier of 1000 classes, whose first
# two layers are fc6 and fc7; each doubling adds a convolution 4x4, each pooling its scores.
BACKBONE = 138_357_544 - (4096 + 1) * 1000 + (4096 + 1) * 21
COUNTS = {32: BACKBONE, 16: BACKBONE + 513 * 21 + 16 * 21 * 21}
COUNTS[8] = COUNTS[16] + 257 * 21 + 16 * 21 * 21


@pytest.mark.parametrize(("stride", "expected"), COUNTS.items())
def test_parameters_are_those_of_the_paper(stride, expected):
    assert round(expected / 1e6) == 134  # its table 1
    assert count(build(21, encoder=VGG16, stride=stride)) == expected


@pytest.mark.parametrize("up", ["learned", "bilinear"])
@pytest.mark.parametrize("stride", [32, 16, 8])
@pytest.mark.parametrize("size", [(33, 65), (47, 50)])
def test_any_size_for_every_form(stride, up, size):
    model = build(encoder=TINY, width=4, stride=stride, up=up)
    image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    logits, _, _ = contract.shapes(model, image, train=True)
    assert logits.shape == (1, *size, 5)


def test_learned_doubling_is_of_images():
    volume = jax.ShapeDtypeStruct((1, 32, 32, 32, 3), jnp.float32)
    with pytest.raises(ConfigError, match="got 3 spatial axes. Use up='bilinear'"):
        contract.shapes(build(encoder=TINY, width=4), volume, train=True)


def test_fully_connected_layers_normalise_if_told():
    plain, normal = (count(build(encoder=TINY, width=4, norm=norm)) for norm in ("none", "batch"))
    assert normal - plain == 2 * 4  # scale and bias in place of one bias, in fc6 and fc7


def test_double_is_a_transposed_convolution(float64):
    rng = np.random.default_rng(0)
    kernel, x = rng.normal(size=(4, 4, 3, 3)), jnp.asarray(rng.normal(size=(2, 5, 7, 3)))
    double = fcn.Double(style=Style(**contract.DOUBLE))
    expected = jax.lax.conv_general_dilated(
        x, kernel[::-1, ::-1], (1, 1), [(2, 2), (2, 2)], lhs_dilation=(2, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
    assert expected.shape == (2, 10, 14, 3)
    doubled = double.apply({"params": {"kernel": kernel}}, x)
    np.testing.assert_allclose(doubled, expected, rtol=1e-12, atol=1e-12)


def test_double_begins_as_bilinear_interpolation(float64):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 5, 7, 2)))
    doubled, _ = fcn.Double(style=Style(**contract.DOUBLE)).init_with_output(jax.random.key(0), x)
    inside = (slice(None), slice(1, -1), slice(1, -1))  # beyond the edge it sees zeros
    np.testing.assert_allclose(doubled[inside], resample.upsample(x, factor=2)[inside], rtol=1e-12)


def test_doubling_sharded_rows_exchanges_halos_only():
    mesh = jax.make_mesh((4, 2), ("data", "space"), axis_types=(AxisType.Auto,) * 2)
    split = NamedSharding(mesh, PartitionSpec("data", "space"))
    double, x = fcn.Double(style=Style()), jax.ShapeDtypeStruct((4, 16, 8, 5), jnp.float32)
    variables = jax.eval_shape(double.init, jax.random.key(0), x)
    both = jax.grad(lambda v, x: jnp.sin(double.apply(v, x)).mean(), argnums=(0, 1))
    step = jax.jit(both, in_shardings=(NamedSharding(mesh, PartitionSpec()), split))
    found = hlo.collectives_of(step.lower(variables, x).compile().as_text())
    assert contract.kinds(found) == {"all-reduce", "collective-permute"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stride": 4}, "model.stride=4"),
        ({"up": "bicubic"}, "bicubic"),
        ({"encoder": {"type": "resnet", "depth": 18, "width": 4}}, "resnet.*fcn_dilated"),
    ],
)
def test_what_cannot_be_built_says_why(fields, message):
    with pytest.raises(ConfigError, match=message):
        count(build(**{"encoder": TINY, **fields}))
