"""EfficientNet (Tan and Le 2019, arXiv:1905.11946, table 1 and equation 3) and -Lite, dilatable."""

import functools
import math
from typing import Annotated, NamedTuple

from segjax.config import kinds, rules
from segjax.encoders import base
from segjax.layers import conv, mbconv, remat
from segjax.layers import norm as norm_lib
from segjax.structs import Features


class Stage(NamedTuple):
    """Blocks of one width, before scaling (table 1)."""

    channels: int
    blocks: int
    expansion: int
    kernel: int
    stride: int


STAGES = (
    Stage(16, 1, 1, 3, 1),
    Stage(24, 2, 6, 3, 2),
    Stage(40, 2, 6, 5, 2),
    Stage(80, 3, 6, 3, 2),
    Stage(112, 3, 6, 5, 1),
    Stage(192, 4, 6, 5, 2),
    Stage(320, 1, 6, 3, 1),
)
STEM = 32
"""Channels of the first convolution, before scaling."""


class Variant(NamedTuple):
    """How a network differs from the smallest.

    Attributes:
        width: Factor of channels.
        depth: Factor of the number of blocks.
        size: Side of the images that it was published for.
        lite: ReLU6 in place of SiLU, channels not weighed, and the stem and the first and last
            stage as in the smallest (the authors' `lite/efficientnet_lite_builder.py`).
    """

    width: float
    depth: float
    size: int
    lite: bool = False


VARIANTS = {
    "b0": Variant(1.0, 1.0, 224),
    "b1": Variant(1.0, 1.1, 240),
    "b2": Variant(1.1, 1.2, 260),
    "b3": Variant(1.2, 1.4, 300),
    "b4": Variant(1.4, 1.8, 380),
    "b5": Variant(1.6, 2.2, 456),
    "b6": Variant(1.8, 2.6, 528),
    "b7": Variant(2.0, 3.1, 600),
    "lite0": Variant(1.0, 1.0, 224, lite=True),
    "lite1": Variant(1.0, 1.1, 240, lite=True),
    "lite2": Variant(1.1, 1.2, 260, lite=True),
    "lite3": Variant(1.2, 1.4, 280, lite=True),
    "lite4": Variant(1.4, 1.8, 300, lite=True),
}
PADDINGS = ("even", "same", "published")


class Encoder(base.Dilated):
    """Return features at strides 2, 4, 8, 16 and 32, or at `output_stride` at most by dilation.

    They are those of the last block at each stride; the 1x1 convolution of the classifier is left
    out. What differs between the publishers of weights are three fields:

    - torchvision and timm's own: as they stand, `epsilon=1e-3` for torchvision's 'b5' to 'b7';
    - timm's `tf_efficientnet_*`: `padding="same", epsilon=1e-3`;
    - segmentation_models.pytorch and EfficientNet-PyTorch: `padding="published", epsilon=1e-3`, and
      in the former's U-Net `stem_skip=True`.

    Attributes:
        variant: 'b0' to 'b7', or 'lite0' to 'lite4'.
        width: Factor of all channels, which stay multiples of 8, where not the variant's.
        depth: Factor of the number of blocks, where not the variant's.
        padding: Zeros around a strided convolution: 'even', as many before as behind; 'same', as
            TensorFlow, as few as each image's size needs, the odd one behind; 'published', before
            as many as 'same' has for images of the variant's size, whatever the image.
        epsilon: Added to the variance by `norm`.
        stem_skip: Return the stem's features at stride 2, not those of the last block there.
        drop_path: Rate of stochastic depth, which a block has as its share of those before it.
        norm: A name in `norm.NORMS`.
    """

    variant: Annotated[str, rules.one_of(*VARIANTS)] = "b0"
    width: kinds.Factor | None = None
    depth: kinds.Factor | None = None
    padding: Annotated[str, rules.one_of(*PADDINGS)] = "even"
    epsilon: kinds.Epsilon = 1e-5
    stem_skip: bool = False
    drop_path: kinds.Dropped = 0.2
    norm: norm_lib.Norm = "batch"

    def encode(self, x: Features, *, train: bool) -> tuple[Features, ...]:
        """Return one feature map a stride, finest first."""
        own = VARIANTS[self.variant]
        width, activation = self.width or own.width, "relu6" if own.lite else "silu"
        block = functools.partial(
            remat.remat(mbconv.InvertedResidual, self.remat), activation=activation,
            squeeze_activation=activation, norm=self.norm, epsilon=self.epsilon,
            **self.style.dtypes,
        )  # fmt: skip
        stem = self.style.conv(
            STEM if own.lite else mbconv.divisible(STEM * width), stride=2, epsilon=self.epsilon,
            padding=self.pad(x, own.size, kernel=3, stride=2), activation=activation, name="stem",
        )  # fmt: skip
        x = first = stem(x, train=train)
        counts = block_counts(self.variant, self.depth)
        features, reached, dilation, size = [], 2, 1, halved(own.size)
        for i, stage in enumerate(STAGES):
            stride = stage.stride
            if stride == 2:
                features.append(first if self.stem_skip and not features else x)
                reached *= 2
            if reached > self.output_stride and stride == 2:
                stride, dilation = 1, 2 * dilation
            for j in range(counts[i]):
                window = {"kernel": stage.kernel, "stride": stride if j == 0 else 1}
                x = block(
                    mbconv.divisible(stage.channels * width),
                    expanded=mbconv.divisible(stage.expansion * x.shape[-1]),
                    padding=self.pad(x, size, **window) if dilation == 1 else None,
                    dilation=dilation,
                    squeeze=0 if own.lite else max(1, x.shape[-1] // 4),
                    drop_path=self.drop_path * (sum(counts[:i]) + j) / sum(counts),
                    name=f"stage{i}_{j}",
                    **window,
                )(x, train=train)
                size = halved(size) if j == 0 and stage.stride == 2 else size
        return (*features, x)

    def pad(self, x: Features, published: int, *, kernel: int, stride: int) -> conv.Padding | None:
        """Return the zeros before and behind each axis of `x`, None for as many on both sides.

        Together they are one less than the kernel, so that sizes are halved and rounded up; those
        behind that no window reaches change nothing.

        Args:
            x: What is convolved.
            published: Its side where the image has the variant's size.
            kernel: Window.
            stride: Of the convolution.
        """
        if self.padding == "even" or stride == 1:
            return None
        sizes = x.shape[1:-1] if self.padding == "same" else [published] * (x.ndim - 2)
        before = [zeros(length, kernel=kernel, stride=stride) // 2 for length in sizes]
        return [(low, kernel - 1 - low) for low in before]


def block_counts(variant: str, depth: float | None = None) -> list[int]:
    """Return how many blocks each stage has; `depth` is their factor where not the variant's."""
    own = VARIANTS[variant]
    fixed = (0, len(STAGES) - 1) if own.lite else ()
    return [
        stage.blocks if i in fixed else math.ceil(stage.blocks * (depth or own.depth))
        for i, stage in enumerate(STAGES)
    ]


def zeros(length: int, *, kernel: int, stride: int) -> int:
    """Return the fewest zeros around `length` samples that make ceil(length / stride) of them."""
    return max(0, (-(-length // stride) - 1) * stride + kernel - length)


def halved(length: int) -> int:
    """Return half a length, rounded up."""
    return -(-length // 2)
