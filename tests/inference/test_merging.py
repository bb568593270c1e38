"""Networks whose norms lie within their convolutions answer as those whose norms stand behind."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import zoo
from segjax.config import lookup
from segjax.layers import norm
from segjax.runtime import xla


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bisenetv2", "pspnet"])
def test_a_network_answers_alike(name):
    """In bfloat16, as far from float32 as without; oneDNN takes sums and activations along."""
    image = jnp.asarray(np.random.default_rng(0).normal(size=(1, 64, 64, 3)), jnp.float32)
    section = {"type": name, **zoo.ZOO[name].debug}

    def make(dtype):
        options = {**section, "compute_dtype": dtype}
        return lookup.build("models", options, where="model", num_classes=5)

    init = functools.partial(make("float32").init, train=False)
    variables = jax.tree.map(draw, jax.eval_shape(init, jax.random.key(0), image))

    def answer(dtype, context):
        def logits(variables, image):
            with context:
                return make(dtype).apply(variables, image, train=False).logits

        run = jax.jit(logits, compiler_options=xla.xla_options(dtype))
        return np.asarray(run(variables, image), np.float32)

    exact, behind = (answer(kind, contextlib.nullcontext()) for kind in ("float32", "bfloat16"))
    within = answer("bfloat16", norm.merging())
    assert not xla.through_onednn("bfloat16") or (within != behind).any()
    limit = max(2 * np.linalg.norm(behind - exact), 0.01 * np.linalg.norm(exact))
    assert np.linalg.norm(within - exact) < limit


def draw(leaf):
    """Return weights that keep features of order 1, and statistics unlike a fresh norm's."""
    rng = np.random.default_rng(leaf.size)
    if len(leaf.shape) < 2:
        return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
    return (rng.normal(size=leaf.shape) / np.prod(leaf.shape[:-1]) ** 0.5).astype(np.float32)
