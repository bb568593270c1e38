"""Pooling and resizing against JAX, NumPy and PyTorch's documented numbers."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from segjax.layers import norm, resample


def noise(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def close(a, b, tolerance=1e-10):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("size", [(6, 8), (7, 5), (1, 4)])
def test_pooling_takes_each_window_once(size):
    x = noise(2, *size, 3) - 10  # all negative: padding with 0 would win
    rows, columns = (range(0, length, 2) for length in size)
    x = np.asarray(x)
    expected = [[x[:, i : i + 2, j : j + 2].max((1, 2)) for j in columns] for i in rows]
    expected = np.transpose(expected, (2, 0, 1, 3))
    close(resample.max_pool(jnp.asarray(x)), expected)
    gradient = jax.grad(lambda x: resample.max_pool(x).sum())(jnp.asarray(x))
    close(gradient, np.isin(x, expected))


@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_overlapping_pooling_is_that_of_flax(size):
    x = noise(2, *size, 3) - 10
    expected = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
    close(resample.max_pool(x, window=3), expected)


def test_adaptive_pooling_gives_the_documented_bins():
    # torch.nn.AdaptiveAvgPool2d: bin i of s covers floor(i n / s) to ceil((i + 1) n / s).
    x = jnp.arange(5.0).reshape(1, 5, 1, 1) * jnp.ones((1, 5, 7, 2))
    result = resample.adaptive_avg_pool(x, (3, 2))
    assert result.shape == (1, 3, 2, 2)
    close(result[0, :, 0, 0], [0.5, 2, 3.5], 1e-6)


def test_pooling_shares_the_gradient_of_ties():
    gradient = jax.grad(lambda x: resample.max_pool(x).sum())(jnp.zeros((1, 4, 4, 1)))
    close(gradient, np.full((1, 4, 4, 1), 0.25))


def test_up_convolution_is_the_transposed_convolution(float64):
    x, kernel, bias = noise(2, 3, 5, 4), noise(2, 2, 4, 6, seed=1), noise(6, seed=2)
    layer = resample.UpConv(6, compute_dtype="float64", param_dtype="float64")
    reference = nn.ConvTranspose(6, (2, 2), (2, 2), param_dtype="float64")
    expected = reference.apply({"params": {"kernel": kernel[::-1, ::-1], "bias": bias}}, x)
    close(layer.apply({"params": {"kernel": kernel, "bias": bias}}, x), expected)


def test_up_convolution_keeps_the_variance():
    # He's initialisation doubles it, for the ReLU to halve: fan-in is the input's channels alone.
    x = noise(1, 16, 16, 256)
    output, _ = resample.UpConv(64).init_with_output(jax.random.key(0), x)
    assert 1.8 < output.var() < 2.2


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("method", ["bilinear", "nearest"])
def test_upsampling_is_that_of_jax_image(factor, method, float64):
    x = noise(2, 5, 7, 3)
    shape = (2, 5 * factor, 7 * factor, 3)
    expected = jax.image.resize(x, shape, method, antialias=False)
    close(resample.upsample(x, factor=factor, method=method), expected)
    close(resample.resize(x, shape[1:3], method=method), expected)
    single = resample.upsample(x.astype(jnp.float32), factor=factor, method=method)
    np.testing.assert_allclose(single, expected, rtol=0, atol=5e-7)


DOCUMENTED = {  # torch.nn.Upsample's documentation: [[1, 2], [3, 4]] doubled
    False: [[1, 1.25, 1.75, 2], [1.5, 1.75, 2.25, 2.5], [2.5, 2.75, 3.25, 3.5], [3, 3.25, 3.75, 4]],
    True: [[1 + (2 * i + j) / 3 for j in range(4)] for i in range(4)],
}


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(5,), (4, 6), (2, 3, 5)])
def test_upsampling_has_the_gradient_of_its_matrices(factor, method, size, float64):
    x = noise(2, *size, 3)
    y, pull = jax.vjp(lambda x: resample.upsample(x, factor=factor, method=method), x)
    g = noise(*y.shape, seed=1)
    expected = g
    for axis, n in enumerate(size, 1):
        weights = resample.interpolation(n, factor * n, method=method, align_corners=False)
        expected = jnp.moveaxis(jnp.tensordot(weights.T, expected, (1, axis)), 0, axis)
    close(pull(g)[0], expected)


@pytest.mark.parametrize("align_corners", [False, True])
def test_bilinear_gives_the_documented_numbers(align_corners, float64):
    x = jnp.array([[1.0, 2.0], [3.0, 4.0]])[None, :, :, None]
    result = resample.resize(x, (4, 4), align_corners=align_corners)
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
    result = resample.resize(jnp.asarray(x), size, method=method, align_corners=align_corners)
    close(result, expected)


@pytest.mark.parametrize(("method", "align_corners"), METHODS)
def test_resize_against_torch_itself(method, align_corners, float64):
    torch = pytest.importorskip("torch", reason="torch is not installed: NumPy stands in for it")
    x = noise(2, 5, 7, 3)
    corners = {} if method == "nearest" else {"align_corners": align_corners}
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(np.array(x)).permute(0, 3, 1, 2), (8, 3), mode=method, **corners
    )
    result = resample.resize(x, (8, 3), method=method, align_corners=align_corners)
    close(result, expected.permute(0, 2, 3, 1))


OPERATIONS = {
    "pool": resample.max_pool,
    "up_convolution": lambda x: resample.UpConv(4).apply(
        {"params": {"kernel": jnp.ones((2, 2, 3, 4)), "bias": jnp.ones(4)}}, x
    ),
    "overlapping_pool": functools.partial(resample.max_pool, window=3),
    "bins": lambda x: resample.resize(resample.adaptive_avg_pool(x, (2, 3)), x.shape[1:3]),
    "corners": lambda x: resample.resize(x, (64, 40), align_corners=True),
    "bicubic": lambda x: resample.resize(x, (96, 32), method="bicubic"),
    "upsample": functools.partial(resample.upsample, factor=2),
    "nearest": functools.partial(resample.upsample, factor=2, method="nearest"),
    "batch_norm": lambda x: norm.BatchNorm(train=True).init_with_output(jax.random.key(0), x)[0],
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
