"""MobileNetV3-Large (Howard et al. 2019, arXiv:1905.02244, table 1), dilatable."""

import functools
from collections.abc import Sequence
from typing import Annotated, NamedTuple

from segjax.config import kinds, rules
from segjax.encoders import base
from segjax.errors import ConfigError
from segjax.layers import mbconv, remat
from segjax.layers import norm as norm_lib
from segjax.structs import Features

MOMENTUM = 0.99


class Stage(NamedTuple):
    """Blocks of one width (table 1: #out, exp size, k, SE, NL, s of the first block)."""

    channels: int
    expanded: tuple[int, ...]
    kernel: int
    squeezes: bool
    activation: str
    stride: int


STAGES = (
    Stage(16, (16,), 3, False, "relu", 1),
    Stage(24, (64, 72), 3, False, "relu", 2),
    Stage(40, (72, 120, 120), 5, True, "relu", 2),
    Stage(80, (240, 200, 184, 184), 3, False, "hard_swish", 2),
    Stage(112, (480, 672), 3, True, "hard_swish", 1),
    Stage(160, (672, 960, 960), 5, True, "hard_swish", 2),
)


class Encoder(base.Dilated):
    """Return features at strides 2, 4, 8, 16 and 32, or at `output_stride` at most by dilation.

    The last are those of the 1x1 convolution to six times the channels (960), behind which the
    classifier would pool.

    Attributes:
        width: Factor of all channels, which stay multiples of 8.
        depths: Blocks of each of the six widths, where fewer than the paper's.
        first_blocks: Return the features of the first block at each stride, and of the stem, as
            torchvision's LRASPP and DeepLab take them; otherwise of the last block, as timm.
        norm: A name in `norm.NORMS`.
        epsilon: Added to the variance by `norm`: the paper's and torchvision's; timm's is 1e-5.
    """

    width: kinds.Factor = 1.0
    depths: Annotated[Sequence[kinds.Depth], rules.empty_or(len(STAGES))] = ()
    first_blocks: bool = False
    norm: norm_lib.Norm = "batch"
    epsilon: kinds.Epsilon = 1e-3

    def encode(self, x: Features, *, train: bool) -> tuple[Features, ...]:
        """Return one feature map a stride, finest first."""
        statistics = {"epsilon": self.epsilon, "momentum": MOMENTUM}
        conv = functools.partial(self.style.conv, activation="hard_swish", **statistics)
        block = functools.partial(
            remat.remat(mbconv.InvertedResidual, self.remat), gate="hard_sigmoid", norm=self.norm,
            **statistics, **self.style.dtypes,
        )  # fmt: skip
        x = conv(mbconv.divisible(16 * self.width), stride=2, name="stem")(x, train=train)
        first, last, reached, dilation = [x], [], 2, 1
        for i, stage in enumerate(STAGES):
            stride = stage.stride
            if stride == 2:
                last.append(x)
                reached *= 2
            if reached > self.output_stride and stride == 2:
                stride, dilation = 1, 2 * dilation
            count = self.depths[i] if self.depths else len(stage.expanded)
            for j, expanded in enumerate(stage.expanded[:count]):
                wide = mbconv.divisible(expanded * self.width)
                x = block(
                    mbconv.divisible(stage.channels * self.width),
                    expanded=wide,
                    kernel=stage.kernel,
                    stride=stride if j == 0 else 1,
                    dilation=dilation,
                    squeeze=mbconv.divisible(wide // 4) if stage.squeezes else 0,
                    activation=stage.activation,
                    name=f"stage{i}_{j}",
                )(x, train=train)
                if j == 0 and stage.stride == 2:
                    first.append(x)
        x = conv(6 * x.shape[-1], kernel=1, name="last")(x, train=train)
        return (*(first[:4] if self.first_blocks else last), x)

    def check(self) -> None:
        """Raise `ConfigError` for fields that make no MobileNetV3."""
        super().check()
        most = [len(stage.expanded) for stage in STAGES]
        if any(depth > full for depth, full in zip(self.depths, most, strict=False)):
            raise ConfigError(
                f"encoder.depths={tuple(self.depths)}: expected at most {most}, the paper's."
            )
