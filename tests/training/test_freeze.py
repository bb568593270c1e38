"""Held parameters: no gradient, no update, no optimiser state; their batch norms stand still."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.config import schedule
from segjax.errors import ConfigError
from segjax.layers import conv, remat
from segjax.training import freeze, optim

CLOCK = schedule.Clock(batch_size=4, num_examples=40, total_steps=100)
PARAMS = {
    "encoder": {"stem": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}, "last": jnp.ones(2)},
    "head": {"kernel": jnp.ones((2, 3))},
}


def make(**section):
    constant = {"type": "constant"}
    section = {"lr": 0.1, "schedule": constant, **section}
    return optim.make_optimizer(section, optim.make_rate(section, CLOCK))


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lamb"])
@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
def test_held_parameters_get_no_update_and_no_state(name, clip_norm):
    tx = make(type=name, freeze=[r"encoder/.*"], weight_decay=0.1, clip_norm=clip_norm)
    state = tx.init(PARAMS)
    updates, state = tx.update(PARAMS, state, PARAMS)
    assert not any(leaf.any() for leaf in jax.tree.leaves(updates["encoder"]))
    assert updates["head"]["kernel"].all()
    shapes = {leaf.shape for leaf in jax.tree.leaves(state)}
    assert (2, 3) in shapes and shapes <= {(2, 3), ()}


def test_the_norm_that_is_clipped_is_that_of_what_trains():
    tx = make(type="sgd", momentum=0.0, freeze=["encoder/.*"], clip_norm=1.0)
    grads = jax.tree.map(lambda x: 100 * x, PARAMS)
    updates, _ = tx.update(grads, tx.init(PARAMS), PARAMS)
    np.testing.assert_allclose(jnp.linalg.norm(updates["head"]["kernel"]), 0.1, rtol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lamb"])
def test_factors_multiply_the_rate_and_the_first_counts(name):
    factors = [("encoder/stem/kernel", 0.5), ("encoder/.*", 0.0)]
    options = {"type": name, "weight_decay": 0.1}
    plain, scaled = make(**options), make(**options, lr_factors=factors)
    one, _ = plain.update(PARAMS, plain.init(PARAMS), PARAMS)
    other, _ = scaled.update(PARAMS, scaled.init(PARAMS), PARAMS)
    stem = other["encoder"]["stem"]
    np.testing.assert_allclose(stem["kernel"], 0.5 * one["encoder"]["stem"]["kernel"])
    np.testing.assert_array_equal(other["head"]["kernel"], one["head"]["kernel"])
    assert not stem["bias"].any() and not other["encoder"]["last"].any()
    halved, _ = make(**options | {"lr": 0.05}).update(PARAMS, plain.init(PARAMS), PARAMS)
    np.testing.assert_allclose(stem["kernel"], halved["encoder"]["stem"]["kernel"], rtol=1e-6)


def test_both_go_together():
    tx = make(type="adam", freeze=["encoder/.*"], lr_factors=[["encoder/.*", 0.1], ["head/.*", 2]])
    updates, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates["head"]["kernel"], -0.2, rtol=1e-5)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"freeze": ["encodr/.*"]}, "matches no parameter. Did you mean 'encoder/.*'"),
        ({"freeze": ["encoder"]}, "'encoder' matches no parameter"),
        ({"freeze": ["encoder/stm/.*"]}, "Did you mean 'encoder/stem/.*'.*Outermost: encoder/.*"),
        ({"freeze": [".*"]}, "every parameter is held"),
        ({"freeze": "encoder/.*"}, "expected a list"),
        ({"freeze": ["encoder/("]}, "expected a list of regular expressions"),
        ({"lr_factors": [["decoder/.*", 0.1]]}, "'decoder/.*' matches no parameter"),
        ({"lr_factors": ["encoder/.*", 0.1]}, "expected pairs"),
        ({"lr_factors": [["encoder/.*", -0.1]]}, "a factor from 0"),
        ({"lr_factors": [["encoder/.*", "fast"]]}, "expected pairs"),
    ],
)
def test_patterns_that_cannot_be_meant_are_errors(section, said):
    with pytest.raises(ConfigError, match=said):
        make(type="sgd", **section).init(PARAMS)


class Network(nn.Module):
    """Two stages with batch norm, under remat or not, and a head."""

    remat: str

    @nn.compact
    def __call__(self, x, *, train):
        """Return the head's output."""
        block = remat.remat(Block, self.remat)
        x = block(name="first")(x, train=train)
        x = block(name="second")(x, train=train)
        return nn.Dense(2, name="head")(x)


class Block(nn.Module):
    """Convolve and normalise."""

    @nn.compact
    def __call__(self, x, *, train):
        """Return the features."""
        return conv.ConvNormAct(4, name="unit")(x, train=train)


@pytest.mark.parametrize("policy", ["none", "full"])
def test_a_held_stage_is_a_constant_also_in_training(policy):
    model, key = Network(policy), jax.random.key(0)
    x = jax.random.normal(key, (2, 8, 8, 3)) * 3 + 1
    variables = model.init(key, x, train=False)
    held = freeze.frozen(model, ["first/.*"])
    assert freeze.frozen(model, []) is model

    def energy(params, x):
        inputs = {"params": params, "batch_stats": variables["batch_stats"]}
        y, updates = held.apply(inputs, x, train=True, mutable=["batch_stats"])
        return (y**2).sum(), updates["batch_stats"]

    gradients, new = jax.jit(jax.grad(energy, has_aux=True))(variables["params"], x)
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradients["first"]))
    assert all(leaf.any() for leaf in jax.tree.leaves((gradients["head"], gradients["second"])))
    old = variables["batch_stats"]
    for name, same in (("first", True), ("second", False)):
        for a, b in zip(jax.tree.leaves(old[name]), jax.tree.leaves(new[name]), strict=True):
            assert bool((a == b).all()) == same
    # Running statistics are per channel and fixed: an image's features do not see the others.
    alone = Block().apply(
        {name: tree["first"] for name, tree in variables.items()}, x[:1], train=False
    )
    _, state = held.apply(
        variables, x, train=True, mutable=["batch_stats", "intermediates"],
        capture_intermediates=lambda module, _: module.name == "first",
    )  # fmt: skip
    together = state["intermediates"]["first"]["__call__"][0]
    np.testing.assert_allclose(together[:1], alone, rtol=1e-5, atol=1e-6)


def test_no_gradient_is_computed_below_what_trains():
    """The compiled step of a held encoder has fewer FLOPs: one backward pass less."""
    model, key = Network("none"), jax.random.key(0)
    x = jnp.ones((2, 16, 16, 3))
    variables = model.init(key, x, train=False)

    def flops(network):
        def energy(params):
            inputs = {**variables, "params": params}
            return (network.apply(inputs, x, train=True, mutable=["batch_stats"])[0] ** 2).sum()

        compiled = jax.jit(jax.grad(energy)).lower(variables["params"]).compile()
        return compiled.cost_analysis()["flops"]

    held = freeze.frozen(model, ["first/.*", "second/.*"])
    assert flops(held) < 0.6 * flops(model)
