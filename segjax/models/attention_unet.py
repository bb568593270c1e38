"""Attention U-Net (Oktay et al. 2018, arXiv:1804.03999, figures 1 and 2), in any dimension."""

import flax.linen as nn
from jaxtyping import Array, Float

from segjax.layers import resample, style
from segjax.models import unet
from segjax.structs import Features


class Model(unet.Model):
    """Gate the skip connections of a U-Net by attention from the coarser features (figure 1).

    The finest skip is not gated: its features are too low-level (section 2, and the authors'
    code). Fields are those of `unet.Model`.
    """

    def gate_skip(self, skip: Features, coarse: Features, *, level: int) -> Features:
        """Return `skip`, gated by the `coarse` features from below unless it is the finest."""
        if level == 0:
            return skip
        gate = self.style.block(Gate)(name=f"gate{level}")
        return skip * gate(skip, coarse)


class Gate(style.Block):
    """Weigh the pixels of a skip by additive attention (figure 2, equations 1 and 2).

    Works at the coarse resolution, with as many intermediate channels as the skip has; the grid of
    coefficients is enlarged (bi-, tri-)linearly.
    """

    @nn.compact
    def __call__(self, skip: Features, coarse: Features) -> Float[Array, "b ... 1"]:
        """Return coefficients between 0 and 1 for the pixels of `skip`."""
        size, features = skip.shape[1:-1], skip.shape[-1]
        seen = self.style.plain_conv(
            features, kernel=2, stride=2, padding=[(0, n % 2) for n in size], bias=False,
            name="skip",
        )(skip)  # fmt: skip
        asked = self.style.dense(features, name="coarse")(coarse)
        attention = self.style.dense(1, name="attention")(nn.relu(seen + asked))
        attention = nn.sigmoid(attention)
        return resample.crop(resample.upsample(attention, factor=2), size)
