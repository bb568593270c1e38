"""A network as a predictor: its passes compiled once, for images of any size."""

import functools
import itertools
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from segjax.data import core, resample
from segjax.data.lazy import Region
from segjax.inference import ahead, batches, blend
from segjax.inference import several as several_lib
from segjax.inference.blend import Group, Windows
from segjax.inference.layout import Layout, Tile
from segjax.inference.pieces import Cut
from segjax.inference.predictor import Image, Measured, Prediction
from segjax.layers import norm
from segjax.runtime import quirks, sharding, xla
from segjax.structs import IGNORE_LABEL, Batch, Schema
from segjax.tasks.base import DenseTask, Outputs

NARROW = ("bfloat16", "float16")
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
        ahead: The same in two programs, of variables alone and of the rest, where weights are
            rounded to be used; None where they are not, or no device holds them all.
        losses: `(outputs, batch) → terms of the loss`.
        scores: `(outputs of each member) → their mean [b *space k]`, each row whole on a device.
        scores_of_all: Likewise, and each row on every process.
        add: `(scores of a tile | None, group of windows) → scores [*tile k]`.
        compare: `(scores of a tile, label of the tile) → counts, as the task compares them`.
        classes: `(scores of a tile) → uint8 [*tile]`, of a multi-label task `[*tile k]`.
        probabilities: `(scores of a tile) → float32 [*tile k]`.
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
            with sharding.over(mesh), norm.merging():
                variables = sharding.replicate(variables, mesh)
                return model.apply(variables, normalize(image), train=False)

        def losses(outputs: Outputs, batch: Batch) -> dict[str, Any]:
            return task.loss(outputs, batch, jax.random.key(0))

        def scores(members: Sequence[Outputs]) -> Float[Array, "b *space k"]:
            return functools.reduce(jnp.add, map(task.scores, members)) / len(members)

        def compare(scores: jax.Array, label: jax.Array) -> jax.Array:
            return task.compare(task.decide(scores[None]), label[None])[0]

        def classes(scores: jax.Array) -> jax.Array:
            return task.decide(scores[None])[0].astype(jnp.uint8)

        jit = functools.partial(jax.jit, **options)
        self.outputs = jit(outputs)
        self.ahead = None
        if getattr(model, "compute_dtype", "") in NARROW and mesh.shape["fsdp"] == 1:
            self.ahead = ahead.Passes(
                outputs, options=options["compiler_options"],
                options_early=xla.options_of_one_run(),
            )  # fmt: skip
        self.losses = jit(losses, out_shardings=everywhere)
        self.scores = jit(scores, out_shardings=self.by_row)
        self.scores_of_all = jit(scores, out_shardings=everywhere)
        self.add = jit(blend.blend, donate_argnums=0)
        self.compare, self.classes = jit(compare), jit(classes)
        self.probabilities = jit(task.probabilities)

    def of(self, variables: Any) -> Callable[[jax.Array], Outputs]:
        """Return `outputs` with its variables: from images to outputs."""
        if self.ahead:
            return self.ahead.of(variables)
        return lambda image: self.outputs(variables, image)

    def blended(self, groups: Sequence[Group]) -> jax.Array:
        """Return the scores of a tile, all windows of which are in `groups`.

        They are in memory before anything looks at them: XLA would gather them anew for each look.
        """
        first, *others = blend.together(groups)
        return functools.reduce(self.add, others, self.add(None, first))


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
        self.members = [each.of(given) for each, given in ((forward, variables), *others)]

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
        return Prediction(classes, self._later(image))

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
        cut = self._cut(image)
        rows = self._rows
        size = max(1, self.batch_size // rows) * rows
        size = size if len(cut.plan.pieces) >= size else rows
        for _, tile, (array,) in self._passes([cut], size, lambda _: [what]):
            yield tile.region, array[tile.inner]

    def several(
        self, images: Sequence[Image], *, probabilities: Collection[int] = (), most: int = 8
    ) -> list[Prediction]:
        """Return the predictions of several images, whose windows go through the network together.

        Each is what predicting that image alone gives. All batches of a call have one shape: the
        smallest power of two that holds all windows, or `most`; so few shapes are ever compiled.

        Args:
            images: Of any sizes.
            probabilities: The numbers of the images of which probabilities are read in the same
                pass; of others the network is asked again when they are called.
            most: Windows that go through the network at once.

        Raises:
            DataError: As `__call__`, of any of them.
        """
        types = {image.dtype for image in images}
        if len(types) > 1:  # a batch has one type, and what 1 means depends on it
            return several_lib.by_type(self, images, probabilities=probabilities, most=most)
        forward, cuts = self.forward, [self._cut(image) for image in images]
        size = several_lib.shape_of(
            sum(len(cut.plan.pieces) for cut in cuts), rows=self._rows, most=most
        )
        whats = [
            [forward.classes, *[forward.probabilities] * (number in probabilities)]
            for number in range(len(cuts))
        ]
        found: list[list[np.ndarray]] = [[] for _ in cuts]
        for number, tile, arrays in self._passes(cuts, size, whats.__getitem__):
            whole = found[number]
            if not whole:
                sides = cuts[number].plan.whole
                whole += [np.empty((*sides, *a.shape[len(sides) :]), a.dtype) for a in arrays]
            for array, part in zip(whole, arrays, strict=True):
                array[tile.region] = part[tile.inner]
        return [
            Prediction(classes, (lambda known=known: known[0]) if known else self._later(image))
            for image, (classes, *known) in zip(images, found, strict=True)
        ]

    def _later(self, image: Image) -> Callable[[], np.ndarray]:
        return lambda: gather(self.tiles(image, probabilities=True), image.shape[:-1])

    @property
    def _rows(self) -> int:
        """The fewest rows that a batch has: one for each device that takes examples."""
        return self.forward.mesh.shape["data"] * self.forward.mesh.shape["fsdp"]

    def _cut(self, image: Image) -> Cut:
        schema = {"image": self.forward.schema["image"]}
        about = {"image": image, "name": "image", resample.FIELD: resample.spacing_of(image)}
        return Cut(about, self.forward.layout, schema)

    def _passes(
        self, cuts: Sequence[Cut], size: int, whats: Callable[[int], Sequence[Callable[..., Any]]]
    ) -> Iterator[tuple[int, Tile, list[np.ndarray]]]:
        """Yield the tiles of images, each image's in order, by its number.

        Args:
            cuts: The images.
            size: Rows of a batch.
            whats: What is read of the tiles of an image, see `Forward`.
        """
        forward, windows = self.forward, [Windows(cut.plan) for cut in cuts]
        pieces = [(number, piece) for number, cut in enumerate(cuts) for piece in cut.plan.pieces]
        previous: list[tuple[int, Tile, list[jax.Array]]] = []
        for chunk in batches.chunks(pieces, size):
            batch = [cuts[number].fields(piece)["image"] for number, piece in chunk]
            placed = jax.device_put(
                np.stack(batches.repeat(batch, size)), forward.placement["image"]
            )
            found = blend.rows_of(self._scores(self._outputs(placed), of_all=True))
            for (number, piece), row in zip(chunk, found, strict=False):
                windows[number].add(piece, row)
            launched = [
                (number, tile, [what(scores) for what in whats(number)])
                for number in dict.fromkeys(number for number, _ in chunk)
                for tile, groups in windows[number].ready()
                for scores in [forward.blended(groups)]
            ]
            yield from fetched(previous)
            previous = launched  # one late: the devices work on the next meanwhile
        yield from fetched(previous)

    def _outputs(self, images: jax.Array) -> list[Outputs]:
        found = []
        for member in self.members:
            found.append(member(images))
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
        for rows in batches.batches_of(
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

    def _launch(
        self, rows: list[batches.Row], batch_size: int, schema: Schema
    ) -> tuple[Counts, Any]:
        """Start the passes over one batch; return each example's counts, and the loss."""
        forward = self.forward
        _, blocks = forward.row_block
        batch = batches.stack(rows, batch_size // blocks, schema, forward.layout)
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
                counts.append((row.number, forward.compare(forward.blended(groups), part)))
            if row.windows.is_done:
                counts.append((row.number, None))
        return counts, loss


def cut_label(label: Any, tile: Tile, side: Sequence[int]) -> np.ndarray:
    """Return the tile of a label [*space ...], void where it holds no pixel of it, int32."""
    found = np.full((*side, *label.shape[len(side) :]), IGNORE_LABEL, np.int32)
    found[tile.inner] = np.asarray(label[tile.region])
    return found


def fetched(
    found: list[tuple[int, Tile, list[jax.Array]]],
) -> Iterator[tuple[int, Tile, list[np.ndarray]]]:
    """Yield what was read of tiles as NumPy arrays of a tile's full size."""
    for number, tile, arrays in found:
        yield number, tile, [np.asarray(array) for array in arrays]


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
