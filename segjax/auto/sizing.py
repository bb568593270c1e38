"""What the network sees at a time and how wide it is, by the budget that there is for a step."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

from segjax.audit.fingerprint import Fingerprint
from segjax.auto import network
from segjax.auto.network import Network

SECONDS = {1: 0.4, 2: 0.4, 3: 0.5}
"""Of a step on a CPU, by axes in space: short enough for a thousand of them in some minutes."""
ROWS = {1: 16, 2: 8, 3: 2}
"""Of a batch, at least, by axes in space, on a CPU at most twice as many. nnU-Net has 2 of volumes,
and normalises each by itself: the statistics of pictures here are of the batch."""
CPU_LEVELS, GPU_LEVELS = 4, {1: 6, 2: 7, 3: 6}
WIDEST = {1: 512, 2: 512, 3: 320}
"""Channels at the bottom, at most, as nnU-Net's."""
WIDTH = {1: 16, 2: 16, 3: 16}
"""Channels at the first resolution on a CPU, twice as many with a stem of 4."""
COARSE, MANY = 10.0, 4
"""Pixels that regions are wide, and more classes than which, where a stem of 4 loses nothing."""
MARGIN = 6.0
"""So many times as many pixels as a patch has an image may have, to be seen at its own scale."""
THIN = 3.0
"""Pixels that regions should keep where images are scaled down (two would be lost)."""
SHARE = 0.05
"""Of a data set's pixels that a batch may see, as in nnU-Net."""


class Budget(NamedTuple):
    """What a training may take.

    Attributes:
        minutes: On a CPU, all in all.
        cores: Of that CPU.
        gpu_gb: Gigabytes of an accelerator's memory; 0: there is none.
    """

    minutes: float
    cores: int
    gpu_gb: float = 0.0

    def flops(self, dims: int) -> float:
        """Return the FLOP/s that the CPU is taken to reach."""
        return self.cores * network.CPU_SPEED[dims]


class Sizes(NamedTuple):
    """What is decided of sizes.

    Attributes:
        net: The network and its patch.
        canvas: What images are brought to before a patch is cut out of them.
        fit: How, see `data.fit`.
        factor: What images are scaled by first, as volumes by their spacing and pictures by `fit`.
        seen: The median size of images after it.
    """

    net: Network
    canvas: tuple[int, ...]
    fit: str
    factor: tuple[float, ...]
    seen: tuple[int, ...]


def choose(found: Fingerprint, budget: Budget, *, spacing: Sequence[float]) -> Sizes:
    """Return the sizes for a data set within a budget.

    Args:
        found: What the data is like.
        budget: What a training may take.
        spacing: To which images are brought before all else; empty: they stay as they are.
    """
    factor = (1.0,) * found.dims
    if spacing:
        factor = tuple(own / new for own, new in zip(found.spacing, spacing, strict=True))
    seen = _times(found.size, factor)
    net = fitted(found, budget, seen)
    area, whole = math.prod(net.patch), math.prod(seen)
    if not spacing and found.dims == 2 and whole > MARGIN * area:
        down = max(math.sqrt(4 * area / whole), min(1.0, THIN / max(typical_width(found), 1e-6)))
        if down < 1:
            seen = _times(found.size, (down, down))
            return Sizes(net, network.rounded(seen, 8), "resize", (down, down), seen)
    if found.same_size and not spacing and found.dims < 3:
        return Sizes(net, found.size, "pad", factor, seen)
    return Sizes(net, net.patch, "window", factor, seen)


def fitted(found: Fingerprint, budget: Budget, seen: Sequence[int]) -> Network:
    """Return the network whose patch is the largest of which a step fits into the budget."""
    dims, stem = found.dims, stem_of(found, budget)
    most = GPU_LEVELS[dims] if budget.gpu_gb else CPU_LEVELS
    levels = network.levels(seen, stem, most)
    unit = stem * 2 ** (levels - 1)
    net = Network(
        network.rounded(seen, unit), ROWS[dims],
        widths_of(dims, levels, stem, budget), stem, found.channels, len(found.class_names),
    )  # fmt: skip
    while not fits(net, budget):
        patch = network.shrunk(net.patch, seen, unit)
        if patch == net.patch:
            break
        net = dataclasses.replace(net, patch=patch)
    rows = 2 * net.batch
    if budget.gpu_gb:
        rows = int(SHARE * found.examples * math.prod(seen) / math.prod(net.patch))
    while net.batch < rows and fits(dataclasses.replace(net, batch=net.batch + 1), budget):
        net = dataclasses.replace(net, batch=net.batch + 1)
    return dataclasses.replace(net, batch=_even(net.batch))


def _even(batch: int) -> int:
    """Return a batch of a number of rows that devices and parts of it can share."""
    return batch // 8 * 8 if batch >= 8 else batch // 2 * 2 or 1


def fits(net: Network, budget: Budget) -> bool:
    """Return whether a step of a network fits into the budget."""
    if budget.gpu_gb:
        return net.memory() <= network.ROOM * budget.gpu_gb * 1e9
    dims = len(net.patch)
    return net.flops() <= SECONDS[dims] * budget.flops(dims)


def stem_of(found: Fingerprint, budget: Budget) -> int:
    """Return at how much coarser a resolution the network begins; 1 but for pictures on a CPU.

    A half or a quarter costs a network of as many channels a fourth or a sixteenth. Of a few
    classes outlines decide the score; where many are to be told apart, it is channels that tell.
    """
    if budget.gpu_gb or found.dims != 2:
        return 1
    width = typical_width(found)
    if width < THIN:
        return 1
    return 2 if len(found.class_names) <= MANY or width < COARSE else 4


def widths_of(dims: int, levels: int, stem: int, budget: Budget) -> tuple[int, ...]:
    """Return the channels at each resolution: twice as many at each as at the one before."""
    first = 32 if budget.gpu_gb or stem == 4 else WIDTH[dims]
    return tuple(min(first * 2**level, WIDEST[dims]) for level in range(levels))


def typical_width(found: Fingerprint) -> float:
    """Return the median width of the regions of all classes but the most common one."""
    common = max(range(len(found.share)), key=found.share.__getitem__)
    own = [
        width for k, width in enumerate(found.width) if width and (k != common or found.multilabel)
    ]
    own = sorted(own)
    middle = len(own) // 2
    return own[middle] if len(own) % 2 else sum(own[middle - 1 : middle + 1]) / 2 if own else 0.0


def steps(net: Network, budget: Budget, *, evaluated: float) -> tuple[int, float]:
    """Return how many steps fit into the minutes, and the seconds that one is taken to need.

    Args:
        net: The network.
        budget: On a CPU.
        evaluated: Pixels that all evaluations of the run see.
    """
    speed = budget.flops(len(net.patch))
    each = net.flops() / speed
    scoring = net.forward() / math.prod(net.patch) * evaluated / speed
    left = max(0.5 * 60 * budget.minutes, 60 * budget.minutes - STARTING - scoring)
    return max(10, _rounded(left / each)), each


STARTING = 40.0
"""Seconds that start, compilation and figures take."""


def _rounded(value: float) -> int:
    """Return a number of steps in two digits, rounded down."""
    unit = 10 ** max(0, int(math.log10(max(1.0, value))) - 1)
    return int(value // unit) * unit


def _times(size: Sequence[int], factor: Sequence[float]) -> tuple[int, ...]:
    return tuple(max(1, round(a * b)) for a, b in zip(size, factor, strict=True))
