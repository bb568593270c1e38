"""Multi-head attention (Vaswani et al. 2017, arXiv:1706.03762, figure 2) between places."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from segjax.errors import ConfigError
from segjax.kernels import products
from segjax.layers import conv
from segjax.layers import dense as dense_lib

INIT = nn.initializers.truncated_normal(0.02)
"""How transformers start their matrices."""


class Attention(nn.Module):
    """Let every place of `x` average what the places of `memory` have to say.

    Attributes:
        heads: In how many parts of the channels to do so, each with its own weights.
    """

    heads: int
    compute_dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n c"], memory: Float[Array, "b m d"]
    ) -> Float[Array, "b n c"]:
        """Return as many channels as `x` has, in `compute_dtype`."""
        channels = x.shape[-1]
        if channels % self.heads:
            raise ConfigError(f"{channels} channels are not a multiple of {self.heads} heads.")

        def project(name: str, tokens: jax.Array) -> jax.Array:
            y = dense(channels, **conv.dtypes_of(self), name=name)(tokens)
            return y.reshape(*y.shape[:2], self.heads, -1).swapaxes(1, 2)

        y = attend(project("query", x), project("key", memory), project("value", memory))
        y = y.swapaxes(1, 2).reshape(x.shape)
        return dense(channels, **conv.dtypes_of(self), name="out")(y)


def attend(
    query: Float[Array, "b h n d"], key: Float[Array, "b h m d"], value: Float[Array, "b h m d"]
) -> Float[Array, "b h n d"]:
    """Return equation 1 of the paper, `softmax(query key^T / sqrt(d)) value`.

    The softmax is in float32 at least. `jax.nn.dot_product_attention` has it in float32 at most,
    orders axes so that its gradient takes 1.5 times as long on a CPU, and on its own never picks
    a fused kernel.
    """
    scores = products.similarity(query, key) * query.shape[-1] ** -0.5
    return jnp.einsum("bhnm,bhmd->bhnd", nn.softmax(scores).astype(value.dtype), value)


def dense(features: int, **options: Any) -> dense_lib.Dense:
    """Return a linear layer on channels that starts as those of transformers do."""
    return dense_lib.Dense(features, kernel_init=INIT, **options)
