"""The shared layers against Flax, NumPy and PyTorch's documented numbers."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from segjax.errors import ConfigError
from segjax.models import layers


def noise(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def close(a, b, tolerance=1e-10):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=tolerance, atol=tolerance)


def test_strided_convolution_is_centred_on_even_pixels():
    # 'SAME' would centre it on odd pixels where the size is even.
    layer = layers.ConvNormAct(1, stride=2, norm="none", activation="none")
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[1, 1] = 1
    variables = {"params": {"conv": {"kernel": kernel, "bias": np.zeros(1, np.float32)}}}
    for size in ((6, 8), (7, 5)):
        image = noise(2, *size, 1)
        close(layer.apply(variables, image, train=False), image[:, ::2, ::2])


@pytest.mark.parametrize(("norm", "bias"), [("batch", False), ("group", False), ("none", True)])
def test_bias_only_without_norm(norm, bias):
    layer = layers.ConvNormAct(4, norm=norm)
    shapes = jax.eval_shape(
        functools.partial(layer.init, train=True), jax.random.key(0), jnp.ones((1, 4, 4, 3))
    )
    assert ("bias" in shapes["params"]["conv"]) == bias
    assert ("norm" in shapes["params"]) != bias


def test_unknown_names_are_config_errors():
    with pytest.raises(ConfigError, match="swish_hard"):
        layers.ConvNormAct(4, activation="swish_hard").init(
            jax.random.key(0), jnp.ones((1, 4, 4, 3)), train=True
        )
    with pytest.raises(ConfigError, match="instanse"):
        layers.make_norm("instanse", train=True)


def test_batch_norm_is_that_of_flax(float64):
    x = 3 + 2 * noise(4, 6, 5, 7)
    params = {"scale": noise(7, seed=1), "bias": noise(7, seed=2)}
    stats = {"mean": noise(7, seed=3), "var": noise(7, seed=4) ** 2}
    slope = noise(*x.shape, seed=5)
    reference = nn.BatchNorm(
        momentum=0.9, epsilon=1e-5, param_dtype="float64", force_float32_reductions=False
    )

    def ours(params, x, train):
        return layers.BatchNorm(train=train, param_dtype="float64").apply(
            {"params": params, "batch_stats": stats}, x, mutable=["batch_stats"]
        )

    def theirs(params, x, train):
        return reference.apply(
            {"params": params, "batch_stats": stats},
            x,
            use_running_average=not train,
            mutable=["batch_stats"],
        )

    for train in (True, False):
        results = []
        for layer in (ours, theirs):
            output, pull, updated = jax.vjp(
                functools.partial(layer, train=train), params, x, has_aux=True
            )
            results.append((output, pull(slope), updated))
        jax.tree.map(close, *results)


def test_statistics_are_float32_under_bfloat16():
    # 65,536 ones summed in bfloat16 stop at 256.
    layer = layers.BatchNorm(train=True, param_dtype="bfloat16")
    x = jnp.ones((4, 128, 128, 2), jnp.bfloat16)
    output, variables = layer.init_with_output(jax.random.key(0), x)
    assert output.dtype == jnp.bfloat16
    _, updated = layer.apply(variables, x, mutable=["batch_stats"])
    assert updated["batch_stats"]["mean"].dtype == jnp.float32
    close(updated["batch_stats"]["mean"], [0.1, 0.1], 1e-6)
    close(updated["batch_stats"]["var"], [0.9, 0.9], 1e-6)


@pytest.mark.parametrize("kind", ["group", "layer"])
def test_group_and_layer_norm_are_those_of_flax(kind, float64):
    x, scale, bias = noise(2, 5, 6, 12), noise(12, seed=1), noise(12, seed=2)
    params = {"params": {"scale": scale, "bias": bias}}
    options = {"epsilon": 1e-5, "param_dtype": "float64", "force_float32_reductions": False}
    reference = nn.GroupNorm(num_groups=4, **options)
    if kind == "layer":
        reference = nn.LayerNorm(**options)
    layer = layers.make_norm(kind, train=True, param_dtype="float64")
    close(layer.apply(params, x), reference.apply(params, x))


@pytest.mark.parametrize("size", [(6, 8), (7, 5), (1, 4)])
def test_pooling_takes_each_window_once(size):
    x = noise(2, *size, 3) - 10  # all negative: padding with 0 would win
    rows, columns = (range(0, length, 2) for length in size)
    x = np.asarray(x)
    expected = [[x[:, i : i + 2, j : j + 2].max((1, 2)) for j in columns] for i in rows]
    expected = np.transpose(expected, (2, 0, 1, 3))
    close(layers.max_pool_2x2(jnp.asarray(x)), expected)
    gradient = jax.grad(lambda x: layers.max_pool_2x2(x).sum())(jnp.asarray(x))
    close(gradient, np.isin(x, expected))


def test_pooling_shares_the_gradient_of_ties():
    gradient = jax.grad(lambda x: layers.max_pool_2x2(x).sum())(jnp.zeros((1, 4, 4, 1)))
    close(gradient, np.full((1, 4, 4, 1), 0.25))


def test_up_convolution_is_the_transposed_convolution(float64):
    x, kernel, bias = noise(2, 3, 5, 4), noise(2, 2, 4, 6, seed=1), noise(6, seed=2)
    layer = layers.UpConv(6, compute_dtype="float64", param_dtype="float64")
    reference = nn.ConvTranspose(6, (2, 2), (2, 2), param_dtype="float64")
    expected = reference.apply({"params": {"kernel": kernel[::-1, ::-1], "bias": bias}}, x)
    close(layer.apply({"params": {"kernel": kernel, "bias": bias}}, x), expected)


def test_up_convolution_keeps_the_variance():
    # He's initialisation doubles it, for the ReLU to halve: fan-in is the input's channels alone.
    x = noise(1, 16, 16, 256)
    output, _ = layers.UpConv(64).init_with_output(jax.random.key(0), x)
    assert 1.8 < output.var() < 2.2


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("method", ["bilinear", "nearest"])
def test_upsampling_is_that_of_jax_image(factor, method, float64):
    x = noise(2, 5, 7, 3)
    shape = (2, 5 * factor, 7 * factor, 3)
    expected = jax.image.resize(x, shape, method, antialias=False)
    close(layers.upsample(x, factor=factor, method=method), expected)
    close(layers.resize(x, shape[1:3], method=method), expected)
    single = layers.upsample(x.astype(jnp.float32), factor=factor, method=method)
    np.testing.assert_allclose(single, expected, rtol=0, atol=5e-7)


DOCUMENTED = {  # torch.nn.Upsample's documentation: [[1, 2], [3, 4]] doubled
    False: [[1, 1.25, 1.75, 2], [1.5, 1.75, 2.25, 2.5], [2.5, 2.75, 3.25, 3.5], [3, 3.25, 3.75, 4]],
    True: [[1 + (2 * i + j) / 3 for j in range(4)] for i in range(4)],
}


@pytest.mark.parametrize("align_corners", [False, True])
def test_bilinear_gives_the_documented_numbers(align_corners, float64):
    x = jnp.array([[1.0, 2.0], [3.0, 4.0]])[None, :, :, None]
    result = layers.resize(x, (4, 4), align_corners=align_corners)
    close(result[0, :, :, 0], DOCUMENTED[align_corners])


def interpolate(x, size, *, method, align_corners):
    """Resize the last axis sample by sample, as PyTorch's sources say."""
    length, result = x.shape[-1], []
    for place in range(size):
        if method == "nearest":
            result.append(x[..., place * length // size])
            continue
        if align_corners:
            source = place * (length - 1) / (size - 1) if size > 1 else 0.0
        else:
            source = (place + 0.5) * length / size - 0.5
        if method == "bilinear":
            source = max(source, 0.0)
            low = int(source)
            high = min(low + 1, length - 1)
            share = source - low
            result.append((1 - share) * x[..., low] + share * x[..., high])
            continue
        low, a = int(np.floor(source)), -0.75
        t = source - low
        near = [((a + 2) * d - (a + 3)) * d * d + 1 for d in (t, 1 - t)]
        far = [((a * d - 5 * a) * d + 8 * a) * d - 4 * a for d in (t + 1, 2 - t)]
        weights = (far[0], near[0], near[1], far[1])
        taps = [x[..., min(max(low + k, 0), length - 1)] for k in (-1, 0, 1, 2)]
        result.append(sum(w * tap for w, tap in zip(weights, taps, strict=True)))
    return np.stack(result, -1)


METHODS = [("nearest", False), ("bilinear", False), ("bilinear", True), ("bicubic", False)]
METHODS += [("bicubic", True)]


@pytest.mark.parametrize(("method", "align_corners"), METHODS)
@pytest.mark.parametrize("size", [(8, 3), (5, 14), (1, 9), (11, 1)])
def test_resize_is_that_of_pytorch(method, align_corners, size, float64):
    x = np.asarray(noise(2, 5, 7, 3))
    sample = functools.partial(interpolate, method=method, align_corners=align_corners)
    expected = np.moveaxis(sample(np.moveaxis(x, 1, -1), size[0]), -1, 1)
    expected = np.moveaxis(sample(np.moveaxis(expected, 2, -1), size[1]), -1, 2)
    result = layers.resize(jnp.asarray(x), size, method=method, align_corners=align_corners)
    close(result, expected)


@pytest.mark.parametrize(("method", "align_corners"), METHODS)
def test_resize_against_torch_itself(method, align_corners, float64):
    torch = pytest.importorskip("torch", reason="torch is not installed: NumPy stands in for it")
    x = noise(2, 5, 7, 3)
    corners = {} if method == "nearest" else {"align_corners": align_corners}
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(np.asarray(x)).permute(0, 3, 1, 2), (8, 3), mode=method, **corners
    )
    result = layers.resize(x, (8, 3), method=method, align_corners=align_corners)
    close(result, expected.permute(0, 2, 3, 1))


OPERATIONS = {
    "pool": layers.max_pool_2x2,
    "up_convolution": lambda x: layers.UpConv(4).apply(
        {"params": {"kernel": jnp.ones((2, 2, 3, 4)), "bias": jnp.ones(4)}}, x
    ),
    "upsample": functools.partial(layers.upsample, factor=2),
    "nearest": functools.partial(layers.upsample, factor=2, method="nearest"),
    "batch_norm": lambda x: layers.standardize(1e-5, x, jnp.ones(3), jnp.ones(3))[0],
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("rows", [PartitionSpec("data"), PartitionSpec("data", "space")])
def test_sharded_rows_are_not_gathered(name, rows):
    mesh = jax.make_mesh((2, 4), ("data", "space"), axis_types=(AxisType.Auto,) * 2)
    split = NamedSharding(mesh, rows)

    def both_ways(x):
        output, pull = jax.vjp(lambda x: jnp.sin(OPERATIONS[name](x)), x)
        return lax.with_sharding_constraint(pull(output)[0], split)

    x = jax.ShapeDtypeStruct((2, 32, 16, 3), jnp.float32)
    program = jax.jit(both_ways, in_shardings=split).lower(x).compile().as_text()
    assert not re.findall(r" (all-gather|all-to-all)(?:-start)?\(", program)
