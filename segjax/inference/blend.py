"""Scores of windows as scores of a tile: taken where its pixels lie, weighted, added up."""

import functools
import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from segjax.inference.layout import Piece, Plan, Reach, Tile

Scores = Float[Array, "*tile k"]


class Row(NamedTuple):
    """The scores of one window: row `number` of `array` [rows *space k], which holds others too."""

    array: Any
    number: Any


class Group(NamedTuple):
    """Some of the windows of a tile, as many in every group of a view.

    Attributes:
        rows: Their scores.
        low: For each axis the window's pixel at or before each of the tile's, int32 [windows side].
        upper: For each axis the weight of the pixel after it, float32 [windows side]; None: all 0.
        weight: For each axis the windows' weights, float32 [windows side]; None: all 1.
    """

    rows: tuple[Row, ...]
    low: tuple[Any, ...]
    upper: tuple[Any, ...] | None
    weight: tuple[Any, ...] | None


def blend(scores: Scores | None, group: Group) -> Scores:
    """Return the scores of a tile, those of a group of its windows added to what others gave.

    Between two pixels scores are interpolated linearly; at a pixel they are its own.
    """
    parts = [] if scores is None else [scores]
    for number, row in enumerate(group.rows):
        found = row.array[row.number]
        for axis, lows in enumerate(group.low):
            low = lows[number]
            first = found.take(low, axis, mode="clip")
            if group.upper is not None:
                second = found.take(low + 1, axis, mode="clip")
                found = first + (second - first) * _along(group.upper[axis][number], first, axis)
            else:
                found = first
        if group.weight is not None:
            for axis, weight in enumerate(group.weight):
                found = found * _along(weight[number], found, axis)
        parts.append(found)
    return functools.reduce(operator.add, parts)


def _along(values: Array, like: Array, axis: int) -> Array:
    """Return values for each place along an axis, ready to be multiplied with `like`."""
    return values.reshape(-1, *[1] * (like.ndim - 1 - axis))


class Windows:
    """The windows of one image that have been through the network, and the tiles that wait.

    Args:
        plan: Of the image.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        self._rows: dict[Piece, Row] = {}
        self._tiles = enumerate(plan.tiles())
        self._next = next(self._tiles, None)

    @property
    def is_done(self) -> bool:
        """Whether all tiles have been given out."""
        return self._next is None

    def add(self, piece: Piece, row: Row) -> None:
        """Keep the scores of a window until no tile needs them any more."""
        self._rows[piece] = row

    def ready(self) -> Iterator[tuple[Tile, list[Group]]]:
        """Yield the next tiles in order, as far as all their windows are there."""
        while self._next is not None:
            number, tile = self._next
            pieces = [piece for piece, _ in tile.pieces()]
            if not all(piece in self._rows for piece in pieces):
                return
            yield tile, self._groups(tile)
            for piece in pieces:
                if self.plan.last[piece] == number:
                    del self._rows[piece]
            self._next = next(self._tiles, None)

    def _groups(self, tile: Tile) -> list[Group]:
        found: dict[int, list[tuple[Piece, tuple[Reach, ...]]]] = {}
        for piece, reaches in tile.pieces():
            found.setdefault(piece.view, []).append((piece, reaches))
        return [
            self._group(pairs[start : start + size], size)
            for view, pairs in found.items()
            for size in [self._size(view)]
            for start in range(0, len(pairs), size)
        ]

    def _size(self, view: int) -> int:
        """Return how many windows a group of a view has: as many as cover a pixel, as a rule."""
        single = self.plan.is_one or self.plan.views[view].is_single
        return 1 if single else 2 ** len(self.plan.whole)

    def _group(self, pairs: Sequence[tuple[Piece, tuple[Reach, ...]]], size: int) -> Group:
        views = self.plan.views
        missing = size - len(pairs)
        pairs = [*pairs, *[pairs[0]] * missing]
        rows = tuple(self._rows[piece] for piece, _ in pairs)
        axes = list(zip(*(reaches for _, reaches in pairs), strict=True))
        low = tuple(np.stack([reach.low for reach in axis]) for axis in axes)
        upper = weight = None
        if self.plan.layout.may_scale:  # the same program where an image happens to have its size
            upper = tuple(np.stack([reach.upper for reach in axis]) for axis in axes)
        if not self.plan.is_one:
            weights = [np.stack([reach.weight for reach in axis]) for axis in axes]
            weights[0] = weights[0] / np.float32(len(views))
            weights[0][size - missing :] = 0
            weight = tuple(weights)
        return Group(rows, low, upper, weight)


def rows_of(scores: jax.Array) -> list[Row]:
    """Return this process's rows of a batch of scores [rows *space k], each where it lies.

    Rows must lie whole on a device, see `Forward.scores`.
    """
    blocks = {shard.index[0].start or 0: shard.data for shard in scores.addressable_shards}
    return [
        Row(block, np.int32(number))
        for _, block in sorted(blocks.items())
        for number in range(len(block))
    ]


def together(groups: Sequence[Group]) -> list[Group]:
    """Return groups with the scores of all windows on the device of the last."""
    device = groups[-1].rows[-1].array.device
    return [
        group._replace(rows=tuple(Row(_on(row.array, device), row.number) for row in group.rows))
        for group in groups
    ]


def _on(array: jax.Array, device: Any) -> jax.Array:
    return array if array.device == device else jax.device_put(array, device)
