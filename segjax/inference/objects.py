"""A network that finds objects, as an `ObjectPredictor`: compiled once, for images of any size."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from segjax.data import core, resample
from segjax.errors import DataError
from segjax.inference import batches
from segjax.inference import several as several_lib
from segjax.inference.batches import Row
from segjax.inference.layout import Layout
from segjax.inference.pieces import Cut
from segjax.inference.predictor import Detected, Detection, Image, Segments
from segjax.layers import norm
from segjax.runtime import quirks, sharding, xla
from segjax.structs import Schema
from segjax.tasks.base import ObjectTask, PanopticTask


class Finding:
    """The pass of a model that finds objects, compiled at first use, for any variables.

    Args:
        model: The network.
        task: Says which objects its outputs stand for.
        normalize: From a batch's images to the model's input.
        mesh: Over which batches are split.
        schema: Of a batch; the image is all that is read.
        layout: How images of any size are seen: each whole, on one canvas.

    Attributes:
        find: `(variables, image [b *space c]) → candidates [b m ...]`, each row on its devices.
        find_for_all: Likewise, every row on every process.
    """

    def __init__(
        self,
        model: nn.Module,
        task: ObjectTask,
        *,
        normalize: Callable[[jax.Array], jax.Array],
        mesh: Mesh,
        schema: Schema,
        layout: Layout,
    ):
        self.task, self.mesh, self.layout = task, mesh, layout
        self.schema: Schema = {"image": schema["image"]}
        self.placement = sharding.batch_sharding(mesh, self.schema)
        self.row_block = sharding.row_block(mesh)
        by_row = NamedSharding(mesh, PartitionSpec(sharding.EXAMPLES))
        options: Any = {"compiler_options": xla.xla_options(getattr(model, "compute_dtype", ""))}

        def find(variables: Any, image: jax.Array) -> Any:
            with sharding.over(mesh), norm.merging():
                variables = sharding.replicate(variables, mesh)
                return task.find(model.apply(variables, normalize(image), train=False))

        self.find = jax.jit(find, out_shardings=by_row, **options)
        self.find_for_all = jax.jit(find, out_shardings=sharding.replicated(mesh), **options)

    def see(self, example: Mapping[str, Any]) -> Cut:
        """Return an example on the canvas, whole.

        Raises:
            DataError: It is larger than the canvas and not scaled to it, or has other axes.
        """
        cut = Cut(example, self.layout, self.schema)
        if len(cut.plan.pieces) > 1:
            sides, canvas = (
                "x".join(map(str, each)) for each in (cut.plan.whole, self.layout.canvas.size)
            )
            raise DataError(
                f"{example['name']}: {sides} does not fit the canvas {canvas} at its own scale, "
                "and objects are found in whole images. Set config.inference.fit='resize', or a "
                "larger config.inference.size."
            )
        return cut


class ObjectNetwork:
    """A model with its variables as an `ObjectPredictor`.

    Args:
        finding: The compiled pass, shared by all variables of a model.
        variables: `{'params', 'batch_stats'}` on the devices.
    """

    def __init__(self, finding: Finding, variables: Mapping[str, Any]):
        self.finding, self.variables = finding, variables

    def __call__(self, image: Image, /) -> Detection:
        """Return what is found in one image [*space c], on its own grid.

        Raises:
            DataError: The image has another number of axes than the canvas, or is larger than it
                and is not scaled.
        """
        return self.several([image])[0]

    def several(
        self, images: Sequence[Image], *, probabilities: Collection[int] = (), most: int = 8
    ) -> list[Detection]:
        """Return what is found in each of several images, see `several.several`.

        Raises:
            DataError: As `__call__`, of any of them.
        """
        del probabilities  # objects have none
        if len({image.dtype for image in images}) > 1:
            return several_lib.by_type(self, images, probabilities=(), most=most)
        finding = self.finding
        cuts = [finding.see(_about(image)) for image in images]
        rows = finding.mesh.shape["data"] * finding.mesh.shape["fsdp"]
        size = several_lib.shape_of(len(cuts), rows=rows, most=most)
        found = []
        for chunk in batches.chunks(cuts, size):
            batch = [cut.fields(*cut.plan.pieces)["image"] for cut in chunk]
            placed = jax.device_put(
                np.stack(batches.repeat(batch, size)), finding.placement["image"]
            )
            candidates = jax.device_get(finding.find_for_all(self.variables, placed))
            for at, cut in enumerate(chunk):
                found.append(self._detection(jax.tree.map(lambda x, at=at: x[at], candidates), cut))
        return found

    def detect(
        self, source: core.Source, /, *, batch_size: int, threads: int
    ) -> Iterator[Detected]:
        """Yield what is found in this process's examples, batch by batch; without a loss.

        What a loss needs, proposals near the true objects, is made in training alone.
        """
        finding, previous = self.finding, None
        schema = {"image": source.schema["image"]}
        found = batches.batches_of(
            source, finding.see, batch_size=batch_size, threads=threads,
            row_block=finding.row_block,
        )  # fmt: skip
        with contextlib.closing(found):
            for rows in found:
                launched = rows, self._launch(rows, batch_size, schema)
                if previous is not None:
                    yield self._read(*previous)
                previous = launched  # one late: the devices work on the next meanwhile
        if previous is not None:
            yield self._read(*previous)

    def _launch(self, rows: list[Row], batch_size: int, schema: Schema) -> Any:
        finding = self.finding
        _, blocks = finding.row_block
        batch = batches.stack(rows, batch_size // blocks, schema, finding.layout)
        placed = sharding.put(batch, finding.placement, blocks)
        found = finding.find(self.variables, placed["image"])
        quirks.one_at_a_time(found)
        return found

    def _read(self, rows: list[Row], found: Any) -> Detected:
        """Return the objects of a batch's rows, which lie on this process's devices."""
        own = jax.tree.map(local_rows, found)
        detections = {
            row.number: self._detection(jax.tree.map(lambda x, at=at: x[at], own), row.cut)
            for at, row in enumerate(rows)
        }
        return Detected(detections, {})

    def _detection(self, found: Any, cut: Cut) -> Detection:
        """Return what one row of candidates stands for, on the image's own grid."""
        task, plan, segments = self.finding.task, cut.plan, None
        covered = tuple(axis.covered() for axis in plan.views[0].axes)
        if isinstance(task, PanopticTask):
            segments = Segments(*task.segments(found, covered, plan.whole))
        return Detection(task.objects(found, covered, plan.whole), plan.whole, segments)


def _about(image: Image) -> dict[str, Any]:
    return {"image": image, "name": "image", resample.FIELD: resample.spacing_of(image)}


def local_rows(array: jax.Array) -> np.ndarray:
    """Return the rows of a batch that lie on this process's devices, whole and in order."""
    blocks = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(block) for _, block in sorted(blocks.items())])
