"""A linear classifier on an encoder's features, as DINOv2 is judged by (arXiv:2304.07193, 7.4)."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from segjax import encoders
from segjax.layers import conv, dense, resample
from segjax.layers import norm as norm_lib
from segjax.structs import Outputs


class Model(nn.Module):
    """Concatenate the encoder's features at the finest one's size, normalise, classify, enlarge.

    The paper's are `dict(type="vit", variant="s")`, frozen, and with `layers=(-4, -3, -2, -1)` its
    "+ms" without the image at several scales.

    Attributes:
        num_classes: Channels of the logits.
        encoder: Section of the encoder.
        dropout: Rate of whole channels before the classifier.
        norm: A name in `norm.NORMS`, before the classifier.
        remat: A name in `remat.POLICIES`, for the encoder's blocks.
        compute_dtype: Of features and logits.
        param_dtype: Of parameters.
    """

    num_classes: int
    encoder: Mapping[str, Any]
    dropout: float = 0.0
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
        conv.check_size(size, model="linear")
        dtypes = conv.dtypes_of(self)
        encoder = encoders.build(self)
        features = encoder(image, train=train)
        finest = features[0].shape[1:-1]
        x = jnp.concatenate([resample.resize(y, finest) for y in features], axis=-1)
        x = norm_lib.make_norm(self.norm, train=train, param_dtype=self.param_dtype, name="norm")(x)
        x = nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(x)
        logits = dense.Dense(self.num_classes, **dtypes, name="head")(x)
        return Outputs(resample.resize(logits, size))
