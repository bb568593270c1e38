"""SegFormer (Xie et al. 2021, arXiv:2105.15203, figure 2)."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from segjax.config import kinds
from segjax.kernels import sums
from segjax.layers import attention, resample, style
from segjax.models import base
from segjax.structs import Features, Outputs


class Model(base.EncoderDecoder):
    """Bring the features of all stages to one size by an MLP, fuse them, classify at stride 4.

    Attributes:
        encoder: Section of the encoder: `dict(type="mit", variant="b0")` to 'b5'.
        width: Channels of the decoder: 256 with B0 and B1, 768 with larger ones.
        dropout: Rate before the classifier.
    """

    width: kinds.Width = 256
    dropout: kinds.Dropped = 0.1

    def decode(self, encoded: base.Encoded, *, train: bool) -> Outputs:
        """Return logits at the stride of the encoder's finest features."""
        x = Fuse(self.width, style=self.style, name="decoder")(encoded.features)
        x = self.style.normalization(train=train, name="norm")(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(nn.relu(x))
        return Outputs(self.style.dense(self.num_classes, name="head")(x))


class Fuse(style.Block):
    """Project each stage, enlarge to the first stage's size, concatenate and project (equation 4).

    All of it is linear, so the two matrices of a stage are multiplied with each other first, and
    what is enlarged are terms of the result: the numbers of the figure's order from the figure's
    parameters, for less than a tenth of its operations.
    """

    features: int

    @nn.compact
    def __call__(self, stages: Sequence[Features]) -> Float[Array, "b ... {self.features}"]:
        """Return the sum of what the stages, finest first, contribute."""
        width, size = self.features, stages[0].shape[1:-1]
        wide = sums.widen(self.param_dtype)
        fuse = self.param("fuse", attention.INIT, (len(stages) * width, width), self.param_dtype)
        # One matrix for each stage; published ones have the coarsest first.
        matrices = jnp.split(fuse.astype(wide), len(stages))[::-1]
        total = jnp.zeros((), self.compute_dtype)
        for i, (x, matrix) in enumerate(zip(stages, matrices, strict=True)):
            kernel, bias = (
                jnp.matmul(leaf.astype(wide), matrix, precision="highest").astype(
                    self.compute_dtype
                )
                for leaf in Linear(width, style=self.style, name=f"linear{i}")(x.shape[-1])
            )
            total = total + resample.resize(x @ kernel + bias, size)
        return total


class Linear(style.Block):
    """The parameters of a linear layer, not applied."""

    features: int

    @nn.compact
    def __call__(self, channels: int) -> tuple[jax.Array, jax.Array]:
        """Return matrix and bias."""
        kernel = self.param("kernel", attention.INIT, (channels, self.features), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
        return kernel, bias
