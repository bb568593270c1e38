"""SegFormer (Xie et al. 2021, arXiv:2105.15203, figure 2)."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from segjax import encoders
from segjax.kernels import sums
from segjax.layers import attention, conv, dense, resample
from segjax.layers import norm as norm_lib
from segjax.structs import Features, Outputs


class Model(nn.Module):
    """Bring the features of all stages to one size by an MLP, fuse them, classify at stride 4.

    Attributes:
        num_classes: Channels of the logits.
        encoder: Section of the encoder: `dict(type="mit", variant="b0")` to 'b5'.
        width: Channels of the decoder: 256 with B0 and B1, 768 with larger ones.
        dropout: Rate before the classifier.
        norm: A name in `norm.NORMS`, for the decoder.
        remat: A name in `remat.POLICIES`, for the encoder's blocks.
        compute_dtype: Of features and logits.
        param_dtype: Of parameters.
    """

    num_classes: int
    encoder: Mapping[str, Any]
    width: int = 256
    dropout: float = 0.1
    norm: str = "batch"
    remat: str = "none"
    compute_dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, image: Float[Array, "b h w _"], *, train: bool) -> Outputs:
        """Return logits [b h w num_classes] in `compute_dtype`.

        Raises:
            ConfigError: A side below 32 pixels.
        """
        size = image.shape[1:-1]
        conv.check_size(size, model="segformer")
        dtypes = conv.dtypes_of(self)
        encoder = encoders.build(self)
        x = Fuse(self.width, **dtypes, name="decoder")(encoder(image, train=train))
        x = norm_lib.make_norm(self.norm, train=train, param_dtype=self.param_dtype, name="norm")(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(nn.relu(x))
        logits = dense.Dense(self.num_classes, **dtypes, name="head")(x)
        return Outputs(resample.resize(logits, size))


class Fuse(nn.Module):
    """Project each stage, enlarge to the first stage's size, concatenate and project (equation 4).

    All of it is linear, so the two matrices of a stage are multiplied with each other first, and
    what is enlarged are terms of the result: the numbers of the figure's order from the figure's
    parameters, for less than a tenth of its operations.
    """

    features: int
    compute_dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, stages: Sequence[Features]) -> Float[Array, "b h w {self.features}"]:
        """Return the sum of what the stages, finest first, contribute."""
        width, size = self.features, stages[0].shape[1:-1]
        wide = sums.widen(self.param_dtype)
        fuse = self.param("fuse", attention.INIT, (len(stages) * width, width), self.param_dtype)
        parts = jnp.split(fuse.astype(wide), len(stages))[::-1]  # published coarsest first
        total = jnp.zeros((), self.compute_dtype)
        for i, (x, part) in enumerate(zip(stages, parts, strict=True)):
            kernel, bias = (
                jnp.matmul(leaf.astype(wide), part, precision="highest").astype(self.compute_dtype)
                for leaf in Linear(width, self.param_dtype, name=f"linear{i}")(x.shape[-1])
            )
            total = total + resample.resize(x @ kernel + bias, size)
        return total


class Linear(nn.Module):
    """Hold the parameters of a linear layer."""

    features: int
    param_dtype: str

    @nn.compact
    def __call__(self, channels: int) -> tuple[jax.Array, jax.Array]:
        """Return matrix and bias."""
        kernel = self.param("kernel", attention.INIT, (channels, self.features), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
        return kernel, bias
