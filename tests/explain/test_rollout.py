"""Attention rollout against products of whole matrices, and weights against the layers' own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.config import lookup
from segjax.errors import ConfigError
from segjax.explain import network, rollout
from segjax.explain.rollout import Step
from segjax.layers import attention
from segjax.structs import Outputs

VIT = {"type": "vit", "variant": "s", "width": 16, "heads": 2, "depth": 2, "grid": 4,
       "registers": 2, "patch": 8}  # fmt: skip
MIT = {"type": "mit", "variant": "b0", "widths": (8, 8, 10, 16), "depths": (1, 1, 1, 1)}


def net_of(model, encoder, size):
    section = dict(type=model, encoder=encoder)
    model = lookup.build("models", section, where="config.model", num_classes=3)
    losses = [dict(type="pixel:cross_entropy", weight=1.0)]
    task = lookup.build(
        "tasks", dict(type="semantic", losses=losses), where="config.task", num_classes=3
    )
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, *size, 3)), jnp.float32)
    variables = jax.jit(lambda x: model.init(jax.random.key(0), x, train=False))(x)
    return network.make(model, task, {"batch_stats": {}, **variables}), x


def rows(key, n, m):
    weights = key.random((n, m))
    return weights / weights.sum(1, keepdims=True)


def test_it_is_the_product_of_all_layers():
    """Equation 1 of the paper, for the mean of two patches' rows."""
    key, grid, before = np.random.default_rng(0), (3, 4), 2
    layers = [Step(rows(key, 14, 14), before, grid, grid) for _ in range(3)]
    product = np.eye(14)
    for layer in layers:
        product = (0.5 * layer.weights + 0.5 * np.eye(14)) @ product
    region = np.zeros((24, 32), bool)
    region[0:8, 8:16] = region[16:24, 24:32] = True  # patches 1 and 11
    expected = product[[before + 1, before + 11]].mean(0)[before:].reshape(grid)
    np.testing.assert_allclose(rollout.rollout(layers, region), expected, atol=1e-6)


def test_shares_of_coarser_keys_and_stages_are_kept():
    """All of it stays in the image; a token that asks but itself knows of its own place alone."""
    key = np.random.default_rng(1)
    layers = [
        Step(rows(key, 64, 16), 0, (8, 8), (4, 4)),
        Step(np.eye(16), 0, (4, 4), (4, 4)),
    ]
    region = np.zeros((32, 32), bool)
    region[0:8, 0:8] = True
    found = rollout.rollout(layers, region)
    assert found.shape == (8, 8) and found.sum() == pytest.approx(1, abs=1e-6)
    assert found[:2, :2].sum() > 0.5 and (found[2:, 2:] > 0).all()
    coarse = layers[0].weights[[0, 1, 8, 9]].mean(0).reshape(4, 4).repeat(2, 0).repeat(2, 1) / 4
    expected = 0.5 * coarse
    expected[:2, :2] += 0.5 / 4
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_weights_are_those_by_which_the_layer_averages():
    """With values of a single head, out projection undone: weights times values is the output."""
    layer = attention.Attention(1)
    x = jnp.asarray(np.random.default_rng(2).normal(size=(1, 6, 4)), jnp.float32)
    variables = layer.init(jax.random.key(0), x, x)
    own = variables["params"]

    def dense(name, x):
        return np.asarray(x) @ np.asarray(own[name]["kernel"]) + np.asarray(own[name]["bias"])

    weights = rollout.weights_of(*(jnp.asarray(dense(n, x)) for n in ("query", "key")), 1)
    expected = dense("out", np.asarray(weights) @ dense("value", x)[0])
    np.testing.assert_allclose(np.asarray(layer.apply(variables, x, x))[0], expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "encoder", "size", "grids"),
    [
        ("linear", VIT, (32, 40), [(4, 5)] * 2),
        ("segformer", MIT, (64, 64), [(16, 16), (8, 8), (4, 4), (2, 2)]),
    ],
)
def test_layers_of_an_encoder_are_found(model, encoder, size, grids):
    net, x = net_of(model, encoder, size)
    layers = rollout.steps(net, x)
    assert [layer.grid for layer in layers] == grids
    for layer in layers:
        np.testing.assert_allclose(layer.weights.sum(1), 1, atol=1e-5)
    region = np.zeros(size, bool)
    region[3:9, 3:9] = True
    found = rollout.rollout(layers, region)
    assert found.shape == grids[0] and 0 < found.sum() <= 1 + 1e-5


class Pixels(nn.Module):
    """A network without attention."""

    @nn.compact
    def __call__(self, image, *, train):
        return Outputs(nn.Dense(3)(image))


def test_a_network_without_attention_is_one_line():
    model, x = Pixels(), jnp.zeros((1, 32, 32, 3))
    net = network.Net(network.Passes(model, None), model.init(jax.random.key(0), x, train=False))
    with pytest.raises(ConfigError, match="--method=rollout: follows the attention"):
        rollout.steps(net, x)
