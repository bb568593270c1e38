"""Attention U-Net keeps the contract; its gates do what figure 2 and the equations say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.config import lookup
from segjax.layers.style import Style
from segjax.models import attention_unet, unet
from tests.models import contract

DOUBLE = {"compute_dtype": "float64", "param_dtype": "float64"}


def build(**fields):
    section = {"type": "attention_unet", "widths": (4, 6, 8), "convs_per_level": 1, **fields}
    return lookup.build("models", section, where="config.model", num_classes=5)


class TestContract(contract.ModelContract):
    def model(self, **overrides):
        return build(**overrides)


@pytest.mark.slow
class TestCompiled(contract.CompiledContract):
    of = TestContract()


def count(model):
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = contract.shapes(model, image, train=False)[2]
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_gates_stand_on_all_skips_but_the_finest():
    # By hand, for a skip of c channels and coarser features of 2c: 2x2 convolution without bias,
    # 1x1 convolution with, 1x1 convolution to one coefficient with.
    gates = sum(4 * c * c + (2 * c * c + c) + (c + 1) for c in (128, 256, 512))
    assert gates == 2_066_179
    both = count(attention_unet.Model(num_classes=2)), count(unet.Model(num_classes=2))
    assert both[0] - both[1] == gates


def noise(*shape, seed):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_coefficients_are_those_of_the_equations(size, float64):
    skip, coarse = noise(2, *size, 3, seed=0), noise(2, 3, 4, 5, seed=1)
    w_x, w_g, b_g = noise(2, 2, 3, 3, seed=2), noise(5, 3, seed=3), noise(3, seed=4)
    psi, b_psi = noise(3, 1, seed=5), noise(1, seed=6)
    params = {
        "skip": {"kernel": w_x},
        "coarse": {"kernel": w_g, "bias": b_g},
        "attention": {"kernel": psi, "bias": b_psi},
    }
    gate = attention_unet.Gate(style=Style(**DOUBLE))
    result = gate.apply({"params": params}, jnp.asarray(skip), jnp.asarray(coarse))
    padded = np.pad(skip, [(0, 0), *[(0, n % 2) for n in size], (0, 0)])
    blocks = padded.reshape(2, 3, 2, 4, 2, 3)
    seen = np.einsum("bhiwjc,ijcd->bhwd", blocks, w_x) + coarse @ w_g + b_g
    grid = 1 / (1 + np.exp(-(np.maximum(seen, 0) @ psi + b_psi)))
    expected = jax.image.resize(grid, (2, 6, 8, 1), "bilinear")[:, : size[0], : size[1]]
    np.testing.assert_allclose(result, expected, rtol=1e-9)


def test_a_closed_gate_hands_nothing_across(float64):
    # As if the convolution behind it did not look at its skip, the first 6 of 12 channels.
    model = build(**DOUBLE)
    variables = jax.tree.map(np.array, contract.fill(model, 3))
    image = contract.images(3, 3)
    variables["params"]["gate1"]["attention"]["bias"][:] = -1e9
    closed, _ = contract.evaluate(model)(variables, image)
    variables["params"]["gate1"]["attention"]["bias"][:] = 0
    variables["params"]["up1"]["conv0"]["conv"]["kernel"][:, :, :6] = 0
    blind, _ = contract.evaluate(model)(variables, image)
    np.testing.assert_allclose(closed, blind, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("size", [(64,), (9, 33, 32)])
def test_any_number_of_dimensions(size):
    image = jax.ShapeDtypeStruct((2, *size, 1), jnp.float32)
    logits, _, _ = contract.shapes(build(), image, train=True)
    assert logits.shape == (2, *size, 5)
