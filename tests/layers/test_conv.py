"""Convolution, activation, stochastic depth and rematerialisation do what their names say."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.errors import ConfigError
from segjax.layers import conv, remat
from segjax.layers import norm as norm_lib
from segjax.runtime import xla


def noise(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def close(a, b, tolerance=1e-10):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=tolerance, atol=tolerance)


def test_strided_convolution_is_centred_on_even_pixels():
    # 'SAME' would centre it on odd pixels where the size is even.
    layer = conv.ConvNormAct(1, stride=2, norm="none", activation="none")
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[1, 1] = 1
    variables = {"params": {"conv": {"kernel": kernel, "bias": np.zeros(1, np.float32)}}}
    for size in ((6, 8), (7, 5)):
        image = noise(2, *size, 1)
        close(layer.apply(variables, image, train=False), image[:, ::2, ::2])


@pytest.mark.parametrize(("norm", "bias"), [("batch", False), ("group", False), ("none", True)])
def test_bias_only_without_norm(norm, bias):
    layer = conv.ConvNormAct(4, norm=norm)
    shapes = jax.eval_shape(
        functools.partial(layer.init, train=True), jax.random.key(0), jnp.ones((1, 4, 4, 3))
    )
    assert ("bias" in shapes["params"]["conv"]) == bias
    assert ("norm" in shapes["params"]) != bias


@pytest.mark.parametrize(
    "options", [{"activation": "silu"}, {"bias": True, "stride": 2}, {"groups": -1}, {"groups": 2}]
)
def test_a_norm_merged_into_its_convolution_is_the_norm_behind_it(options, float64, monkeypatch):
    monkeypatch.setattr(xla, "through_onednn", lambda dtype: True)
    layer = conv.ConvNormAct(4, **options, compute_dtype="float64", param_dtype="float64")
    x = noise(2, 6, 5, 4)
    shapes = jax.eval_shape(functools.partial(layer.init, train=False), jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: 0.5 + noise(*leaf.shape, seed=1) ** 2, shapes)
    with norm_lib.merging():
        merged, heard = layer.apply(variables, x, train=False, capture_intermediates=True)
        assert not norm_lib.merges(norm_lib.BatchNorm(train=True))
    assert "norm" not in heard["intermediates"]
    close(merged, layer.apply(variables, x, train=False))


def test_unknown_names_are_config_errors():
    with pytest.raises(ConfigError, match="swish_hard"):
        conv.ConvNormAct(4, activation="swish_hard").init(
            jax.random.key(0), jnp.ones((1, 4, 4, 3)), train=True
        )
    with pytest.raises(ConfigError, match="instanse"):
        norm_lib.make_norm("instanse", train=True)


@pytest.mark.parametrize("shape", [(2, 9, 3), (2, 9, 7, 3), (2, 5, 7, 4, 3)])
def test_as_many_dimensions_as_the_input_has(shape):
    layer = conv.ConvNormAct(4, stride=2)
    output, variables = layer.init_with_output(jax.random.key(0), jnp.ones(shape), train=True)
    assert output.shape == (2, *(-(-n // 2) for n in shape[1:-1]), 4)
    assert variables["params"]["conv"]["kernel"].shape == (3,) * (len(shape) - 2) + (3, 4)


def test_depthwise_sees_each_channel_by_itself():
    layer = conv.ConvNormAct(3, groups=-1, norm="none", activation="none")
    x = noise(1, 6, 6, 3)
    variables = layer.init(jax.random.key(0), x, train=True)
    assert variables["params"]["conv"]["kernel"].shape == (3, 3, 1, 3)
    gradient = jax.grad(lambda x: layer.apply(variables, x, train=True)[..., 1].sum())(x)
    assert gradient[..., 1].any() and not gradient[..., 0].any() and not gradient[..., 2].any()


def test_drop_path_drops_whole_examples_and_keeps_the_mean():
    layer, x = conv.DropPath(0.25), jnp.ones((4096, 2, 2, 1))
    y = layer.apply({}, x, train=True, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    assert (y == y[:, :1, :1]).all() and abs(y.mean() - 1) < 0.05
    close(layer.apply({}, x, train=False), x)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, *, train: bool):
        return conv.ConvNormAct(4)(conv.ConvNormAct(4)(x, train=train), train=train)


def test_remat_policies_differ_in_what_they_keep():
    x, kept = jnp.ones((1, 32, 32, 4)), {}
    for policy in remat.POLICIES:
        block = remat.remat(Block, policy)()
        variables = block.init(jax.random.key(0), x, train=True)

        def forward(x, block=block, variables=variables):
            return block.apply(variables, x, train=True, mutable=["batch_stats"])[0]

        pull = jax.eval_shape(lambda x, forward=forward: jax.vjp(forward, x)[1], x)
        kept[policy] = sum(leaf.size for leaf in jax.tree.leaves(pull))
    assert kept["full"] < kept["convs"] < kept["none"]
    with pytest.raises(ConfigError, match="remat='most' is none of none, convs, full"):
        remat.remat(Block, "most")
