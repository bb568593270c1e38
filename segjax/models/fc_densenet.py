"""FC-DenseNet (Jégou et al. 2017, arXiv:1611.09326, figure 1, tables 1 and 2)."""

import functools
from collections.abc import Sequence
from typing import Annotated

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from segjax.config import kinds, rules
from segjax.errors import ConfigError
from segjax.kernels import resize
from segjax.layers import resample, style
from segjax.models import base
from segjax.structs import Features, Outputs


class Model(base.Segmenter):
    """Dense blocks down and up, where every layer sees all that came before it in its block.

    FC-DenseNet103 is the default; FC-DenseNet56 has `layers=(4,) * 11` and `growth=12`,
    FC-DenseNet67 `layers=(5,) * 11`. Sizes are halved rounding up, where the authors round down.

    Memory is what these networks need most: without `remat` each layer keeps its own normalised
    copy of everything before it. 'convs' keeps the new features alone, for a little more time.

    Attributes:
        layers: Layers of each dense block, from the first on the way down to the last on the way
            up: an odd number of blocks, the bottleneck in the middle.
        growth: Channels that each layer adds.
        stem_width: Channels of the first convolution.
        dropout: Rate after every convolution but the first, the last and those of the way up.
        remat: A name in `remat.POLICIES`; the blocks are the layers and transitions.
    """

    layers: Annotated[Sequence[kinds.Depth], rules.length(1, 31)] = (
        4,
        5,
        7,
        10,
        12,
        15,
        12,
        10,
        7,
        5,
        4,
    )
    growth: kinds.Width = 16
    stem_width: kinds.Width = 48
    dropout: kinds.Dropped = 0.2

    def check(self) -> None:
        """Raise `ConfigError` for an even number of blocks, or a field out of range."""
        super().check()
        if len(self.layers) % 2 == 0:
            raise ConfigError(
                f"config.model.layers={tuple(self.layers)}: expected an odd number of blocks, the "
                "bottleneck in the middle."
            )

    def segment(self, x: Features, *, train: bool) -> Outputs:
        """Return logits at the size of `x`."""
        unit = functools.partial(self.style.block(Unit), dropout=self.dropout)
        stem = self.style.conv(self.stem_width, norm="none", activation="none", name="stem")
        stack, skips = (stem(x, train=train),), []
        pools, new = len(self.layers) // 2, ()
        for block, layers in enumerate(self.layers):
            if block > pools:
                skip = skips.pop()
                up = TransitionUp(
                    self.growth * len(new),
                    size=skip[0].shape[1:-1],
                    style=self.style,
                    name=f"up{block}",
                )
                stack = (up(jnp.concatenate(new, axis=-1)), *skip)
            new = ()
            for i in range(layers):
                layer = unit(self.growth, name=f"block{block}_{i}")
                new += (layer(*stack, *new, train=train),)
            if block < pools:
                skips.append(stack + new)
                width = sum(y.shape[-1] for y in skips[-1])
                down = unit(width, kernel=1, name=f"down{block}")
                stack = (resample.max_pool(down(*skips[-1], train=train)),)
        x = jnp.concatenate(stack + new, axis=-1)
        return Outputs(self.style.dense(self.num_classes, name="head")(x))


class Unit(style.Block):
    """Normalise, activate, convolve, drop (table 1, left); with `kernel=1` a transition down.

    Concatenation is part of the unit so that remat need not keep its result.
    """

    features: int
    dropout: float
    kernel: int = 3

    @nn.compact
    def __call__(self, *x: Features, train: bool) -> Float[Array, "b ... {self.features}"]:
        """Return the new features, without those they are made of."""
        y = self.style.normalization(train=train, name="norm")(jnp.concatenate(x, axis=-1))
        y = self.style.plain_conv(self.features, self.kernel, name="conv")(nn.relu(y))
        return nn.Dropout(self.dropout, deterministic=not train)(y)


class TransitionUp(style.Block):
    """Double every spatial axis by a transposed convolution, windows of 3 and stride 2.

    Neighbouring windows share one row, so an even place sums two taps and an odd one has its own:
    one matrix product for the taps of all windows, one shifted sum an axis, and a rearrangement.
    `kernel[i, j]` makes the pixels at offset (i, j), as in PyTorch. Of the last window only what
    lies inside `size` is kept, as by the authors' centred crop of an even size.
    """

    features: int
    size: Sequence[int]

    @nn.compact
    def __call__(self, x: Features) -> Float[Array, "b ... {self.features}"]:
        """Return the enlarged features in `compute_dtype`."""
        spatial = x.ndim - 2
        shape = (*(3,) * spatial, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
        flat = kernel.astype(self.compute_dtype).reshape(-1, *shape[-2:])
        y = jnp.einsum("b...c,pck->b...pk", x.astype(self.compute_dtype), flat)
        y = y.reshape(*x.shape[:-1], *shape[:spatial], self.features)
        for axis in range(1, 1 + spatial):
            first, centre, last = (
                lax.index_in_dim(y, i, axis + spatial, keepdims=False) for i in range(3)
            )
            even = first + resize.shift(last, 1, axis=axis)
            y = jnp.stack([even, centre], axis + spatial)
        y = resample.crop(resample.depth_to_space(y), self.size)
        return y + bias.astype(self.compute_dtype)
