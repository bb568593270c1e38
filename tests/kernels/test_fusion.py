"""What keeps XLA from fusing changes no number, and is still there once XLA has compiled it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import kernels
from segjax.kernels import fusion
from tests.kernels.forms import assert_agree, noise


@pytest.mark.parametrize("shape", [(), (3,), (2, 5, 3)])
def test_barriers_change_nothing(shape, float64):
    x = noise(*shape)
    assert_agree(lambda x: jnp.sin(fusion.barrier(jnp.cos(x))), x)
    assert_agree(lambda x: jnp.sin(fusion.gradient_barrier(jnp.cos(x))), x)
    assert_agree(lambda x, y: fusion.barrier((x, {"y": y})), x, noise(2))


def isolated(x, y):
    key = jax.random.wrap_key_data(jnp.zeros(2, jnp.uint32))
    return fusion.isolate(key, x, y, function=lambda x, y: (jnp.sin(x), x[:1] * y))


def test_isolation_changes_nothing(float64):
    assert_agree(isolated, noise(3, 4), noise(4, seed=1))


@pytest.mark.parametrize("form", ["tuned", "reference"])
def test_what_is_isolated_stays_a_piece_of_its_own_in_the_compiled_program(form):
    with kernels.use(form):
        text = jax.jit(isolated).lower(noise(3, 4), noise(4)).compile().as_text()
    assert (" conditional(" in text) == (form == "tuned")


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_loop_takes_each_item_once(count, float64):
    items = {"a": noise(count, 3), "b": noise(count, 2, seed=1)}
    step = jnp.asarray(4)

    def loop(items):
        return fusion.opaque_loop(
            items, step, function=lambda item: (jnp.sin(item["a"]), item["b"].sum())
        )

    assert_agree(loop, items, gradients=False)
    a, b = loop(items)
    np.testing.assert_allclose(a, np.sin(items["a"]), rtol=1e-12)
    np.testing.assert_allclose(b, items["b"].sum(1), rtol=1e-12)


def test_a_loop_over_one_item_is_still_a_loop_once_compiled():
    def loop(items, step):
        return fusion.opaque_loop(items, step, function=jnp.sin)

    arguments = noise(1, 3), jnp.asarray(0)
    assert " while(" in jax.jit(loop).lower(*arguments).compile().as_text()
    dissolved = jax.jit(lambda items: jax.lax.map(jnp.sin, items)).lower(arguments[0])
    assert " while(" not in dissolved.compile().as_text(), "or the opaque loop is not needed"
