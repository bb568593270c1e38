"""A linear layer on channels."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from segjax.kernels import products


class Dense(nn.Module):
    """Multiply channels by a matrix and add a bias, as `nn.Dense`.

    Attributes:
        features: Channels to return.
        bias: Add one.
        kernel_init: Of the matrix.
        bias_init: Of the bias.
    """

    features: int
    bias: bool = True
    kernel_init: Callable = nn.initializers.he_normal()
    bias_init: Callable = nn.initializers.zeros
    compute_dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "b ... c"]) -> Float[Array, "b ... {self.features}"]:
        """Return the products in `compute_dtype`."""
        shape = x.shape[-1], self.features
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        dtype = self.compute_dtype
        x = products.product(jnp.asarray(x, dtype), jnp.asarray(kernel, dtype))
        if not self.bias:
            return x
        bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype)
        return products.add_bias(x, jnp.asarray(bias, dtype))
