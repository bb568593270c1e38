"""Products and biases have autodiff's gradients, by sums and products that a CPU is good at."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.kernels import products
from segjax.runtime import xla
from tests.kernels.forms import assert_agree, noise, under

SHAPES = [(3, 5), (2, 7, 5), (2, 3, 16, 5), (2, 2, 3, 6, 5)]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_product_has_autodiffs_gradient(shape, float64):
    assert_agree(products.product, noise(*shape), noise(5, 4, seed=1))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_bias_has_autodiffs_gradient(shape, float64):
    assert_agree(products.add_bias, noise(*shape), noise(5, seed=1))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_by_a_kernel_sums_outer_products(shape, float64):
    x, g = noise(*shape), noise(*shape[:-1], 4, seed=1)
    assert_agree(products.by_kernel, x, g)
    expected = np.einsum("nc,nk->ck", x.reshape(-1, 5), g.reshape(-1, 4))
    np.testing.assert_allclose(products.by_kernel(x, g), expected, rtol=1e-10, atol=1e-10)


def test_similarity_has_autodiffs_gradient(float64):
    assert_agree(products.similarity, noise(2, 3, 7, 5), noise(2, 3, 4, 5, seed=1))


def test_similarity_of_bfloat16_is_float32_and_so_are_none_of_its_gradients_products():
    query, key = (noise(1, 2, n, 8).astype("bfloat16") for n in (5, 3))
    y, gradients = under("tuned", products.similarity, query, key)
    assert y.dtype == jnp.float32 and {leaf.dtype for leaf in gradients} == {query.dtype}

    def gradient(query, key):
        return jax.grad(lambda *x: products.similarity(*x).sum(), (0, 1))(query, key)

    text = jax.jit(gradient).lower(query, key).as_text()
    assert "dot_general" in text
    assert not [line for line in text.splitlines() if "dot_general" in line and "f32" in line]


def test_a_bfloat16_bias_sums_its_gradient_in_float32():
    """100 times 1/3 is far from what bfloat16 additions make of it."""
    g = jnp.full((4, 32, 32, 3), 1 / 3, "bfloat16")
    _, pull = jax.vjp(products.add_bias, g, jnp.zeros(3, "bfloat16"))
    np.testing.assert_allclose(
        pull(g)[1].astype("float32"), 4096 * float(g[0, 0, 0, 0]), rtol=2**-8
    )


def test_onednn_takes_features_as_they_lie():
    if not xla.through_onednn("bfloat16"):
        pytest.skip("this jaxlib or processor has no oneDNN for bfloat16")
    x, g = (jax.ShapeDtypeStruct((4, 32, 32, n), "bfloat16") for n in (64, 256))
    options = xla.xla_options("bfloat16")
    text = jax.jit(products.by_kernel, compiler_options=options).lower(x, g).compile().as_text()
    assert "onednn$matmul" in text and " copy(" not in text and " transpose(" not in text


@pytest.mark.parametrize("shape", SHAPES)
def test_the_form_for_onednn_is_the_reference(shape, monkeypatch, float64):
    monkeypatch.setattr(xla, "through_onednn", lambda _: True)
    assert_agree(products.by_kernel, noise(*shape), noise(*shape[:-1], 4, seed=1))
    assert_agree(products.product, noise(*shape), noise(5, 4, seed=1))


@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 4, 6)])
def test_softmax_has_autodiffs_gradient(shape, float64):
    assert_agree(functools.partial(products.softmax, dtype="float64"), 3 * noise(*shape))
