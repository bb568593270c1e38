"""HED, edges of nested scales (Xie and Tu 2015, arXiv:1504.06375, figure 3)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from segjax.layers import resample
from segjax.models import base
from segjax.structs import Outputs

SIDES = 5
"""Side outputs: one on each of the encoder's finest features."""


class Model(base.EncoderDecoder):
    """Classify the pixels at five scales, enlarge, and weigh the five to one answer.

    Each side output is trained by itself, as an auxiliary head (`task.aux_weight=1` is the paper's
    equation 2); the logits are their weighted mean (equation 3), which begins as the plain one. The
    paper has one class, edge, and the task 'multilabel'. Its authors pad the image and cut the
    outputs out; here convolutions pad evenly and pooling rounds sizes up.

    Attributes:
        encoder: Section of an encoder of five strides or more; the paper's is `dict(type="vgg",
            depth=16, norm="none")`.
    """

    def decode(self, encoded: base.Encoded, *, train: bool) -> Outputs:
        """Return the fused logits at the image's size, and in training those of each side."""
        sides = [
            resample.resize(self.style.dense(self.num_classes, name=f"side{i}")(x), encoded.size)
            for i, x in enumerate(encoded.features[:SIDES])
        ]
        fuse = self.style.dense(self.num_classes, kernel_init=mean_of_sides, name="fuse")
        aux = tuple(sides) if self.has_aux(train=train) else ()
        return Outputs(fuse(jnp.concatenate(sides, axis=-1)), aux)


def mean_of_sides(key: Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike) -> Array:
    """Return the kernel [n*k k] that gives each class the mean of its n logits; `key` is unused."""
    count = shape[0] // shape[1]
    return jnp.tile(jnp.eye(shape[1], dtype=dtype), (count, 1)) / count
