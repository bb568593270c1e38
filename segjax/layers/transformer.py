"""The block of a plain transformer (Dosovitskiy et al. 2020, arXiv:2010.11929, figure 1)."""

import functools

import flax.linen as nn
import jax
from jaxtyping import Array, Bool, Float

from segjax.kernels import activations
from segjax.layers import attention, conv, style


class Block(style.Block):
    """Add self-attention and a perceptron, each normalised before and scaled after.

    Attributes:
        heads: Of the attention.
        hidden: Channels inside the perceptron.
        gated: Multiply them by the SiLU of as many others (SwiGLU, arXiv:2002.05202).
        key_bias: Add a bias to keys.
        drop_path: Rate of dropping a residual branch.
        layer_scale: What residual branches are scaled by at first (arXiv:2103.17239).
        epsilon: Added to the variance by layer norms.
    """

    heads: int
    hidden: int
    gated: bool = False
    key_bias: bool = True
    drop_path: float = 0.0
    layer_scale: float = 1e-5
    epsilon: float = 1e-6

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n c"],
        sees: Bool[Array, "b n n"] | None = None,
        turns: attention.Turns | None = None,
        *,
        train: bool,
    ) -> Float[Array, "b n c"]:
        """Return the block's tokens; `sees` and `turns` as `Attention` has them."""
        channels = x.shape[-1]
        drop = functools.partial(conv.DropPath(self.drop_path), train=train)
        norm = functools.partial(self.style.layer_norm, epsilon=self.epsilon)
        y = norm(name="norm1")(x)
        attend = attention.Attention(
            self.heads, key_bias=self.key_bias, **self.style.dtypes, name="attention"
        )
        x = x + drop(attend(y, y, sees, turns) * self.scale("scale1", channels))
        y = self.perceptron(norm(name="norm2")(x))
        return x + drop(y * self.scale("scale2", channels))

    def perceptron(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        """Return as many channels, having gone through `hidden` ones."""
        dense = functools.partial(attention.dense, **self.style.dtypes)
        y = dense(self.hidden, name="expand")(x)
        if self.gated:
            y = nn.silu(dense(self.hidden, name="gate")(x)) * y
        else:
            y = activations.gelu(y)
        return dense(x.shape[-1], name="contract")(y)

    def scale(self, name: str, channels: int) -> jax.Array:
        """Return the factors of a residual branch."""
        init = nn.initializers.constant(self.layer_scale)
        return self.param(name, init, (channels,), self.param_dtype).astype(self.compute_dtype)
