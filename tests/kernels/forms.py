"""Compare the forms of a kernel: values and gradients, as a CPU computes them."""

import jax
import jax.numpy as jnp
import numpy as np

from segjax import kernels


def noise(*shape, seed=0):
    """Return standard normal numbers."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def close(a, b, tolerance=1e-10):
    """Assert that two trees are equal up to a float64's rounding."""
    equal = lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)  # noqa: E731
    jax.tree.map(equal, a, b)


def value_and_gradients(function, *arrays):
    """Return what the compiled function computes, and its gradients by all arrays."""
    y, pull = jax.vjp(jax.jit(function), *arrays)
    return y, pull(jax.tree.map(lambda leaf: noise(*leaf.shape, seed=9), y))


def under(form, function, *arrays, gradients=True):
    """Return value and gradients, or the value alone, with all kernels in this form."""
    with kernels.use(form):
        if gradients:
            return value_and_gradients(function, *arrays)
        return jax.jit(function)(*arrays)


def assert_agree(function, *arrays, gradients=True):
    """Assert that `function` computes the same in both forms."""
    tuned, reference = (
        under(form, function, *arrays, gradients=gradients) for form in ("tuned", "reference")
    )
    close(tuned, reference)
