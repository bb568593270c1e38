"""A network as a predictor: its passes compiled once, for images of any size."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from segjax.data import core, pipeline, resample
from segjax.data.lazy import Region
from segjax.inference import blend
from segjax.inference.blend import Group, Windows
from segjax.inference.layout import Layout, Piece, Tile
from segjax.inference.pieces import Cut
from segjax.inference.predictor import Image, Measured, Prediction
from segjax.runtime import distributed, quirks, sharding, xla
from segjax.structs import IGNORE_LABEL, Batch, Schema
from segjax.tasks.base import DenseTask, Outputs

T = TypeVar("T")
Counts = list[tuple[int, jax.Array | None]]
"""Of a batch: an example's number with the counts of a tile, or with None where it is complete."""


class Forward:
    """The passes of a model, each compiled once at first use, for any variables.

    Scores are brought to an image's own grid in tiles of one size, so that no size is compiled
    anew, and no array grows with the image.

    Args:
        model: The network.
        task: Says what its outputs are worth, and which scores they hold.
        normalize: From a batch's images to the model's input.
        mesh: Over which batches are split.
        schema: The fields of a batch.
        layout: How images of any size are seen.

    Attributes:
        outputs: `(variables, image [b *space c]) → outputs`.
        losses: `(outputs, batch) → terms of the loss`.
        scores: `(outputs of each member) → their mean [b *space k]`, each row whole on a device.
        scores_of_all: Likewise, and each row on every process.
        add: `(scores of a tile | None, group of windows) → scores [*tile k]`.
        compare: `(scores | None, group, label of the tile) → counts, as the task compares them`.
        classes: `(scores | None, group) → uint8 [*tile]`, of a multi-label task `[*tile k]`.
        probabilities: `(scores | None, group) → float32 [*tile k]`.
    """

    def __init__(
        self,
        model: nn.Module,
        task: DenseTask,
        *,
        normalize: Callable[[jax.Array], jax.Array],
        mesh: Mesh,
        schema: Schema,
        layout: Layout,
    ):
        self.task, self.mesh, self.layout, self.schema = task, mesh, layout, schema
        self.placement = sharding.batch_sharding(mesh, schema)
        self.row_block = sharding.row_block(mesh)
        self.by_row = NamedSharding(mesh, PartitionSpec(sharding.EXAMPLES))
        everywhere = sharding.replicated(mesh)
        options: Any = {"compiler_options": xla.xla_options(getattr(model, "compute_dtype", ""))}

        def outputs(variables: Any, image: jax.Array) -> Outputs:
            with sharding.over(mesh):
                variables = sharding.replicate(variables, mesh)
                return model.apply(variables, normalize(image), train=False)

        def losses(outputs: Outputs, batch: Batch) -> dict[str, Any]:
            return task.loss(outputs, batch, jax.random.key(0))

        def scores(members: Sequence[Outputs]) -> Float[Array, "b *space k"]:
            return functools.reduce(jnp.add, map(task.scores, members)) / len(members)

        def compare(scores: Any, group: Group, label: jax.Array) -> jax.Array:
            return task.compare(task.decide(blend.blend(scores, group)[None]), label[None])[0]

        def classes(scores: Any, group: Group) -> jax.Array:
            return task.decide(blend.blend(scores, group)[None])[0].astype(jnp.uint8)

        def probabilities(scores: Any, group: Group) -> jax.Array:
            return task.probabilities(blend.blend(scores, group))

        jit = functools.partial(jax.jit, **options)
        self.outputs = jit(outputs)
        self.losses = jit(losses, out_shardings=everywhere)
        self.scores = jit(scores, out_shardings=self.by_row)
        self.scores_of_all = jit(scores, out_shardings=everywhere)
        self.add = jit(blend.blend, donate_argnums=0)
        self.compare, self.classes = jit(compare), jit(classes)
        self.probabilities = jit(probabilities)

    def read(self, what: Callable[..., jax.Array], groups: Sequence[Group], *more: Any) -> Any:
        """Return `what` of a tile, all windows of which are in `groups`."""
        *before, last = blend.together(groups)
        return what(functools.reduce(self.add, before, None), last, *more)


class Row(NamedTuple):
    """One row of an evaluation's batch: a piece of example `number`."""

    number: int
    cut: Cut
    windows: Windows
    piece: Piece


class Network:
    """A model with its variables as a `Predictor`; several of one kind are an ensemble.

    Args:
        forward: The compiled passes, shared by all variables of a model.
        variables: `{'params', 'batch_stats'}` on the devices.
        others: Further members, whose scores are averaged with these.
        batch_size: Windows of an image that go through the network at once; at least one for each
            device that takes examples.
    """

    def __init__(
        self,
        forward: Forward,
        variables: Mapping[str, Any],
        others: Sequence[tuple[Forward, Mapping[str, Any]]] = (),
        batch_size: int = 1,
    ):
        self.forward, self.variables, self.batch_size = forward, variables, batch_size
        self.members = [(forward, variables), *others]

    def __call__(self, image: Image, /) -> Prediction:
        """Return the prediction of one image.

        It goes through the network as in training: with `fit='resize'` scaled to the canvas, its
        scores scaled back; with `fit='pad'` at its own scale, in overlapping windows where it is
        larger. `config.inference` changes that. With `config.input.spacing` the image must know
        the size of its pixels, see `resample.spaced`.

        Raises:
            DataError: The image has another number of axes than the canvas, or no spacing.
        """
        classes = gather(self.tiles(image), image.shape[:-1])
        return Prediction(
            classes, lambda: gather(self.tiles(image, probabilities=True), image.shape[:-1])
        )

    def tiles(
        self, image: Image, /, *, probabilities: bool = False
    ) -> Iterator[tuple[Region, np.ndarray]]:
        """Yield the classes of one part of the image after the other; no array grows with it.

        All processes must call it with the same image.

        Args:
            image: An array, or what gives parts of one by `[region]`; see `resample.spaced`.
            probabilities: Yield the probability of each class instead.

        Raises:
            DataError: As above.
        """
        forward = self.forward
        what = forward.probabilities if probabilities else forward.classes
        schema = {"image": forward.schema["image"]}
        about = {"image": image, "name": "image", resample.FIELD: resample.spacing_of(image)}
        cut = Cut(about, forward.layout, schema)
        windows = Windows(cut.plan)
        rows = forward.mesh.shape["data"] * forward.mesh.shape["fsdp"]
        several = max(1, self.batch_size // rows) * rows
        size = several if len(cut.plan.pieces) >= several else rows
        previous: list[tuple[Tile, jax.Array]] = []
        for pieces in chunks(cut.plan.pieces, size):
            batch = np.stack([cut.fields(piece)["image"] for piece in repeat(pieces, size)])
            placed = jax.device_put(batch, forward.placement["image"])
            found = blend.rows_of(self._scores(self._outputs(placed), of_all=True))
            for piece, row in zip(pieces, found, strict=False):
                windows.add(piece, row)
            launched = [(tile, forward.read(what, groups)) for tile, groups in windows.ready()]
            yield from fetched(previous)
            previous = launched  # one late: the devices work on the next meanwhile
        yield from fetched(previous)

    def _outputs(self, images: jax.Array) -> list[Outputs]:
        found = []
        for forward, variables in self.members:
            found.append(forward.outputs(variables, images))
            quirks.one_at_a_time(found[-1])
        return found

    def _scores(self, outputs: list[Outputs], *, of_all: bool) -> jax.Array:
        forward = self.forward
        several = of_all and jax.process_count() > 1
        if len(outputs) == 1 and not several:
            scores = forward.task.scores(outputs[0])  # of float32 they are the outputs' own array
            if scores.sharding.is_equivalent_to(forward.by_row, scores.ndim):
                return scores
        scores = (forward.scores_of_all if several else forward.scores)(outputs)
        quirks.one_at_a_time(scores)
        return scores

    def measure(
        self, source: core.Source, /, *, batch_size: int, threads: int
    ) -> Iterator[Measured]:
        """Yield counts and loss; windows of several images go through the network together.

        The counts are of labels as the source has them: no pixel of theirs is scaled or left out.
        The loss is that of training, on the canvas; an ensemble has none.
        """
        rows_each = batch_size // self.forward.row_block[1]
        counting, previous = Counting(rows_each, self._counts_shape()), None
        schema = {name: source.schema[name] for name in self.forward.schema}  # its own types
        for rows in batches_of(
            source, lambda example: Cut(example, self.forward.layout, schema),
            batch_size=batch_size, threads=threads, row_block=self.forward.row_block,
        ):  # fmt: skip
            launched = self._launch(rows, batch_size, schema)
            if previous is not None:
                yield counting.add(*previous)
            previous = launched  # one late: the devices work on the next meanwhile
        if previous is not None:
            yield counting.add(*previous)

    def _counts_shape(self) -> tuple[int, ...]:
        """Return the shape of one example's counts."""
        task, dims = self.forward.task, len(self.forward.layout.canvas.size)
        scores = jax.ShapeDtypeStruct((1,) * (dims + 1) + (task.num_classes,), np.float32)
        label = (1,) * (dims + 1) + self.forward.schema["label"].shape
        count = jax.eval_shape(
            lambda scores, label: task.compare(task.decide(scores), label),
            scores,
            jax.ShapeDtypeStruct(label, np.int32),
        )
        return count.shape[1:]

    def _launch(self, rows: list[Row], batch_size: int, schema: Schema) -> tuple[Counts, Any]:
        """Start the passes over one batch; return each example's counts, and the loss."""
        forward = self.forward
        _, blocks = forward.row_block
        batch = stack(rows, batch_size // blocks, schema, forward.layout)
        placed = sharding.put(batch, forward.placement, blocks)
        outputs = self._outputs(placed["image"])
        loss = {}
        if len(outputs) == 1:
            loss = forward.losses(outputs[0], placed)
            quirks.one_at_a_time(loss)
        found = blend.rows_of(self._scores(outputs, of_all=False))
        counts = []
        for row, scores in zip(rows, found, strict=False):
            row.windows.add(row.piece, scores)
            label = row.cut.example["label"]
            for tile, groups in row.windows.ready():
                part = cut_label(label, tile, row.cut.plan.side)
                counts.append((row.number, forward.read(forward.compare, groups, part)))
            if row.windows.is_done:
                counts.append((row.number, None))
        return counts, loss


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


def cut_label(label: Any, tile: Tile, side: Sequence[int]) -> np.ndarray:
    """Return the tile of a label [*space ...], void where it holds no pixel of it, int32."""
    found = np.full((*side, *label.shape[len(side) :]), IGNORE_LABEL, np.int32)
    found[tile.inner] = np.asarray(label[tile.region])
    return found


def fetched(found: list[tuple[Tile, jax.Array]]) -> Iterator[tuple[Region, np.ndarray]]:
    """Yield tiles as NumPy with their place in the image."""
    for tile, array in found:
        yield tile.region, np.asarray(array)[tile.inner]


def gather(tiles: Iterable[tuple[Region, np.ndarray]], whole: Sequence[int]) -> np.ndarray:
    """Return an array of the sides `whole` made of tiles that hold each pixel once."""
    rest = iter(tiles)
    first = next(rest)
    found = np.empty((*whole, *first[1].shape[len(whole) :]), first[1].dtype)
    for region, tile in itertools.chain([first], rest):
        found[region] = tile
    return found


class Counting:
    """The counts of examples whose tiles lie in several batches.

    Args:
        rows: Of this process in a batch, and so the most examples that it completes.
        shape: Of the counts of one example.
    """

    def __init__(self, rows: int, shape: Sequence[int]) -> None:
        self.rows, self.shape = rows, tuple(shape)
        self.open: dict[int, np.ndarray] = {}

    def add(self, counts: Counts, loss: Any) -> Measured:
        """Return the examples that are complete with this batch, on all processes, and its loss."""
        done: dict[int, np.ndarray] = {}
        for number, found in counts:
            if found is None:
                done[number] = self.open.pop(number)
            else:
                total = np.asarray(jax.device_get(found), np.int64)
                self.open[number] = self.open.get(number, 0) + total
        if jax.process_count() > 1:
            done = self._of_all(done)
        return Measured(done, jax.device_get(loss))

    def _of_all(self, done: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Return what all processes have completed; counts travel in halves, as JAX has int32."""
        numbers = np.full(self.rows, -1, np.int32)
        halves = np.zeros((self.rows, 2, *self.shape), np.int32)
        for row, (number, found) in enumerate(done.items()):
            numbers[row] = number
            halves[row] = found >> 31, found & (2**31 - 1)
        numbers, halves = multihost_utils.process_allgather((numbers, halves), tiled=True)
        totals = (halves[:, 0].astype(np.int64) << 31) + halves[:, 1]
        return {int(n): total for n, total in zip(numbers, totals, strict=True) if n >= 0}


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield `size` items at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))


def repeat(items: Sequence[T], count: int) -> list[T]:
    """Return `count` items: those, and the first again for what is missing."""
    return [*items, *[items[0]] * (count - len(items))]
