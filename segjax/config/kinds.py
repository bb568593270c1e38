"""Kinds of arguments that many parts have, each with its range. Never imports jax.

An argument that a config may give says at itself what it takes: a plain type, or `Annotated` with
the `rules.Rule` that it keeps. `lookup` checks every value against it before anything is built.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypeAlias

from segjax.config import rules


class Builds(NamedTuple):
    """Says of a section that it names a part of its own, which is checked along.

    Attributes:
        package: Where its `type` is looked up.
        given: Arguments that the program supplies.
    """

    package: str
    given: tuple[str, ...] = ()


Real: TypeAlias = float | int
AnyNumber: TypeAlias = Annotated[Real, rules.ANY]
"""Any number: its sign and size are the user's own."""
AnyWhole: TypeAlias = Annotated[int, rules.whole(-rules.MANY)]
"""Any integer that int32 holds."""
NotNegative: TypeAlias = Annotated[Real, rules.number(0)]
Positive: TypeAlias = Annotated[Real, rules.number(0, open_ends="low")]
Probability: TypeAlias = Annotated[Real, rules.number(0, 1)]
Decay: TypeAlias = Annotated[Real, rules.number(0, 1, open_ends="high")]
"""The share that a running mean keeps; all of it would be no mean."""
Dropped: TypeAlias = Annotated[Real, rules.number(0, 1, open_ends="high")]
"""The share that dropout or stochastic depth drops; all of it would leave nothing."""
Epsilon: TypeAlias = Annotated[Real, rules.number(1e-30, 1)]
"""Added below a fraction so that it stays finite."""
Factor: TypeAlias = Annotated[Real, rules.number(0, 16, open_ends="low")]
"""Of a network's width or depth."""

Count: TypeAlias = Annotated[int, rules.whole(0)]
Width: TypeAlias = Annotated[int, rules.whole(1, 2**16)]
"""Channels."""
WidthOrNone: TypeAlias = Annotated[int, rules.whole(0, 2**16)]
"""Channels; 0 leaves out what would have them."""
Depth: TypeAlias = Annotated[int, rules.whole(1, 64)]
"""Layers or blocks, one after the other."""
DepthOrNone: TypeAlias = Annotated[int, rules.whole(0, 64)]
Dilation: TypeAlias = Annotated[int, rules.whole(1, 1024)]
Window: TypeAlias = Annotated[int, rules.odd(1, 63)]
"""Of a convolution that keeps the size, so it has a centre."""
Index: TypeAlias = Annotated[int, rules.whole(-256, 255)]
"""Of a network's features or blocks; a negative one counts from the last."""
Widths: TypeAlias = Annotated[Sequence[Width], rules.length(1, 16)]
Bins: TypeAlias = Annotated[Sequence[Annotated[int, rules.whole(1, 64)]], rules.length(1, 16)]
"""Cells along each side of grids."""
Stages: TypeAlias = Annotated[Sequence[Width], rules.empty_or(4)]
"""Channels of four stages; none: the variant's."""
Depths: TypeAlias = Annotated[Sequence[DepthOrNone], rules.empty_or(4)]

Threads: TypeAlias = Annotated[int, rules.whole(0, 1024)]
Side: TypeAlias = Annotated[int, rules.whole(1, rules.SIDE)]
"""Of an image, in pixels."""
Dtype: TypeAlias = Annotated[str, rules.one_of("float32", "bfloat16", "float16", "float64")]
PixelType: TypeAlias = Annotated[str, rules.one_of("uint8", "uint16", "int16", "float32")]
PixelTypeOrAny: TypeAlias = Annotated[str, rules.one_of("", "uint8", "uint16", "int16", "float32")]
Section: TypeAlias = Mapping[str, Any]
"""A section with a `type`."""
EncoderSection: TypeAlias = Annotated[
    Section, Builds("encoders", ("remat", "compute_dtype", "param_dtype", "name"))
]
