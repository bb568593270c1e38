"""Pieces of images as rows of batches."""

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from segjax.data import core, pipeline
from segjax.inference.blend import Windows
from segjax.inference.layout import Layout, Piece
from segjax.inference.pieces import Cut
from segjax.runtime import distributed
from segjax.structs import Batch, Schema

T = TypeVar("T")


class Row(NamedTuple):
    """One row of an evaluation's batch: a piece of example `number`."""

    number: int
    cut: Cut
    windows: Windows
    piece: Piece


def batches_of(
    source: core.Source,
    cut: Callable[[Any], Cut],
    *,
    batch_size: int,
    threads: int,
    row_block: tuple[int, int],
) -> Generator[list[Row]]:
    """Yield this process's rows of each batch; none where only others have some left.

    Args:
        source: Examples of any size.
        cut: Cuts one into pieces, in the threads that read.
        batch_size: Pieces in a batch, over all processes.
        threads: Threads that read and decode.
        row_block: See `sharding.row_block`.
    """
    block, blocks = row_block
    count = pipeline.rows_per_process(batch_size, block, blocks)
    examples = pipeline.eval_examples(
        source, cut, process_index=block, process_count=blocks, threads=threads
    )

    def rows(examples: Iterable[tuple[int, Cut]]) -> Iterator[Row]:
        for number, pieces in examples:
            windows = Windows(pieces.plan)
            for piece in pieces.plan.pieces:
                yield Row(number, pieces, windows, piece)

    with contextlib.closing(examples):
        found = rows(examples)
        while True:
            chunk = list(itertools.islice(found, count))
            if not distributed.max_of_all(len(chunk)):
                return
            yield chunk


def stack(rows: Sequence[Row], count: int, schema: Schema, layout: Layout) -> Batch:
    """Return pieces as `count` rows of a batch; those that are missing are masked."""
    canvas = layout.canvas
    return pipeline.stack(
        [row.cut.fields(row.piece) for row in rows],
        [row.number for row in rows],
        schema=schema,
        num_rows=count,
        size=canvas.size,
        pad_value=canvas.pad_value,
    )


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield `size` items at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))


def repeat(items: Sequence[T], count: int) -> list[T]:
    """Return `count` items: those, and the first again for what is missing."""
    return [*items, *[items[0]] * (count - len(items))]
