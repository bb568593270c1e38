"""U-Net keeps the contract, has the paper's parameters, and refuses what it cannot do."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.config import lookup
from segjax.errors import ConfigError
from segjax.kernels import sums
from segjax.layers import resample
from segjax.models import unet
from tests.models import contract


def build(**fields):
    section = {"type": "unet", "widths": (4, 6, 8), "convs_per_level": 1, **fields}
    return lookup.build("models", section, where="config.model", num_classes=5)


class TestClassic(contract.ModelContract):
    def model(self, **overrides):
        return build(**overrides)


@pytest.mark.slow
class TestClassicCompiled(contract.CompiledContract):
    of = TestClassic()


class TestStrided(contract.ModelContract):
    def model(self, **overrides):
        form = {"widths": (4, 6), "convs_per_level": 2, "norm": "group", "up": "bilinear"}
        return build(stem_stride=2, **form, **overrides)


@pytest.mark.slow
class TestStridedCompiled(contract.CompiledContract):
    of = TestStrided()


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


def parts(shape):
    """Return what the network is made of, each with a direct computation in NumPy or Flax."""
    x, spatial = np.random.default_rng(0).normal(size=shape), len(shape) - 2
    boxes = [2 * (n // 2) for n in shape[1:-1]]
    even = x[(slice(None), *map(slice, boxes))]
    windows = even.reshape(shape[0], *(k for n in boxes for k in (n // 2, 2)), shape[-1])
    pooled = windows.max(tuple(range(2, 2 * spatial + 1, 2)))
    yield resample.max_pool(jnp.asarray(even)), pooled
    yield sums.channel_sums(jnp.asarray(x))[0], x.sum(tuple(range(spatial + 1)))
    kernel = np.random.default_rng(1).normal(size=(*[2] * spatial, shape[-1], 5))
    layer = resample.UpConv(5, **contract.DOUBLE)
    bias = np.arange(5.0)
    reference = nn.ConvTranspose(5, (2,) * spatial, (2,) * spatial, param_dtype="float64")
    params = {"kernel": np.flip(kernel, range(spatial)), "bias": bias}
    yield (
        layer.apply({"params": {"kernel": kernel, "bias": bias}}, jnp.asarray(x)),
        reference.apply({"params": params}, x),
    )


@pytest.mark.parametrize("size", [(9,), (5, 6), (4, 7, 6)])
def test_parts_in_any_dimension(size, float64):
    for ours, direct in parts((2, *size, 3)):
        np.testing.assert_allclose(ours, direct, rtol=1e-9, atol=1e-12)


VOLUMES = [(47,), (33, 47), (9, 33, 34)]


@pytest.mark.parametrize("size", VOLUMES)
def test_parameters_in_any_dimension(size):
    model = build(widths=(4, 6), norm="none")
    image = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    logits, _, variables = contract.shapes(model, image, train=True)
    assert logits.shape == (2, *size, 5)
    window, block = 3 ** len(size), 2 ** len(size)
    convolutions = window * (3 * 4 + 4 * 6 + 8 * 4) + 4 + 6 + 4
    expected = convolutions + block * 6 * 4 + 4 + 4 * 5 + 5
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == expected


@pytest.mark.parametrize(("up", "stem_stride"), [("transpose", 1), ("bilinear", 2)])
@pytest.mark.parametrize("size", [(33,), (5, 32, 33)])
def test_gradient_reaches_every_parameter_in_any_dimension(size, up, stem_stride, float64):
    model = build(up=up, stem_stride=stem_stride, widths=(2, 3), **contract.DOUBLE)
    image = np.random.default_rng(0).normal(size=(2, *size, 1))
    _, _, shapes = contract.shapes(
        model, jax.ShapeDtypeStruct(image.shape, image.dtype), train=True
    )
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda leaf: rng.uniform(0.5, 1.5, leaf.shape), shapes)
    gradient, _ = jax.jit(functools.partial(contract.gradient_of, model))(variables, image)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert not contract.out_of_reach(gradient)


@pytest.mark.parametrize(("size", "depth"), [((33,), 32), ((33, 34), 5)])
def test_equal_slices_through_kernels_that_see_one(size, depth, float64):
    # A 3x3x3 kernel that is zero but for its central slice, and pooling and up-convolving equal
    # slices, do nothing in depth: every slice has the logits of the network of one dimension less,
    # in training too.
    model = build(**contract.DOUBLE)
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, *size, 2))
    flat = jax.ShapeDtypeStruct(image.shape, image.dtype)
    shapes = contract.shapes(model, flat, train=True)[2]
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), shapes)

    def deepen(path, leaf):
        taps = leaf.shape[0] if leaf.ndim > 2 else 0
        if taps == 3:
            return np.stack([0 * leaf, leaf, 0 * leaf])
        return np.stack([leaf, leaf]) if taps == 2 else leaf

    def logits(variables, image):
        outputs, _ = model.apply(variables, image, train=True, mutable=["batch_stats"])
        return outputs.logits

    expected = jax.jit(logits)(variables, image)
    deep = jax.jit(logits)(
        jax.tree.map_with_path(deepen, variables), np.stack([image] * depth, axis=1)
    )
    for i in range(depth):
        np.testing.assert_allclose(deep[:, i], expected, rtol=1e-7, atol=1e-9)
