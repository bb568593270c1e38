"""From a source to batches: a global order that only the seed and the step decide, read ahead.

Batch `t` is the same global batch for any number of processes, threads or workers: process `p` of
`n` holds its rows `p*b/n` to `(p+1)*b/n`. To resume at step `t` is to start there; no other state.
"""

import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import grain
import jax
import numpy as np
from absl import flags

from segjax.data import core, resample, sampling, windows
from segjax.data import fit as fit_lib
from segjax.errors import ConfigError, DataError
from segjax.structs import Batch, Example, Field, Schema

Batches = grain.DatasetIterator[Batch]
"""An iterator of batches; `close()` it to stop its threads and workers."""
PREFETCH = 4
T = TypeVar("T")


def train_batches(
    source: core.Source,
    *,
    schema: Schema,
    batch_size: int,
    size: Sequence[int],
    fit: fit_lib.Fit = "resize",
    window: windows.Sampling = windows.PLAIN,
    due: sampling.Times | None = None,
    resampling: resample.Resampling = resample.NONE,
    pad_value: float = fit_lib.PAD_VALUE,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 2,
    workers: int = 0,
    prefetch: int = PREFETCH,
    cache: bool = False,
) -> Batches:
    """Return this process's rows of the global batches from `start_step` on, without end.

    Every epoch is a new permutation of the split, or of what `due` says; a batch may straddle two.
    `index` is the position in that stream, `step * batch_size + row` (modulo 2**31).

    Args:
        source: The split to read.
        schema: The fields that a batch holds, see `core.choose_fields`.
        batch_size: Rows of the global batch, over all processes.
        size: The sides of the canvas; see `fit.fit_image` for `fit`, `pad_value`.
        fit: 'resize', 'pad', or 'window': each row is a part of its example, see `windows`.
        window: Which windows are looked for.
        due: How often each example comes in an epoch, see `sampling`; None: once.
        resampling: The spacing to which examples are brought first.
        pad_value: What fills the canvas where there is no pixel.
        seed: Decides the order and where windows lie; 0 to 2**32 - 1.
        start_step: The step whose batch comes first.
        process_index: Which process this is.
        process_count: How many there are.
        threads: Threads that decode, each on a batch of its own; 0: only when asked.
        workers: Processes that decode, each with its own threads, where Python is the limit. One
            costs about 250 MB and a second or two to start.
        prefetch: Batches held ready, per worker.
        cache: Keep the fitted examples in memory, or with windows the whole ones, up to
            `core.CACHE_BYTES`. Not with `workers`, each of which would keep its own.

    Raises:
        ConfigError: Sizes that do not divide, no canvas, an unknown `fit`, or `cache` with
            `workers`.
        DataError: From `next()`, for a file that cannot be used.
    """
    rows = rows_per_process(batch_size, process_index, process_count)
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed={seed}: expected 0 to {2**32 - 1}.")
    if cache and workers:
        raise ConfigError(
            f"cache=True with workers={workers}: every worker would hold its own copy. "
            "Set workers=0: from a cache, threads are enough."
        )
    canvas: Any = {"schema": schema, "size": size, "pad_value": pad_value}
    more: Any = {"resampling": resampling, "cache": cache}
    if fit == "window":
        read = windows.Windows(source, **canvas, seed=seed, sampling=window, **more)
    else:
        read = read_whole(source, **canvas, fit=fit, **more)
    load = functools.partial(load_batch, read=read, **canvas)
    batches = (
        order_of(len(source), seed, due)
        .map_with_index(lambda position, example: (example, position))
        .batch(rows, drop_remainder=True)[
            start_step * process_count + process_index :: process_count
        ]
        .map(load)
        .to_iter_dataset(_read_options(threads, prefetch))
    )
    if workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # outside absl.app, Grain's worker options have no values
        options = grain.MultiprocessingOptions(workers, prefetch)
        batches = batches.mp_prefetch(options, worker_init_fn=_guard_worker)
    return iter(batches)


def eval_examples(
    source: core.Source,
    transform: Callable[[Any], T],
    *,
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 2,
    prefetch: int = PREFETCH,
) -> grain.DatasetIterator[tuple[int, T]]:
    """Return the number and `transform` of each example once, in order.

    Args:
        source: The split to read.
        transform: Called on each example, in the threads that read.
        process_index: Which of `process_count` processes this is: it reads every so manyth.
        process_count: How many there are.
        threads: Threads that read and decode.
        prefetch: Examples held ready.

    Raises:
        DataError: From `next()`, for a file that cannot be used.
    """
    return iter(
        grain.MapDataset.range(len(source))[process_index::process_count]
        .map(lambda number: (int(number), transform(source[int(number)])))
        .to_iter_dataset(_read_options(threads, prefetch))
    )


def order_of(
    num_examples: int, seed: int, due: sampling.Times | None = None
) -> grain.MapDataset[int]:
    """Return the numbers of the examples at each position of the stream, without end."""
    if due is not None:
        return sampling.order(due, seed)
    return grain.MapDataset.range(num_examples).seed(seed).shuffle().repeat()


def examples_of_step(
    num_examples: int,
    seed: int,
    batch_size: int,
    step: int,
    due: sampling.Times | None = None,
) -> list[int]:
    """Return the numbers of the examples in the batch of step number `step`, 1 or more."""
    order = order_of(num_examples, seed, due)
    places = range((step - 1) * batch_size, step * batch_size)
    return [int(cast(int, order[place])) for place in places]


def batch_shapes(batch_size: int, schema: Schema, size: Sequence[int]) -> Batch:
    """Return the shapes and dtypes of a global batch."""
    shapes: Any = {
        name: jax.ShapeDtypeStruct((batch_size, *_row_shape(field, size)), field.batch_dtype)
        for name, field in schema.items()
    }
    shapes["mask"] = jax.ShapeDtypeStruct((batch_size,), np.bool_)
    shapes["index"] = jax.ShapeDtypeStruct((batch_size,), np.int32)
    return shapes


def read_whole(
    source: core.Source, *, resampling: resample.Resampling, cache: bool, **canvas: Any
) -> Callable[[int, int], Example]:
    """Return `(number, position) -> fitted example`, the same at any position of the stream.

    Args:
        source: Examples of any size.
        resampling: The spacing to which they are brought first.
        cache: Keep the fitted ones in memory.
        **canvas: See `fit.Fitted`.
    """
    fitted = fit_lib.Fitted(resample.Resampled(source, resampling), **canvas)
    return functools.partial(_example, core.Cached(fitted) if cache else fitted)


def _example(source: core.Source, number: int, position: int) -> Example:
    del position
    return source[number]


def load_batch(
    rows: tuple[np.ndarray, np.ndarray],
    *,
    read: Callable[[int, int], Example],
    schema: Schema,
    size: Sequence[int],
    pad_value: float,
) -> Batch:
    """Read one batch.

    Args:
        rows: Of each row, the number of its example and its position in the stream.
        read: `(number, position) -> example` of canvas size.
        schema: The fields of the batch.
        size: The sides of the canvas.
        pad_value: See `stack`.
    """
    numbers, positions = (each.tolist() for each in rows)
    return stack(
        [read(*row) for row in zip(numbers, positions, strict=True)],
        [position % 2**31 for position in positions],
        schema=schema,
        num_rows=len(positions),
        size=size,
        pad_value=pad_value,
    )


def stack(
    examples: Sequence[Any],
    index: Sequence[int],
    *,
    schema: Schema,
    num_rows: int,
    size: Sequence[int],
    pad_value: float,
) -> Batch:
    """Return fitted examples as one batch of `num_rows`.

    Rows behind the examples have `mask` False, `index` -1, images of `pad_value`, void in class and
    multi-label maps and 0 in all else.

    Raises:
        DataError: An example has other channels or another dtype than the schema says.
    """
    arrays: Any = {}
    for name, field in schema.items():
        shape = _row_shape(field, size)
        array = np.empty((num_rows, *shape), field.batch_dtype)
        for row, example in enumerate(examples):
            found = example[name]
            if found.shape != shape or found.dtype != field.dtype:
                raise DataError(
                    f"{example['name']}: {name} of shape {found.shape}, {found.dtype}; expected "
                    f"{shape}, {field.dtype}, as the data set's schema says."
                )
            array[row] = found
        array[len(examples) :] = pad_value if field.kind == "image" else field.fill
        arrays[name] = array
    numbers = np.full(num_rows, -1, np.int32)
    numbers[: len(examples)] = index
    return arrays | {"mask": np.arange(num_rows) < len(examples), "index": numbers}


def _row_shape(field: Field, size: Sequence[int]) -> tuple[int, ...]:
    return (*size, *field.shape) if field.is_spatial else field.shape


def rows_per_process(batch_size: int, process_index: int, process_count: int) -> int:
    """Return the rows of a global batch that a process has.

    Raises:
        ConfigError: They do not divide, or there is no such process.
    """
    if batch_size < 1 or batch_size % process_count:
        below = batch_size // process_count * process_count
        fitting = [str(size) for size in (below, below + process_count) if size > 0]
        raise ConfigError(
            f"batch_size={batch_size}: the global batch is split over {process_count} processes. "
            f"Set it to a multiple, such as {' or '.join(fitting)}."
        )
    if not 0 <= process_index < process_count:
        raise ConfigError(f"process_index={process_index}: expected 0..{process_count - 1}.")
    return batch_size // process_count


def _read_options(threads: int, prefetch: int) -> grain.ReadOptions:
    return grain.ReadOptions(threads, max(prefetch, threads) if threads else 0)


def _guard_worker(worker_index: int, worker_count: int) -> None:
    """Make a worker leave signals to the main process, and never outlive it.

    Otherwise a SIGTERM to the process group breaks `next()` before a checkpoint is saved, and a
    SIGKILL of the main process leaves workers and shared memory behind for ever.
    """
    del worker_index, worker_count
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()
