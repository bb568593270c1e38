"""A rematerialised block is built, named and called as the plain one, and returns the same."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.costs import flops
from segjax.layers import conv, remat

DOUBLE = {"compute_dtype": "float64", "param_dtype": "float64"}


class Join(nn.Module):
    """Two arrays, dropout and running statistics."""

    @nn.compact
    def __call__(self, x, *others, train: bool):
        x = conv.ConvNormAct(4, **DOUBLE, name="first")(sum(others, x), train=train)
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return conv.ConvNormAct(4, **DOUBLE, name="second")(x, train=train)


class Sine(nn.Module):
    """A block that is the same in training."""

    @nn.compact
    def __call__(self, x, y):
        return jnp.sin(x) * y


class Net(nn.Module):
    """Two blocks."""

    policy: str

    @nn.compact
    def __call__(self, x, *, train):
        block = remat.remat(Join, self.policy)
        y = block(name="left")(x, x, train=train)
        y = block(name="right")(y, x, y, train=train)
        return remat.remat(Sine, self.policy)(name="sine")(y, y)


def run(policy, *, train):
    """Return value, gradient, and new statistics."""
    net, x = Net(policy), jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 6, 4)))
    variables = net.init(jax.random.key(0), x, train=False)

    def loss(params, x):
        inputs = {**variables, "params": params}
        rngs = {"dropout": jax.random.key(1)}
        y, updates = net.apply(inputs, x, train=train, mutable=["batch_stats"], rngs=rngs)
        return jnp.sin(y).sum(), updates

    return variables, *jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(
        variables["params"], x
    )


@pytest.mark.parametrize("train", [pytest.param(True, marks=pytest.mark.slow), False])
@pytest.mark.parametrize("policy", ["full", pytest.param("convs", marks=pytest.mark.slow)])
def test_nothing_changes_but_what_is_kept(policy, train, float64):
    plain, other = run("none", train=train), run(policy, train=train)
    assert jax.tree.structure(plain) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_it_is_still_the_block():
    block = remat.remat(Join, "full")
    assert issubclass(block, Join) and remat.remat(Join, "none") is Join


def test_its_operations_have_the_block_s_name(float64):
    x, counts = jnp.ones((1, 4, 4, 4)), []
    for policy in remat.POLICIES:
        net = Net(policy)
        variables = net.init(jax.random.key(0), x, train=False)
        forward = jax.make_jaxpr(lambda v, x, net=net: net.apply(v, x, train=False))
        counts.append(flops.count(forward(variables, x)))
    assert counts[0] == counts[1] == counts[2]
    convolutions = [f"Net/{b}/{c}/conv" for b in ("left", "right") for c in ("first", "second")]
    assert list(counts[0]) == convolutions
