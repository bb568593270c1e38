"""Multi-head attention (Vaswani et al. 2017, arXiv:1706.03762, figure 2) between places."""

from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from segjax.errors import ConfigError
from segjax.kernels import products
from segjax.layers import conv
from segjax.layers import dense as dense_lib

INIT = nn.initializers.truncated_normal(0.02)
"""How transformers start their matrices."""
UNSEEN = -1e9
"""The score of what is not seen: its weight is 0, and no sum of it is infinite."""
Turns: TypeAlias = tuple[Float[Array, "p t"], Float[Array, "p t"]]
"""Cosines and sines of the angles of p places, half as many as a head has channels."""


class Attention(nn.Module):
    """Let every place of `x` average what the places of `memory` have to say.

    Attributes:
        heads: In how many parts of the channels to do so, each with its own weights.
        key_bias: Add a bias to keys, which adds the same to a query's product with each of them.
    """

    heads: int
    key_bias: bool = True
    compute_dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n c"],
        memory: Float[Array, "b m d"],
        sees: Bool[Array, "b n m"] | None = None,
        turns: Turns | None = None,
        *,
        bias: Float[Array, "h n m"] | None = None,
        told: Float[Array, "b m d"] | None = None,
    ) -> Float[Array, "b n c"]:
        """Return as many channels as `x` has, in `compute_dtype`.

        Args:
            x: Who asks.
            memory: Who is asked.
            sees: Whether a place of `x` sees one of `memory`; each sees one at least. None: all do.
            turns: By which queries and keys of the last places are turned, see `rotate`.
            bias: Added to the scores of each head.
            told: What each place of `memory` says; None: `memory`.
        """
        channels = x.shape[-1]
        if channels % self.heads:
            raise ConfigError(f"{channels} channels are not a multiple of {self.heads} heads.")

        def project(name: str, tokens: jax.Array, *, shift: bool = True) -> jax.Array:
            y = dense(channels, bias=shift, **conv.dtypes_of(self), name=name)(tokens)
            return y.reshape(*y.shape[:2], self.heads, -1).swapaxes(1, 2)

        query, key = project("query", x), project("key", memory, shift=self.key_bias)
        if turns is not None:
            query, key = rotate(query, turns), rotate(key, turns)
        y = attend(query, key, project("value", memory if told is None else told), sees, bias)
        y = y.swapaxes(1, 2).reshape(x.shape)
        return dense(channels, **conv.dtypes_of(self), name="out")(y)


def attend(
    query: Float[Array, "b h n d"],
    key: Float[Array, "b h m d"],
    value: Float[Array, "b h m d"],
    sees: Bool[Array, "b n m"] | None = None,
    bias: Float[Array, "h n m"] | None = None,
) -> Float[Array, "b h n d"]:
    """Return equation 1 of the paper, `softmax(query key^T / sqrt(d)) value`, over what is seen.

    `bias` is added to the scores before the softmax.

    The softmax is in float32 at least. `jax.nn.dot_product_attention` has it in float32 at most,
    orders axes so that its gradient takes 1.5 times as long on a CPU, and on its own never picks
    a fused kernel.
    """
    scores = products.similarity(query, key) * query.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias.astype(scores.dtype)
    if sees is not None:
        scores = jnp.where(sees[:, None], scores, UNSEEN)
    shares = products.softmax(scores, dtype=str(value.dtype))
    return jnp.einsum("bhnm,bhmd->bhnd", shares, value)


def rotate(x: Float[Array, "b h n d"], turns: Turns) -> Float[Array, "b h n d"]:
    """Return `x` with its last places turned, as many as there are angles (arXiv:2104.09864).

    Channel i of the first half and of the second half of a head are a plane, turned by angle i.
    """
    cos, sin = (part.astype(x.dtype) for part in turns)
    first = x.shape[2] - cos.shape[0]
    rest, x = x[:, :, :first], x[:, :, first:]
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate(
        [rest, jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)], axis=2
    )


def dense(features: int, **options: Any) -> dense_lib.Dense:
    """Return a linear layer on channels that starts as those of transformers do."""
    return dense_lib.Dense(features, kernel_init=INIT, **options)
