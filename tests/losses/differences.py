"""What tests of losses share: their mean, and gradients against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np


def check_gradient(loss, logits, label):
    """Compare along a few random directions; in float64."""
    value = jax.jit(lambda z: loss(z, jnp.asarray(label))[0])
    slope = jax.jit(jax.grad(value))(jnp.asarray(logits))
    random = np.random.default_rng(5)
    for _ in range(5):
        way = random.normal(size=logits.shape)
        ahead, behind = (value(jnp.asarray(logits + s * 1e-6 * way)) for s in (1, -1))
        np.testing.assert_allclose(np.vdot(slope, way), (ahead - behind) / 2e-6, rtol=1e-5)


def mean_loss(loss):
    """Return a loss divided by its weight, as a function of logits and label."""

    def mean(logits, label):
        total, weight = loss(logits, label)
        return total / jnp.maximum(weight, 1)

    return mean
