"""What a network sees of an image of any size, and what each pixel's scores are made of.

An image has *views*: itself at the scale of the network, and for test-time augmentation others,
scaled and flipped. A view is one window of the canvas' size, or several that overlap. The image's
own grid is cut into *tiles*, no larger than a window, so that one compiled program serves images of
every size; a tile's scores are a weighted mean of windows', interpolated where the view is scaled.
Everything is a product of axes: windows, weights and interpolation are decided for each by itself.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from segjax.data import fit, resample
from segjax.data.fit import Canvas
from segjax.data.lazy import Region

Size = tuple[int, ...]
Blend = Literal["nearest", "flat", "gaussian"]
SIGMA = 1 / 8
"""Width of the Gaussian in windows, as nnU-Net has it (Isensee et al. 2021)."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the network sees images, from `config.inference`.

    Attributes:
        canvas: The window, and how an image is fitted to it.
        overlap: Share of a window that the next one sees too, at least; windows are spread evenly.
        place: 'even': windows are spread evenly; 'stride': at multiples of the stride, the last one
            moved inwards.
        blend: What a pixel under several windows is given: 'nearest': the scores of the one in
            whose middle it lies; 'flat': their mean; 'gaussian': their mean, weighted by how near
            the middle it lies.
        flips: Axes in space. Every set of them is a view, flipped along these.
        scales: Factors of the sides, each with a view of its own.
        short_side: Images are scaled until their shortest side is this; 0: as the canvas says.
        long_side: With `short_side`, no side becomes longer than this; 0: any.
        spacing: Images are brought to this size of a pixel before all else; empty: they are not.
        image_resampling: By which interpolation, see `data.resample`.
    """

    canvas: Canvas
    overlap: float = 0.25
    place: str = "even"
    blend: Blend = "nearest"
    flips: tuple[int, ...] = ()
    scales: tuple[float, ...] = (1.0,)
    short_side: int = 0
    long_side: int = 0
    spacing: tuple[float, ...] = ()
    image_resampling: resample.ImageBy = "linear"

    def sides(self, whole: Sequence[int], *, name: str, spacing: Any = ()) -> Size:
        """Return the sides at which the network sees an image of the sides `whole`.

        Args:
            whole: The sides.
            name: The image's, for messages.
            spacing: The size of its pixels along each axis, which counts with `self.spacing`.

        Raises:
            DataError: It has another number of axes, or no spacing where it needs one.
        """
        canvas = self.canvas
        if self.spacing:
            fit.check_axes(whole, canvas.size, name=name)
            own = resample.check_spacing(spacing, whole, name=name)
            whole = resample.sides(whole, own, self.spacing, name=name)
        if self.short_side and len(whole) == len(canvas.size):
            scale = self.short_side / min(whole)
            if self.long_side:
                scale = min(scale, self.long_side / max(whole))
            return tuple(max(1, int(side * scale + 0.5)) for side in whole)
        if canvas.fit == "pad" and len(whole) == len(canvas.size):
            return tuple(whole)
        return fit.scaled_size(whole, size=canvas.size, fit=canvas.fit, name=name)

    def scale(self, whole: Sequence[int], *, name: str, spacing: Any = ()) -> float:
        """Return the factor by which an image's longest side is scaled for the network.

        Raises:
            DataError: As `sides`.
        """
        sides = self.sides(whole, name=name, spacing=spacing)
        return 1.0 if sides == tuple(whole) else max(sides) / max(whole)

    @property
    def may_scale(self) -> bool:
        """Whether the network may see an image at another scale than its own."""
        scaled = self.canvas.fit == "resize" or self.short_side > 0 or self.scales != (1.0,)
        return scaled or self.spacing != ()

    def stride(self, window: int) -> int:
        """Return how far apart neighbouring windows are at most."""
        return max(1, round(window * (1 - self.overlap)))

    def starts(self, length: int, window: int) -> list[int]:
        """Return where the windows along one axis begin."""
        last, stride = length - window, self.stride(window)
        if last <= 0:
            return [0]
        count = -(-last // stride) + 1
        if self.place == "stride":
            return [min(number * stride, last) for number in range(count)]
        return [round(number * last / (count - 1)) for number in range(count)]


class Reach(NamedTuple):
    """What one window gives to a tile along one axis.

    Attributes:
        window: Which of the axis.
        low: Its pixel that each of the tile's lies on or behind, int32 [side].
        upper: The weight of the pixel after that, float32 [side].
        weight: The window's own weight at each pixel, float32 [side]; 0 where it has no say.
    """

    window: int
    low: np.ndarray
    upper: np.ndarray
    weight: np.ndarray


@dataclasses.dataclass(frozen=True)
class Axis:
    """One axis of one view.

    Attributes:
        whole: Pixels of the image.
        side: Pixels of the view.
        window: Pixels of a window.
        starts: Where the windows begin.
        blend: See `Layout`.
        flip: Whether windows are turned round.
    """

    whole: int
    side: int
    window: int
    starts: Sequence[int]
    blend: Blend
    flip: bool = False

    def covered(self) -> int:
        """Return how many pixels of a window hold the view."""
        return min(self.window, self.side)

    def own(self, place: int) -> int:
        """Return the first of the image's pixels whose centre is not before pixel `place`."""
        return -(-(2 * place * self.whole - self.side) // (2 * self.side))

    def bounds(self, number: int) -> tuple[int, int]:
        """Return the image's first and last pixel, excluded, that a window has a say in."""
        first, last = self.starts[number], self.starts[number] + self.covered()
        if self.blend == "nearest":
            first, last = self.kept(number)
        begin = 0 if first == 0 else self.own(first)
        return begin, self.whole if last >= self.side else self.own(last)

    def kept(self, number: int) -> tuple[int, int]:
        """Return the view's pixels in whose middle a window lies, from the first to the last."""
        starts, window = self.starts, self.window
        first = (starts[number - 1] + window + starts[number]) // 2 if number else 0
        final = number + 1 == len(starts)
        return first, self.side if final else (starts[number] + window + starts[number + 1]) // 2

    def cuts(self, side: int) -> list[slice]:
        """Return the tiles: between the places where windows begin to have a say, up to `side`."""
        edges = sorted({self.bounds(number)[0] for number in range(len(self.starts))})
        edges = [edge for edge in edges if edge < self.whole]
        return [
            slice(begin, min(begin + side, stop))
            for start, stop in itertools.pairwise([*edges, self.whole])
            for begin in range(start, stop, side)
        ]

    def reaches(self, tile: slice, side: int) -> list[Reach]:
        """Return what each window with a say in a tile gives to it, as arrays of length `side`."""
        pixels = np.arange(tile.start, tile.start + side)
        centre = np.clip((pixels + 0.5) * (self.side / self.whole) - 0.5, 0, self.side - 1)
        found = self.meeting(tile)
        weights = np.stack([self._weight(number, pixels, centre) for number in found])
        weights /= np.maximum(weights.sum(axis=0), 1e-30)
        return [
            self._reach(number, centre, weight)
            for number, weight in zip(found, weights, strict=True)
        ]

    def meeting(self, tile: slice) -> list[int]:
        """Return the windows that have a say in a tile."""
        bounds = map(self.bounds, range(len(self.starts)))
        return [n for n, (a, b) in enumerate(bounds) if a < tile.stop and tile.start < b]

    def _weight(self, number: int, pixels: np.ndarray, centre: np.ndarray) -> np.ndarray:
        begin, end = self.bounds(number)
        inside = (pixels >= begin) & (pixels < end)
        if self.blend != "gaussian":
            return inside.astype(np.float64)
        middle = self.starts[number] + (self.window - 1) / 2
        return inside * np.exp(-0.5 * ((centre - middle) / (SIGMA * self.window)) ** 2)

    def _reach(self, number: int, centre: np.ndarray, weight: np.ndarray) -> Reach:
        last = self.covered() - 1
        local = np.clip(centre - self.starts[number], 0, last)
        local = last - local if self.flip else local
        low = np.minimum(local.astype(np.int32), max(last - 1, 0))
        if self.whole == self.side:  # on the pixels themselves
            low = local.astype(np.int32)
        return Reach(number, low, (local - low).astype(np.float32), weight.astype(np.float32))


class View(NamedTuple):
    """An image as the network sees it once: its axes, and whether its labels count in a loss."""

    axes: tuple[Axis, ...]
    is_plain: bool

    @property
    def sides(self) -> Size:
        """The sides of the whole view."""
        return tuple(axis.side for axis in self.axes)

    @property
    def is_single(self) -> bool:
        """Whether it is one window."""
        return all(len(axis.starts) == 1 for axis in self.axes)


class Piece(NamedTuple):
    """One window of an image: of which view, and which along each axis."""

    view: int
    at: Size


class Tile(NamedTuple):
    """A part of the image's own grid.

    Attributes:
        region: Its pixels.
        reaches: Of each view what its windows give along each axis.
    """

    region: Region
    reaches: list[list[list[Reach]]]

    @property
    def inner(self) -> Region:
        """Where an array of the tiles' full size holds its pixels."""
        return tuple(slice(0, part.stop - part.start) for part in self.region)

    def pieces(self) -> Iterator[tuple[Piece, tuple[Reach, ...]]]:
        """Yield the windows that it is made of, and what each gives along every axis."""
        for view, axes in enumerate(self.reaches):
            for reaches in itertools.product(*axes):
                yield Piece(view, tuple(reach.window for reach in reaches)), reaches


class Plan:
    """The views, windows and tiles of one image.

    Args:
        whole: The image's sides.
        layout: How images are seen.
        name: The image's, for messages.
        spacing: The size of its pixels, see `Layout.sides`.

    Attributes:
        views: The plain one first.
        side: The sides of a tile.
        pieces: All windows in the order in which they are first needed.
        last: The number of the last tile that needs each of them.

    Raises:
        DataError: The image has another number of axes than the canvas.
    """

    def __init__(
        self, whole: Sequence[int], layout: Layout, *, name: str = "image", spacing: Any = ()
    ):
        self.whole, self.layout = tuple(whole), layout
        sides = layout.sides(whole, name=name, spacing=spacing)
        self.views = _views(self.whole, layout, sides)
        windows = layout.canvas.size
        blends = layout.blend != "nearest" and not self.views[0].is_single
        self.side = tuple(map(layout.stride, windows)) if blends else windows
        self.cuts = [
            axis.cuts(side) for axis, side in zip(self.views[0].axes, self.side, strict=True)
        ]
        self.last: dict[Piece, int] = {}
        for number, tile in enumerate(self._numbers()):
            self.last |= dict.fromkeys(tile, number)
        self.pieces = list(self.last)

    def __len__(self) -> int:
        return math.prod(map(len, self.cuts))

    @property
    def is_one(self) -> bool:
        """Whether every tile is made of one window, without weights."""
        return len(self.views) == 1 and (self.views[0].is_single or self.layout.blend == "nearest")

    def tiles(self) -> Iterator[Tile]:
        """Yield the tiles, the last axis fastest; together they hold every pixel once."""
        inner = [
            [
                [axis.reaches(span, side) for span in cuts]
                for axis, cuts, side in zip(
                    view.axes[1:], self.cuts[1:], self.side[1:], strict=True
                )
            ]
            for view in self.views
        ]
        for span in self.cuts[0]:  # of which there may be many: one at a time
            outer = [view.axes[0].reaches(span, self.side[0]) for view in self.views]
            for numbers in self._inner():
                others = [cuts[at] for cuts, at in zip(self.cuts[1:], numbers, strict=True)]
                reaches = [
                    [first, *(axis[at] for axis, at in zip(axes, numbers, strict=True))]
                    for first, axes in zip(outer, inner, strict=True)
                ]
                yield Tile((span, *others), reaches)

    def _inner(self) -> Iterator[Size]:
        """Yield the numbers of the tiles along all axes but the first."""
        return itertools.product(*(range(len(cuts)) for cuts in self.cuts[1:]))

    def _numbers(self) -> Iterator[list[Piece]]:
        """Yield the windows of each tile, in the order of `tiles`."""
        meets = [
            [
                [axis.meeting(span) for span in cuts]
                for axis, cuts in zip(view.axes, self.cuts, strict=True)
            ]
            for view in self.views
        ]
        for first in range(len(self.cuts[0])):
            for numbers in self._inner():
                yield [
                    Piece(view, at)
                    for view, axes in enumerate(meets)
                    for at in itertools.product(
                        *(axis[n] for axis, n in zip(axes, (first, *numbers), strict=True))
                    )
                ]


def _views(whole: Size, layout: Layout, plain: Size) -> list[View]:
    """Return the views of an image, the one without scale and flip first."""
    sets = [
        chosen
        for count in range(len(layout.flips) + 1)
        for chosen in itertools.combinations(layout.flips, count)
    ]
    scales = sorted(layout.scales, key=lambda scale: scale != 1)
    return [
        View(
            tuple(
                _axis(length, max(1, round(side * scale)), window, layout, number in flips)
                for number, (length, side, window) in enumerate(
                    zip(whole, plain, layout.canvas.size, strict=True)
                )
            ),
            is_plain=not flips and number == 0,
        )
        for number, scale in enumerate(scales)
        for flips in sets
    ]


def _axis(whole: int, side: int, window: int, layout: Layout, flip: bool) -> Axis:
    return Axis(whole, side, window, layout.starts(side, window), layout.blend, flip)
