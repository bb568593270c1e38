"""Attention U-Net (Oktay et al. 2018, arXiv:1804.03999, figures 1 and 2), in any dimension."""

import flax.linen as nn
from jaxtyping import Array, Float

from segjax.layers import conv, dense, remat, resample
from segjax.models import unet
from segjax.structs import Features


class Model(unet.Model):
    """A U-Net whose coarser features say which pixels of each skip to hand across (figure 1).

    The finest skip passes as it is: its features are too low-level to be asked (section 2, and the
    authors' code). Fields are those of `unet.Model`.
    """

    def hand_across(self, skip: Features, coarse: Features, *, level: int) -> Features:
        """Return `skip`, gated by the `coarse` features from below unless it is the finest."""
        if level == 0:
            return skip
        gate = remat.remat(Gate, self.remat)
        return skip * gate(**conv.dtypes_of(self), name=f"gate{level}")((skip, coarse), True)


class Gate(nn.Module):
    """Weigh the pixels of a skip by additive attention (figure 2, equations 1 and 2).

    Works at the coarse resolution, with as many intermediate channels as the skip has; the grid of
    coefficients is enlarged (bi-, tri-)linearly.
    """

    compute_dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: tuple[Features, Features], train: bool) -> Float[Array, "b ... 1"]:
        """Return coefficients between 0 and 1 for the first of `x`, the second being coarser."""
        skip, coarse = x
        size, dtypes = skip.shape[1:-1], conv.dtypes_of(self)
        features = skip.shape[-1]
        seen = conv.Conv(
            features, kernel=2, stride=2, padding=[(0, n % 2) for n in size], bias=False,
            **dtypes, name="skip",
        )(skip)  # fmt: skip
        asked = dense.Dense(features, **dtypes, name="coarse")(coarse)
        attention = nn.sigmoid(dense.Dense(1, **dtypes, name="attention")(nn.relu(seen + asked)))
        return resample.crop(resample.upsample(attention, factor=2), size)
