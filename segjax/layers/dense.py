"""A product over channels with a bias, and gradients of both that are one pass."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from segjax.layers import norm
from segjax.runtime import xla


class Dense(nn.Module):
    """Multiply channels by a matrix and add a bias, as `nn.Dense`.

    Attributes:
        features: Channels to return.
        bias: Add one.
        kernel_init: Of the matrix.
    """

    features: int
    bias: bool = True
    kernel_init: Callable = nn.initializers.he_normal()
    compute_dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "b ... c"]) -> Float[Array, "b ... {self.features}"]:
        """Return the products in `compute_dtype`."""
        shape = x.shape[-1], self.features
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        dtype = self.compute_dtype
        x = product(jnp.asarray(x, dtype), jnp.asarray(kernel, dtype))
        if not self.bias:
            return x
        bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
        return add_bias(x, jnp.asarray(bias, dtype))


@jax.custom_vjp
def product(x: Float[Array, "*b c"], kernel: Float[Array, "c k"]) -> Float[Array, "*b k"]:
    """Return `x @ kernel`."""
    return lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))


def _product_gradient(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    return back(g, kernel), outer(x, g)


def back(g: Float[Array, "*b k"], kernel: Float[Array, "c k"]) -> Float[Array, "*b c"]:
    """Return `g @ kernel.T`, the gradient of `product` by its input."""
    return lax.dot_general(g, kernel, (((g.ndim - 1,), (1,)), ((), ())))


def outer(x: Float[Array, "*b c"], g: Float[Array, "*b k"]) -> Float[Array, "c k"]:
    """Return the sum of the outer products at each place.

    Autodiff has `x` and `g` the other way round and turns the result. oneDNN takes a matrix either
    way up, but one of many axes XLA first lays out anew.
    """

    def flat(x: Array, g: Array) -> Array:
        return lax.dot_general(
            x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1]), (((0,), (0,)), ((), ()))
        )

    def general(x: Array, g: Array) -> Array:
        every = tuple(range(x.ndim - 1))
        return lax.dot_general(x, g, ((every, every), ((), ())))

    cpu = flat if xla.through_onednn(x.dtype) else general
    return lax.platform_dependent(x, g, cpu=cpu, default=general)


product.defvjp(lambda x, kernel: (product(x, kernel), (x, kernel)), _product_gradient)


@jax.custom_vjp
def add_bias(x: Float[Array, "*b c"], bias: Float[Array, " c"]) -> Float[Array, "*b c"]:
    """Return `x + bias`; the gradient by the bias is summed as `norm.channel_sums` does."""
    return x + lax.expand_dims(bias, range(x.ndim - 1))


def _add_bias_gradient(_: None, g: Array) -> tuple[Array, Array]:
    (total,) = norm.channel_sums(g.astype(norm.widen(g.dtype)))
    return g, total.astype(g.dtype)


add_bias.defvjp(lambda x, bias: (add_bias(x, bias), None), _add_bias_gradient)
