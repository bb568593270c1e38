"""A network as a predictor: its passes compiled once, for images of any size."""

import contextlib
import functools
import itertools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from segjax.data import core, fit, pipeline, windows
from segjax.data.windows import Part, Piece
from segjax.inference.predictor import Image, Measured, Prediction
from segjax.runtime import distributed, quirks, sharding, xla
from segjax.structs import Batch, Schema
from segjax.tasks.base import DenseTask, Outputs

T = TypeVar("T")
Taps = list[tuple[Array, Array]]
"""For each axis, see `windows.taps`: int32 and float32 [b side]."""


class Forward:
    """The passes of a model, each compiled once at first use, for any variables.

    Scores are brought to an image's own grid in tiles of canvas size, so that no size is compiled
    anew, and no array grows with the image.

    Args:
        model: The network.
        task: Says what its outputs are worth, and which scores they hold.
        normalize: From a batch's images to the model's input.
        mesh: Over which batches are split.
        schema: The fields of a batch.
        canvas: How images become one size.

    Attributes:
        outputs: `(variables, image [b *space c]) → outputs`.
        losses: `(outputs, batch) → terms of the loss`.
        compare: `(outputs, label [b *space], taps) → counts [b k k]` on a tile of the own grid.
        classes: `(outputs, taps) → uint8 [b *space]`, likewise.
        probabilities: `(outputs, taps) → float32 [b *space k]`, likewise.
    """

    def __init__(
        self,
        model: nn.Module,
        task: DenseTask,
        *,
        normalize: Callable[[jax.Array], jax.Array],
        mesh: Mesh,
        schema: Schema,
        canvas: fit.Canvas,
    ):
        self.task, self.mesh, self.canvas, self.schema = task, mesh, canvas, schema
        self.placement = sharding.batch_sharding(mesh, schema)
        self.row_block = sharding.row_block(mesh)
        self.by_row = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
        everywhere = sharding.replicated(mesh)
        options: Any = {"compiler_options": xla.xla_options(getattr(model, "compute_dtype", ""))}

        def outputs(variables: Any, image: jax.Array) -> Outputs:
            return model.apply(sharding.replicate(variables, mesh), normalize(image), train=False)

        def losses(outputs: Outputs, batch: Batch) -> dict[str, Any]:
            return task.loss(outputs, batch, jax.random.key(0))

        def scores(outputs: Outputs, taps: Taps | None) -> Float[Array, "b *space k"]:
            found = task.scores(outputs)
            return found if taps is None else interpolate(found, taps)

        def compare(outputs: Outputs, label: jax.Array, taps: Taps | None) -> jax.Array:
            return task.compare(task.decide(scores(outputs, taps)), label)

        def classes(outputs: Outputs, taps: Taps | None) -> jax.Array:
            return task.decide(scores(outputs, taps)).astype(jnp.uint8)

        def probabilities(outputs: Outputs, taps: Taps | None) -> jax.Array:
            return jax.nn.softmax(scores(outputs, taps))

        jit = functools.partial(jax.jit, **options)
        self.outputs = jit(outputs)
        self.losses = jit(losses, out_shardings=everywhere)
        self.compare = jit(compare, out_shardings=everywhere)
        self.classes = jit(classes, out_shardings=everywhere)
        self.probabilities = jit(probabilities, out_shardings=everywhere)


def interpolate(scores: Float[Array, "b *space k"], taps: Taps) -> Float[Array, "b *tile k"]:
    """Return scores between pixels, linearly along each axis; at a pixel they are its own."""

    def along(axis: int, x: Array, low: Array, weight: Array) -> Array:
        first, second = x.take(low, axis), x.take(low + 1, axis, mode="clip")
        weight = weight.reshape(-1, *[1] * (x.ndim - 1 - axis))
        return first + (second - first) * weight

    for axis, (low, weight) in enumerate(taps):
        scores = jax.vmap(functools.partial(along, axis))(scores, low, weight)
    return scores


class Row(NamedTuple):
    """One row of an evaluation's batch: a piece of example `number`, and that one's own label."""

    number: int
    piece: Piece
    label: np.ndarray


class Network:
    """A model with its variables as a `Predictor`.

    Args:
        forward: The compiled passes, shared by all variables of a model.
        variables: `{'params', 'batch_stats'}` on the devices.
    """

    def __init__(self, forward: Forward, variables: Mapping[str, Any]):
        self.forward, self.variables = forward, variables

    def __call__(self, image: Image, /) -> Prediction:
        """Return the prediction of one image.

        It goes through the network as in training: with `fit='resize'` scaled to the canvas, its
        scores scaled back; with `fit='pad'` at its own scale, in overlapping windows where it is
        larger.

        Raises:
            DataError: The image has another number of axes than the canvas.
        """
        classes = np.empty(0, np.uint8)
        for part, tile in self._tiles(image, self.forward.classes):
            if not classes.size:  # [*space], or [*space k] where classes overlap
                behind = tile.shape[image.ndim - 1 :]
                classes = np.empty((*image.shape[:-1], *behind), np.uint8)
            classes[part.region] = tile[part.tile]
        return Prediction(classes, functools.partial(self._probabilities, image))

    def _probabilities(self, image: Image) -> Float[np.ndarray, "*space k"]:
        found = np.empty((*image.shape[:-1], self.forward.task.num_classes), np.float32)
        for part, tile in self._tiles(image, self.forward.probabilities):
            found[part.region] = tile[part.tile]
        return found

    def _tiles(self, image: Image, read: Callable[..., jax.Array]) -> Iterator[tuple[Part, Any]]:
        """Yield what `read` finds in each part of an image, as many at once as the mesh has rows.

        All processes must call it with the same image.
        """
        mesh, canvas = self.forward.mesh, self.forward.canvas
        rows = mesh.shape["data"] * mesh.shape["fsdp"]
        schema = {"image": self.forward.schema["image"]}
        example = {"image": image, "name": "image"}
        for pieces in chunks(windows.pieces(example, schema=schema, canvas=canvas), rows):
            batch = np.stack([piece.fields["image"] for piece in repeat(pieces, rows)])
            placed = jax.device_put(batch, self.forward.placement["image"])
            outputs = self.forward.outputs(self.variables, placed)
            quirks.one_at_a_time(outputs)
            if canvas.fit == "pad":  # a part each, in its place on the canvas
                tiles = np.asarray(read(outputs, None))
                yield from zip((piece.parts[0] for piece in pieces), tiles, strict=False)
                continue
            (piece,) = pieces  # in every row, so that each can read a part of its own
            for parts in chunks(piece.parts, rows):
                tiles = read(outputs, self._taps([(piece, part) for part in parts], rows, 1))
                yield from zip(parts, np.asarray(tiles), strict=False)

    def measure(
        self, source: core.Source, /, *, batch_size: int, threads: int
    ) -> Iterator[Measured]:
        """Yield counts and loss; windows of several images go through the network together.

        The counts are of labels as the source has them: no pixel of theirs is scaled or left out.
        The loss is that of training, on the canvas.
        """
        counting, previous = Counting(), None
        schema = {name: source.schema[name] for name in self.forward.schema}  # its own types
        for rows in self._rows(source, batch_size, threads):
            launched = self._launch(rows, batch_size, schema)
            if previous is not None:
                yield counting.add(*previous)
            previous = launched  # one late: the devices work on the next meanwhile
        if previous is not None:
            yield counting.add(*previous)

    def _rows(self, source: core.Source, batch_size: int, threads: int) -> Iterator[list[Row]]:
        """Yield this process's rows of each batch; none where only others have some left."""
        forward = self.forward
        block, blocks = forward.row_block
        count = pipeline.rows_per_process(batch_size, block, blocks)

        def cut(example: Any) -> list[tuple[Piece, np.ndarray]]:
            found = windows.pieces(example, schema=forward.schema, canvas=forward.canvas)
            return [(piece, example["label"]) for piece in found]

        examples = pipeline.eval_examples(
            source, cut, process_index=block, process_count=blocks, threads=threads
        )
        with contextlib.closing(examples):
            rows = (Row(number, *pair) for number, found in examples for pair in found)
            while True:
                chunk = list(itertools.islice(rows, count))
                if not distributed.max_of_all(len(chunk)):
                    return
                yield chunk

    def _launch(
        self, rows: list[Row], batch_size: int, schema: Schema
    ) -> tuple[Any, jax.Array, Any]:
        """Start the passes over one batch; return which rows are of what, counts, and loss."""
        forward, size = self.forward, self.forward.canvas.size
        _, blocks = forward.row_block
        count = batch_size // blocks
        batch = pipeline.stack(
            [row.piece.fields for row in rows],
            [row.number for row in rows],
            schema=schema,
            num_rows=count,
            size=size,
            pad_value=forward.canvas.pad_value,
        )
        last = np.zeros(count, bool)
        last[: len(rows)] = [row.piece.is_last for row in rows]
        placed = sharding.put(batch, forward.placement, blocks)
        about = {"index": placed["index"], "last": sharding.put(last, forward.by_row, blocks)}
        outputs = forward.outputs(self.variables, placed["image"])
        quirks.one_at_a_time(outputs)
        loss = forward.losses(outputs, placed)
        quirks.one_at_a_time(loss)
        rounds = distributed.max_of_all(max((len(row.piece.parts) for row in rows), default=0))
        counts = []
        for number in range(rounds):
            field = schema["label"]
            labels = np.full((count, *size, *field.shape), field.fill, field.batch_dtype)
            for at, row in enumerate(rows):
                if number < len(row.piece.parts):
                    labels[at] = row.piece.parts[number].cut(row.label, size, field.fill)
            taps = None
            if forward.canvas.fit == "resize":
                pairs = [(r.piece, r.piece.parts[number % len(r.piece.parts)]) for r in rows]
                taps = self._taps(pairs, count, blocks)
            label = sharding.put(labels, forward.placement["label"], blocks)
            counts.append(forward.compare(outputs, label, taps))
            quirks.one_at_a_time(counts[-1])
        return about, functools.reduce(operator.add, counts), loss

    def _taps(self, pairs: Sequence[tuple[Piece, Part]], count: int, blocks: int) -> Taps:
        """Return the taps of a part in each of `count` rows, on the devices."""
        size = self.forward.canvas.size
        found = [(np.zeros((count, n), np.int32), np.zeros((count, n), np.float32)) for n in size]
        for row, (piece, part) in enumerate(pairs):
            for (low, weight), axis in zip(found, windows.taps(part, piece, size), strict=True):
                low[row], weight[row] = axis
        return [
            (
                sharding.put(low, self.forward.by_row, blocks),
                sharding.put(weight, self.forward.by_row, blocks),
            )
            for low, weight in found
        ]


class Counting:
    """The counts of examples whose pieces lie in several rows or batches."""

    def __init__(self) -> None:
        self.open: dict[int, np.ndarray] = {}

    def add(self, about: Any, counts: Any, loss: Any) -> Measured:
        """Return the examples that are complete with this batch, and its loss."""
        about, done = sharding.fetch(about), {}
        counts = np.asarray(jax.device_get(counts), np.int64)
        for number, last, matrix in zip(about["index"], about["last"], counts, strict=True):
            if number >= 0:
                total = self.open.pop(int(number), 0) + matrix
                (done if last else self.open)[int(number)] = total
        return Measured(done, jax.device_get(loss))


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield `size` items at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))


def repeat(items: Sequence[T], count: int) -> list[T]:
    """Return `count` items: those, and the first again for what is missing."""
    return [*items, *[items[0]] * (count - len(items))]
