"""Images of any size as pieces of one size, and back: the places of both are kept.

An image becomes one canvas, scaled or padded, or several windows where it is larger and keeps its
own scale. What is predicted of a piece belongs to `parts` of the image's own grid, each no larger
than the canvas, so that one compiled program serves images of every size.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from segjax.data import fit
from segjax.data.fit import Canvas
from segjax.structs import Schema

Size = tuple[int, ...]
Region = tuple[slice, ...]


class Part(NamedTuple):
    """Pixels of an image's own grid, and where a tile of canvas size holds them."""

    region: Region
    tile: Region

    def cut(self, label: np.ndarray, size: Size, fill: int) -> np.ndarray:
        """Return the tile of a map [*space ...], `fill` where it holds no pixel of the part."""
        tile = np.full((*size, *label.shape[len(size) :]), fill, label.dtype)
        tile[self.tile] = label[self.region]
        return tile


class Piece(NamedTuple):
    """What a network sees of an image at once.

    Attributes:
        fields: The example's fields on the canvas; maps hold their fill where another piece
            decides.
        parts: What it decides, on the image's own grid; together the pieces of an image decide
            every pixel once.
        scale: Canvas pixels for a pixel of the image, along each axis.
        covered: The sides of the image on the canvas.
        is_last: Whether no other piece of the image follows.
    """

    fields: dict[str, Any]
    parts: list[Part]
    scale: tuple[float, ...]
    covered: Size
    is_last: bool


class Window(NamedTuple):
    """One window: where it begins, and which part of the image it decides."""

    start: Size
    kept: Region


def pieces(example: Any, *, schema: Schema, canvas: Canvas) -> list[Piece]:
    """Return an example's pieces in order.

    With `fit='resize'` one, scaled to the canvas; with `fit='pad'` one, or windows of the canvas'
    size where the example is larger along some axis.

    Raises:
        DataError: An example with another number of axes than the canvas, or whose fields differ
            in size.
    """
    size, whole = canvas.size, example["image"].shape[:-1]
    options: Any = {"schema": schema, "size": size, "pad_value": canvas.pad_value}
    larger = len(whole) == len(size) and any(n > m for n, m in zip(whole, size, strict=True))
    if canvas.fit == "pad" and larger:
        fit.check_fields(example, schema, name=example["name"])
        return _windows(example, whole, size, options)
    covered = fit.scaled_size(whole, size=size, fit=canvas.fit, name=example["name"])
    fields = fit.fit_example(example, fit=canvas.fit, **options)
    scale = tuple(m / n for n, m in zip(whole, covered, strict=True))
    return [Piece(dict(fields), tiles(whole, size), scale, covered, True)]


def tiles(whole: Sequence[int], size: Size) -> list[Part]:
    """Return the parts of `size`, smaller at the far ends, that an image is made of."""
    cuts = [
        [slice(a, min(a + side, length)) for a in range(0, length, side)]
        for length, side in zip(whole, size, strict=True)
    ]
    return [
        Part(region, tuple(slice(0, s.stop - s.start) for s in region))
        for region in itertools.product(*cuts)
    ]


def taps(part: Part, piece: Piece, size: Size) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return which canvas pixels a tile of the part is interpolated from, linearly.

    Returns:
        For each axis the lower of two neighbours, int32 [side], and the weight of the upper one,
        float32 [side]; what lies behind the image on the canvas has no weight.
    """
    found = []
    for region, scale, covered, side in zip(
        part.region, piece.scale, piece.covered, size, strict=True
    ):
        centre = (np.arange(region.start, region.start + side) + 0.5) * scale - 0.5
        centre = np.clip(centre, 0, covered - 1)
        low = np.minimum(centre.astype(np.int32), max(covered - 2, 0))
        found.append((low, (centre - low).astype(np.float32)))
    return found


def windows_of(shape: Sequence[int], size: Sequence[int]) -> Iterator[Window]:
    """Yield the windows that cover an image of `shape` (Ronneberger et al. 2015, figure 2).

    Neighbours overlap by at least a quarter; each pixel is taken from the window in whose middle
    it lies, so that it is seen with context on every side.
    """
    axes = (spans(length, window) for length, window in zip(shape, size, strict=True))
    for chosen in itertools.product(*axes):
        yield Window(tuple(start for start, _ in chosen), tuple(kept for _, kept in chosen))


def spans(length: int, window: int) -> list[tuple[int, slice]]:
    """Return `(start, kept)` of the windows along one axis: where each begins, what it decides."""
    if length <= window:
        return [(0, slice(0, length))]
    count = -(-(length - window) // (window * 3 // 4)) + 1
    starts = [round(i * (length - window) / (count - 1)) for i in range(count)]
    cuts = [0, *((a + window + b) // 2 for a, b in zip(starts, starts[1:], strict=False)), length]
    return [(start, slice(cuts[i], cuts[i + 1])) for i, start in enumerate(starts)]


def _windows(example: Any, whole: Size, size: Size, options: Any) -> list[Piece]:
    """Return the windows of an example larger than the canvas, at its own scale."""
    found, windows = [], list(windows_of(whole, size))
    for number, window in enumerate(windows, start=1):
        seen = tuple(
            slice(a, min(a + n, length))
            for a, n, length in zip(window.start, size, whole, strict=True)
        )
        inner = tuple(
            slice(kept.start - a, kept.stop - a)
            for a, kept in zip(window.start, window.kept, strict=True)
        )
        part = Part(window.kept, inner)
        own = {"name": example["name"]}
        for name, field in options["schema"].items():
            array = example[name]
            if field.is_map:
                array = part.cut(array, size, field.fill)
            elif field.is_spatial:
                array = array[seen]
            own[name] = array
        image = fit.pad(own["image"], size=size, value=options["pad_value"])
        covered = tuple(s.stop - s.start for s in seen)
        one = (1.0,) * len(size)
        found.append(Piece(own | {"image": image}, [part], one, covered, number == len(windows)))
    return found
