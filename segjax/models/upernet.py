"""UPerNet (Xiao et al. 2018, arXiv:1807.10221, figure 4) for semantic segmentation."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from segjax import encoders
from segjax.errors import ConfigError
from segjax.kernels import resize
from segjax.layers import conv, dense, resample
from segjax.layers import norm as norm_lib
from segjax.structs import Features, Outputs


class Model(nn.Module):
    """Pool the coarsest features over grids, add them on to finer ones, fuse all levels.

    The paper's pyramid pooling module and feature pyramid network, and an auxiliary head on the
    features before the coarsest, as OpenMMLab and Hugging Face have them.

    Attributes:
        num_classes: Channels of the logits.
        encoder: Section of an encoder with at least four features; the last four are used.
        width: Channels of all levels.
        bins: Cells along each side of the grids.
        aux_width: Channels of the auxiliary head, which works while training; 0: no such head.
        feature_norm: A name in `norm.NORMS`, for the encoder's features: 'layer' with ConvNeXt.
        norm: A name in `norm.NORMS`, for the heads; the encoder has its own.
        remat: A name in `remat.POLICIES`, for the encoder's blocks.
        compute_dtype: Of features and logits.
        param_dtype: Of parameters.
    """

    num_classes: int
    encoder: Mapping[str, Any]
    width: int = 512
    bins: Sequence[int] = (1, 2, 3, 6)
    aux_width: int = 256
    feature_norm: str = "none"
    norm: str = "batch"
    remat: str = "none"
    compute_dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, image: Float[Array, "b h w _"], *, train: bool) -> Outputs:
        """Return logits [b h w num_classes] in `compute_dtype`.

        Raises:
            ConfigError: A side below 32 pixels, or an encoder with fewer than four features.
        """
        size = image.shape[1:-1]
        conv.check_size(size, model="upernet")
        dtypes = conv.dtypes_of(self)
        encoder = encoders.build(self)
        features = encoder(image, train=train)[-4:]
        if len(features) < 4:
            raise ConfigError(
                f"config.model.encoder: got {len(features)} features, upernet needs 4."
            )
        features = [self.normalize(x, i, train=train) for i, x in enumerate(features)]
        unit = functools.partial(conv.ConvNormAct, norm=self.norm, **dtypes)
        x = self.top_down(features, functools.partial(unit, self.width), train=train)
        logits = [dense.Dense(self.num_classes, **dtypes, name="head")(x)]
        if self.aux_width and (train or self.is_initializing()):
            x = unit(self.aux_width, name="aux_conv")(features[-2], train=train)
            logits.append(dense.Dense(self.num_classes, **dtypes, name="aux_head")(x))
        main, *aux = [resample.resize(x, size) for x in logits]
        return Outputs(main, tuple(aux) if train else ())

    def normalize(self, x: Features, index: int, *, train: bool) -> Features:
        """Return features of the encoder, normalised by `feature_norm`."""
        return norm_lib.make_norm(
            self.feature_norm, train=train, epsilon=1e-6, param_dtype=self.param_dtype,
            name=f"feature_norm{index}",
        )(x)  # fmt: skip

    def top_down(self, features: Sequence[Features], unit: Any, *, train: bool) -> Features:
        """Return the levels, each with all coarser ones added, fused at the finest one's size."""
        *finer, coarsest = features
        levels = [self.pyramid(coarsest, unit, train=train)]
        for i, x in reversed(list(enumerate(finer))):
            x = unit(kernel=1, name=f"lateral{i}")(x, train=train)
            levels.insert(0, x + resample.resize(levels[0], x.shape[1:-1]))
        for i in range(len(finer)):
            levels[i] = unit(name=f"smooth{i}")(levels[i], train=train)
        levels = [resample.resize(x, levels[0].shape[1:-1]) for x in levels]
        return unit(name="fuse")(jnp.concatenate(levels, axis=-1), train=train)

    def pyramid(self, x: Features, unit: Any, *, train: bool) -> Features:
        """Return `x` fused with its means over grids of several sizes."""
        levels = [x]
        for i, bins in enumerate(self.bins):
            mean = resample.adaptive_avg_pool(x, (bins, bins))
            y = unit(kernel=1, name=f"level{i}")(mean, train=train)
            for axis in (1, 2):
                # As products whatever the factor: every shard of rows holds all the few cells.
                weights = resample.interpolation(
                    bins, x.shape[axis], method="bilinear", align_corners=False
                )
                y = resize.matrix(y, weights, axis=axis)
            levels.append(y)
        return unit(name="bottleneck")(jnp.concatenate(levels, axis=-1), train=train)
