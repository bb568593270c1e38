"""A network as a predictor: its forward pass compiled once, images of any size."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from segjax.data import fit
from segjax.inference import resize, windows
from segjax.inference.predictor import Image, Prediction
from segjax.runtime import sharding, xla
from segjax.structs import Batch, Schema
from segjax.tasks.base import DenseTask


class Forward:
    """The forward pass of a model, compiled at first use, for any variables.

    Args:
        model: The network.
        task: Says what is measured of its outputs, and which scores they hold.
        normalize: From a batch's images to the model's input.
        mesh: Over which batches are split.
        schema: The fields of a batch.
        canvas: How images become one size.

    Attributes:
        measure: Jitted, `(variables, batch) → task.measure(…)` with the batch's `mask`.
        scores: Jitted, `(variables, image [b *space c]) → float32 scores [b *space k]`.
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
        self.task, self.mesh, self.canvas = task, mesh, canvas
        placement = sharding.batch_sharding(mesh, schema)
        self.place = placement["image"]
        options: Any = {"compiler_options": xla.xla_options(getattr(model, "compute_dtype", ""))}

        def forward(variables: Any, image: jax.Array) -> Any:
            return model.apply(sharding.replicate(variables, mesh), normalize(image), train=False)

        def measure(variables: Any, batch: Batch) -> dict[str, Any]:
            outputs = forward(variables, batch["image"])
            return task.measure(outputs, batch) | {"mask": batch["mask"]}

        def scores(variables: Any, image: jax.Array) -> jax.Array:
            return task.scores(forward(variables, image))

        self.measure = jax.jit(
            measure,
            in_shardings=(None, placement),
            out_shardings=task.placement(mesh) | {"mask": sharding.replicated(mesh)},
            **options,
        )
        self.scores = jax.jit(scores, **options)


class Network:
    """A model with its variables as a `Predictor`.

    Args:
        forward: The compiled passes, shared by all variables of a model.
        variables: `{'params', 'batch_stats'}` on the devices.
    """

    def __init__(self, forward: Forward, variables: Mapping[str, Any]):
        self.forward, self.variables = forward, variables

    def measure(self, batch: Batch, /) -> Mapping[str, Any]:
        """Return what the task measures of a batch."""
        return self.forward.measure(self.variables, batch)

    def scores(self, canvases: list[np.ndarray]) -> Iterator[Float[np.ndarray, "*space k"]]:
        """Yield the scores of images of canvas size, as many at once as the mesh has rows."""
        mesh = self.forward.mesh.shape
        rows = mesh["data"] * mesh["fsdp"]
        for start in range(0, len(canvases), rows):
            chunk = canvases[start : start + rows]
            batch = np.stack(chunk + chunk[:1] * (rows - len(chunk)))
            placed = jax.device_put(batch, self.forward.place)
            yield from np.asarray(self.forward.scores(self.variables, placed))[: len(chunk)]

    def __call__(self, image: Image, /) -> Prediction:
        """Return the prediction of one image.

        It goes through the network as in training: with `fit='resize'` scaled to the canvas, its
        scores scaled back; with `fit='pad'` at its own scale, in overlapping windows where it is
        larger.

        Raises:
            DataError: The image has another number of axes than the canvas.
        """
        canvas, size = self.forward.canvas, image.shape[:-1]
        fit.scaled_size(size, size=canvas.size, fit="resize", name="image")  # as many axes
        fits = all(n <= m for n, m in zip(size, canvas.size, strict=True))
        if canvas.fit == "resize" or fits:
            fitted, covered = fit.fit_image(
                image, size=canvas.size, fit=canvas.fit, pad_value=canvas.pad_value
            )
            scores = next(self.scores([fitted]))[tuple(map(slice, covered))]
            return Prediction(
                resize.argmax_at_size(scores, size), lambda: softmax(resize.at_size(scores, size))
            )
        options: Any = {"size": canvas.size, "pad_value": canvas.pad_value}
        classes = np.empty(size, np.uint8)
        for part, scores in windows.scored(image, self.scores, **options):
            classes[part] = scores.argmax(-1)
        return Prediction(classes, lambda: self._probabilities(image, options))

    def _probabilities(
        self, image: Image, options: Mapping[str, Any]
    ) -> Float[np.ndarray, "*space k"]:
        found = np.empty((*image.shape[:-1], self.forward.task.num_classes), np.float32)
        for part, scores in windows.scored(image, self.scores, **options):
            found[part] = softmax(scores)
        return found


def softmax(scores: Float[np.ndarray, "*space k"]) -> Float[np.ndarray, "*space k"]:
    """Return the probabilities of logits."""
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)
