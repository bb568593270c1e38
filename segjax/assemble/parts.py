"""From a plain config to the objects it names: what training, evaluation and prediction share."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh

from segjax.config import lookup
from segjax.data import core, fit
from segjax.errors import ConfigError
from segjax.runtime import sharding, xla
from segjax.structs import Batch, Schema
from segjax.training import state, step, trials


@dataclasses.dataclass(frozen=True)
class Canvas:
    """How images of any size become one size, from `config.input`.

    Attributes:
        size: The sides every image is fitted to, as many as the data has axes.
        fit: 'resize' (keep the aspect, then pad) or 'pad' (native pixels, padded; larger is an
            error).
        pad_value: Grey value of the padding, 0 to 255.
    """

    size: tuple[int, ...]
    fit: fit.Fit
    pad_value: int


@dataclasses.dataclass(frozen=True)
class Parts:
    """The parts of a run that depend on its config and its classes, but not on its data.

    Attributes:
        classes: `class_names`, `palette` and `channels` of the training data.
        eval_step: Compiled on first use: `(variables, batch) → task.measure(…)`.
    """

    model: nn.Module
    task: Any
    normalize: Callable[[jax.Array], jax.Array]
    mesh: Mesh
    canvas: Canvas
    classes: dict[str, Any]
    eval_step: Callable[[Any, Batch], dict]

    @property
    def schema(self) -> Schema:
        """The fields of a batch."""
        return core.semantic_schema(self.classes["channels"])

    def image_shape(self) -> jax.ShapeDtypeStruct:
        """Return one image [1 h w c] as a shape."""
        return jax.ShapeDtypeStruct((1, *self.canvas.size, self.classes["channels"]), "float32")

    def variable_shapes(self) -> dict[str, Any]:
        """Return `{'params', 'batch_stats'}` as shapes with their placement."""
        image = self.image_shape()
        shapes = jax.eval_shape(lambda x: self.model.init(jax.random.key(0), x, train=False), image)
        shapes = {"params": shapes["params"], "batch_stats": shapes.get("batch_stats", {})}
        return with_sharding(shapes, sharding.infer(shapes, self.mesh))


def with_sharding(shapes: Any, placement: Any) -> Any:
    """Return a tree of shapes that carry their placement."""
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
        placement,
    )


def classes_of(source: Any) -> dict[str, Any]:
    """Return what a model must know of its data, JSON-ready."""
    return {
        "class_names": list(source.class_names),
        "palette": [list(map(int, colour)) for colour in source.palette],
        "channels": core.channels_of(source.schema),
    }


def make_source(config: Mapping[str, Any], split: str, *, where: str = "config.input") -> Any:
    """Return the data set of `config.input.source`, opened on `split`."""
    return lookup.build("data", config["input"]["source"], where=f"{where}.source", split=split)


def make_parts(config: Mapping[str, Any], classes: dict[str, Any]) -> Parts:
    """Build model, task, normalisation and mesh.

    Raises:
        ConfigError: Any section that cannot be built.
    """
    num_classes = len(classes["class_names"])
    section = {key: value for key, value in config["model"].items() if key != "pretrained"}
    model = lookup.build("models", section, where="config.model", num_classes=num_classes)
    task = lookup.build("tasks", config["task"], where="config.task", num_classes=num_classes)
    normalize = lookup.build("augment", config["normalize"], where="config.normalize")
    lookup.check_arguments(sharding.make_mesh, config["mesh"], ["trials"], where="config.mesh")
    mesh = sharding.make_mesh(**config["mesh"], trials=trials.count(config))
    size = config["input"]["size"]
    fit.check_canvas(size)
    if min(size[-2:]) < 32:
        raise ConfigError(f"config.input.size={size}: expected at least 32 pixels on each side.")
    canvas = Canvas(tuple(size), config["input"]["fit"], config["input"]["pad_value"])
    batch = sharding.batch_sharding(mesh, core.semantic_schema(classes["channels"]))
    whole = sharding.replicated(mesh)
    eval_step = jax.jit(
        step.make_eval_step(model, task, normalize=normalize, mesh=mesh),
        in_shardings=(None, batch),
        out_shardings={"pred": batch["label"], "counts": whole, "loss": whole, "mask": whole},
        compiler_options=xla.xla_options(model.compute_dtype),
    )
    return Parts(model, task, normalize, mesh, canvas, classes, eval_step)


def state_shapes(init: Callable[[jax.Array], state.TrainState], key: jax.Array, mesh: Mesh) -> Any:
    """Return the train state as shapes with their placement; nothing is computed."""
    shapes = jax.eval_shape(init, key)
    return with_sharding(shapes, sharding.infer(shapes, mesh))
