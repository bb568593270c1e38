"""How much a U-Net costs, by arithmetic alone, and how large a one fits into a budget.

nnU-Net sizes its networks likewise: a patch as large as the median image, and axes halved as long
as there is something to halve; then the patch shrinks until a step fits into the memory, and what
is left goes into the batch (Isensee et al. 2021, supplementary note 2). Here a step has to fit into
a time on a CPU, or into the memory of an accelerator.
"""

import dataclasses
import math
from collections.abc import Sequence

SHORTEST = 32
"""Pixels of a side that models take."""
BOTTOM = 4
"""Pixels of the shortest side at the bottom, at least, as in nnU-Net."""
CONVS = 2
"""Convolutions at each resolution, on the way down and on the way up."""
CPU_SPEED = {1: 30e9, 2: 45e9, 3: 58e9}
"""FLOP/s of a core on such networks, by axes in space, of float32."""
STATE = 16
"""Bytes of a parameter: itself, its gradient and two moments, in float32."""
KEPT = 3
"""Of each convolution's output, copies that a step holds: for its norm's and its own gradient."""
ROOM = 0.85
"""Share of an accelerator's memory that a step may fill."""


@dataclasses.dataclass(frozen=True)
class Network:
    """A U-Net, `models.unet`, and what it sees.

    Attributes:
        patch: Sides of what a row of the batch shows.
        batch: Rows.
        widths: Channels at each resolution.
        stem: The first resolution is so many times coarser than the patch.
        channels: Of the images.
        classes: Of the answers.
    """

    patch: tuple[int, ...]
    batch: int
    widths: tuple[int, ...]
    stem: int
    channels: int
    classes: int

    def flops(self) -> float:
        """Return the FLOPs of a training step: three times those of a forward pass."""
        return 3 * self.batch * self.forward()

    def forward(self) -> float:
        """Return the FLOPs of convolutions of one patch, forward; an addition is one."""
        axes, total = len(self.patch), 0.0
        cells = [self._cells(level) for level in range(len(self.widths))]
        seen = self.channels
        for level, width in enumerate(self.widths):
            first = (2 * self.stem) ** axes if level == 0 and self.stem > 1 else 3**axes
            total += cells[level] * width * (seen * first + (CONVS - 1) * width * 3**axes)
            seen = width
        for level, width in enumerate(self.widths[:-1]):
            total += cells[level + 1] * self.widths[level + 1] * width * 2**axes
            total += cells[level] * width * width * 3**axes * (2 + CONVS - 1)
        return 2 * (total + cells[0] * self.widths[0] * self.classes)

    def memory(self) -> float:
        """Return about how many bytes a training step takes in bfloat16."""
        axes = len(self.patch)
        kept = sum(
            self._cells(level) * width * (2 * CONVS + 1) for level, width in enumerate(self.widths)
        )
        scores = 4 * math.prod(self.patch) * self.classes * 4
        pairs = zip((self.channels, *self.widths[:-1]), self.widths, strict=True)
        weights = sum(3**axes * (a * b + 4 * b * b) + 2**axes * a * b for a, b in pairs)
        return self.batch * (2 * KEPT * kept + scores) + STATE * weights

    def _cells(self, level: int) -> int:
        return math.prod(-(-length // (self.stem * 2**level)) for length in self.patch)


def levels(patch: Sequence[int], stem: int, most: int) -> int:
    """Return at how many resolutions a network sees a patch; 2 to `most`."""
    shortest = min(patch) / stem
    return max(2, min(most, 1 + int(math.log2(max(1.0, shortest / BOTTOM)))))


def rounded(patch: Sequence[int], unit: int) -> tuple[int, ...]:
    """Return sides that are multiples of `unit`, the next larger ones that a model takes."""
    return tuple(
        max(unit, least, -(-int(length) // unit) * unit)
        for length, least in zip(patch, _least(patch), strict=True)
    )


def _least(patch: Sequence[int]) -> list[int]:
    """Return how short sides may be: a volume's depth is free, see `models.base.check_size`."""
    return [1 if axis < len(patch) - 2 else SHORTEST for axis in range(len(patch))]


def shrunk(patch: Sequence[int], like: Sequence[int], unit: int) -> tuple[int, ...]:
    """Return a patch with the side shortened by `unit` that is the longest compared with `like`."""
    able = [axis for axis, least in enumerate(_least(patch)) if patch[axis] >= least + 2 * unit]
    if not able:
        return tuple(patch)
    axis = max(able, key=lambda axis: (patch[axis] / like[axis], patch[axis]))
    return tuple(length - unit * (place == axis) for place, length in enumerate(patch))
