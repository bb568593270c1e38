"""From a plain config to the objects it names: what training, evaluation and prediction share."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh

from segjax.augment import compose
from segjax.baselines import base as baselines
from segjax.baselines.predictor import Fitted
from segjax.config import lookup, sections, trials
from segjax.config import schema as schema_lib
from segjax.data import core, fit, resample, windows
from segjax.data import intensity as intensity_lib
from segjax.errors import ConfigError, DataError
from segjax.inference import postprocess as postprocess_lib
from segjax.inference import scaling
from segjax.inference.grouping import Grouping
from segjax.inference.layout import Layout
from segjax.inference.network import Forward, Network
from segjax.inference.objects import Finding, ObjectNetwork
from segjax.inference.predictor import ObjectPredictor, Predictor
from segjax.runtime import sharding
from segjax.structs import Amounts, Batch, Classes, Field, Key, Schema
from segjax.tasks.base import DenseTask, GroupingTask, ObjectTask, Task
from segjax.training import freeze
from segjax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a config describes, given the classes of its data.

    Attributes:
        model: Without what `optimizer.freeze` holds, see `trained`; or in its place a classical
            method, a `baselines.base.Method`, which has `init` but nothing to apply.
        trained: The model as the train step sees it.
        augment: Of a training batch, on the devices.
        normalize: From a batch's images to the model's input.
        canvas: How images of any size become one size in training.
        layout: How the network sees images of any size when it predicts, see `config.inference`.
        schema: The fields of a batch beside `mask` and `index`.
        window: Which windows training looks for, with `canvas.fit='window'`.
        intensity: What brings images to one scale on the host, `schema` and `canvas` are of it.
        resampling: The spacing to which images are brought before all else.
        postprocess: What is done to predictions before they are scored or written, as the config
            has it.
        steps: The same, built.
    """

    model: nn.Module
    trained: nn.Module
    task: Task
    augment: Callable[[Key, Batch], Batch]
    normalize: Callable[[jax.Array], jax.Array]
    mesh: Mesh
    canvas: fit.Canvas
    layout: Layout
    classes: Classes
    schema: Schema
    window: windows.Sampling = windows.PLAIN
    intensity: Sequence[intensity_lib.Find] = ()
    resampling: resample.Resampling = resample.NONE
    postprocess: Sequence[Mapping[str, Any]] = ()
    steps: Sequence[postprocess_lib.Step] = ()

    @property
    def multilabel(self) -> bool:
        """Whether classes overlap: a pixel may be of several, or of none."""
        return is_multilabel(self.task)

    @functools.cached_property
    def forward(self) -> Forward:
        """The compiled forward passes, for any variables of a model of pixels."""
        needed = {name: self.schema[name] for name in ("image", *self.task.needs)}
        return Forward(
            self.model, cast(DenseTask, self.task), normalize=self.normalize, mesh=self.mesh,
            schema=needed, layout=self.layout,
        )  # fmt: skip

    @functools.cached_property
    def finding(self) -> Finding:
        """The compiled pass, for any variables of a model that finds objects itself."""
        return Finding(
            self.model, cast(ObjectTask, self.task), normalize=self.normalize, mesh=self.mesh,
            schema=self.schema, layout=self.layout,
        )  # fmt: skip

    def predictor(self, variables: Mapping[str, Any]) -> Predictor | ObjectPredictor:
        """Return what predicts with some variables: the network, and what is done afterwards."""
        if isinstance(self.task, ObjectTask):
            return scaling.wrap_finding(ObjectNetwork(self.finding, variables), self.intensity)
        return self.finished(self.bare(variables))

    def bare(
        self,
        variables: Mapping[str, Any],
        others: Sequence[tuple[Forward, Mapping[str, Any]]] = (),
        batch_size: int = 1,
    ) -> Network | Fitted:
        """Return what predicts classes of pixels, with nothing done before or after.

        Args:
            variables: Of the model.
            others: Further members of an ensemble, see `Network`.
            batch_size: Windows that go through a network at once.

        Raises:
            ConfigError: An ensemble of classical methods.
        """
        if not isinstance(self.model, baselines.Method):
            return Network(self.forward, variables, others, batch_size)
        if others:
            raise ConfigError(
                f"an ensemble averages the scores of networks, and {baselines.title(self.model)!r} "
                "is a classical method. Name one --workdir and one --checkpoint."
            )
        return Fitted(self.model, variables["params"])

    def finished(self, bare: Network | Fitted) -> Predictor | ObjectPredictor:
        """Return what `bare` does, with what is done to images before and to predictions after."""
        if isinstance(bare, Fitted) and isinstance(self.task, GroupingTask):
            return scaling.wrap_finding(bare.finder(self.classes.things), self.intensity)
        found = postprocess_lib.wrap(scaling.wrap(bare, self.intensity), self.steps)
        return Grouping(found, self.task.group) if isinstance(self.task, GroupingTask) else found

    def about_scores(self, step: int, overrides: Sequence[str] = ()) -> dict[str, Any]:
        """Return what beside model and data decides scores, as `eval/<name>.json` records it."""
        found = sections.plain(dataclasses.asdict(self.layout))
        window = found.pop("canvas")
        canvas = {"size": window["size"], "fit": window["fit"]}
        found["postprocess"] = list(self.postprocess)
        about = {"checkpoint": step, "canvas": canvas, "inference": found}
        return about | {"overrides": list(overrides)}

    def image_shape(self) -> jax.ShapeDtypeStruct:
        """Return one image [1 *space c] as a shape."""
        return jax.ShapeDtypeStruct((1, *self.canvas.size, self.classes.channels), "float32")

    def variable_shapes(self) -> dict[str, Any]:
        """Return `{'params', 'batch_stats'}` as shapes with their placement."""
        image = self.image_shape()
        shapes = jax.eval_shape(lambda x: self.model.init(jax.random.key(0), x, train=False), image)
        shapes = {"params": shapes["params"], "batch_stats": shapes.get("batch_stats", {})}
        return sharding.with_placement(shapes, sharding.infer(shapes, self.mesh))


def classes_of(source: core.Source) -> Classes:
    """Return what a model must know of a data set."""
    channels = core.channels_of(source.schema)
    things = source.things if isinstance(source, core.ObjectSource) else ()
    things = things if "object_masks" in source.schema else ()  # where they are asked for
    return Classes(tuple(source.class_names), tuple(source.palette), channels, things)


def check_same_classes(source: core.Source, classes: Classes, *, where: str) -> None:
    """Refuse data whose classes or channels are not those that the model was made for.

    Raises:
        DataError: Other names, another order or number of them, or other channels.
    """
    found = classes_of(source)
    if found.class_names != classes.class_names:
        new = [name for name in found.class_names if name not in classes.class_names]
        gone = [name for name in classes.class_names if name not in found.class_names]
        what = f"it has {core.some(new)}, " if new else ""
        what += f"it lacks {core.some(gone)}, " if gone else ""
        raise DataError(
            f"{where}: the data has other classes than the training: "
            f"{what or 'they are in another order, '}and their numbers would mean other things. "
            "Name them as the training did, in its order, or train anew."
        )
    if found.things != classes.things:
        raise DataError(
            f"{where}: the data counts the objects of {_names(found, found.things)}, the training "
            f"did of {_names(found, classes.things)}. Use data of the same kind, and the same "
            "config.input.source.objects."
        )
    if found.channels != classes.channels:
        raise DataError(
            f"{where}: images have {found.channels} channels, those of the training "
            f"{classes.channels}. Use data of the same channels."
        )


def _names(classes: Classes, numbers: Sequence[int]) -> str:
    return core.some([classes.class_names[number] for number in numbers]) or "no class"


def recorded_classes(resolved: Mapping[str, Any]) -> Classes:
    """Return the classes that a run's `config.json` records."""
    palette = tuple((r, g, b) for r, g, b in resolved["palette"])
    things = tuple(resolved.get("things", ()))  # of a run before there were any
    names, amounts = tuple(resolved["class_names"]), recorded_amounts(resolved)
    return Classes(names, palette, resolved["channels"], things, amounts)


def recorded_amounts(resolved: Mapping[str, Any]) -> Amounts | None:
    """Return how much of each class a run's training split had; None: nothing asked for it."""
    if not (found := resolved.get("amounts")):
        return None
    pixels, around, images = (tuple(found[name]) for name in ("pixels", "around", "images"))
    return Amounts(pixels, around, images, found["examples"])


def make_source(
    config: Mapping[str, Any], split: str, *, where: str = "config.input"
) -> core.Source:
    """Return the data set of `config.input.source`, opened on `split`."""
    return lookup.build("data", config["input"]["source"], where=f"{where}.source", split=split)


def make_parts(
    config: Mapping[str, Any],
    classes: Classes,
    *,
    available: Schema | None = None,
    mesh: Mesh | None = None,
    total_steps: int = 0,
) -> Parts:
    """Build what a config describes; nothing is computed.

    Args:
        config: Checked, see `config.schema.check`.
        classes: Of the training data.
        available: The fields of the training data; None: those that the task needs.
        mesh: To run on; None: that of `config.mesh`, over all devices.
        total_steps: Of the training; 0: nobody trains.

    Raises:
        ConfigError: Any section that cannot be built, or a field that the data has not.
    """
    task, model = make_task_and_model(config, classes, total_steps=total_steps)
    normalize = lookup.build(
        "augment", config["normalize"], where="config.normalize", takes=("image",)
    )
    if mesh is None:
        mesh = sharding.make_mesh(**config["mesh"], trials=trials.count(config))
    inputs = config["input"]
    canvas = fit.Canvas(tuple(inputs["size"]), inputs["fit"], inputs["pad_value"])
    schema = select(available, task, classes, inputs["fields"])
    intensity = make_intensity(inputs["intensity"], classes.channels)
    schema = intensity_lib.scaled_schema(schema, intensity)
    ops = [
        lookup.build(
            "augment", op, where=f"config.augment[{i}]", takes=compose.OP, or_takes=compose.MIXES
        )
        for i, op in enumerate(config["augment"])
    ]
    augment = compose.make_augment(ops, schema, mesh)
    held = schema_lib.complete("optimizer", config["optimizer"])["freeze"]
    trained = freeze.frozen(model, held)
    resampling = resample.make_resampling(inputs, available)
    layout = make_layout(config["inference"], canvas, resampling)
    postprocess = config["inference"]["postprocess"]
    if isinstance(task, ObjectTask):
        check_whole(config["inference"])
    if postprocess and isinstance(task, (ObjectTask, GroupingTask)):
        raise ConfigError(
            "config.inference.postprocess: its steps are of class maps, and config.task finds "
            "objects. Set it to []."
        )
    if postprocess and is_multilabel(task):
        raise ConfigError(
            "config.inference.postprocess: its steps are of class maps, with one class for every "
            "pixel, and the classes of config.task overlap (multi-label). Set it to []."
        )
    steps = postprocess_lib.make_steps(postprocess, classes.class_names)
    window = windows.make_sampling(
        inputs["window"], classes.class_names, how=canvas.fit, multilabel=is_multilabel(task)
    )
    return Parts(
        model, trained, task, augment, normalize, mesh, canvas, layout, classes, schema, window,
        intensity, resampling, postprocess, steps,
    )  # fmt: skip


def make_task_and_model(
    config: Mapping[str, Any], classes: Classes, *, total_steps: int = 0
) -> tuple[Task, nn.Module]:
    """Return the task, and the model with as many answers as that asks for.

    Args:
        config: Checked.
        classes: Of the training data.
        total_steps: Of the training; 0: nobody trains.

    Raises:
        ConfigError: One of them cannot be built, or the task takes what another model gives.
    """
    task: Task = lookup.build(
        "tasks", config["task"], where="config.task",
        for_takers={
            "things": classes.things, "total_steps": total_steps, "amounts": classes.amounts,
        },
        num_classes=len(classes.class_names),
    )  # fmt: skip
    if baselines.is_method(config["model"]):
        model = lookup.build(
            "baselines", config["model"], where="config.model", num_classes=len(classes.class_names)
        )
        baselines.check_config(config, multilabel=is_multilabel(task))
        model.check(dims=len(config["input"]["size"]), channels=classes.channels)
    else:
        section = {key: value for key, value in config["model"].items() if key != "pretrained"}
        model = lookup.build(
            "models", section, where="config.model", also=["pretrained"],
            num_classes=task.num_classes,
        )  # fmt: skip
        check_precision(config["model"])
    gives, takes = (getattr(each, "outputs", "logits") for each in (model, task))
    if gives != takes:
        raise ConfigError(
            f"config.task.type={config['task']['type']!r}: takes {takes} from a model, and "
            f"{config['model']['type']!r} gives {gives}. Set another task or model."
        )
    return task, model


def is_multilabel(task: Task) -> bool:
    """Return whether a task's labels have a map for each class."""
    return task.needs.get("label") == "labels"


def make_intensity(
    sections: Sequence[Mapping[str, Any]], channels: int
) -> tuple[intensity_lib.Find, ...]:
    """Return what brings images of so many channels to one scale, from `config.input.intensity`.

    Raises:
        ConfigError: A step that cannot be, whatever the images are.
    """
    where = "config.input.intensity"
    steps = tuple(
        lookup.build("data.intensity", each, where=f"{where}[{i}]", takes=("values",))
        for i, each in enumerate(sections)
    )
    for find in steps:
        find(np.zeros((2, channels)))
    return steps


def make_layout(
    section: Mapping[str, Any],
    canvas: fit.Canvas,
    resampling: resample.Resampling = resample.NONE,
) -> Layout:
    """Return how images are seen, from `config.inference` and the canvas of training.

    Where training cuts windows out, images are seen at their own scale too, in all the windows that
    they take.

    Raises:
        ConfigError: It does not go with the number of the data's axes.
    """
    own = dict(section)
    size, how = own.pop("size"), own.pop("fit")
    if size and len(size) != len(canvas.size):
        raise ConfigError(
            f"config.inference.size={size}: {len(size)} sides, config.input.size has "
            f"{len(canvas.size)}. Give as many."
        )
    flips = own.pop("flips")
    if flips and (max(flips) >= len(canvas.size) or len(set(flips)) < len(flips)):
        raise ConfigError(
            f"config.inference.flips={flips}: expected different axes from 0 to "
            f"{len(canvas.size) - 1}. The last is along rows: [{len(canvas.size) - 1}] mirrors "
            "left and right."
        )
    if own["long_side"] and not own["short_side"]:
        raise ConfigError(
            f"config.inference.long_side={own['long_side']}: bounds what short_side makes of an "
            "image, which is 0. Set both."
        )
    scales = tuple(own.pop("scales"))
    if len(set(scales)) < len(scales):
        raise ConfigError(f"config.inference.scales={list(scales)}: expected different factors.")
    del own["batch_size"], own["postprocess"]
    how = how or ("pad" if canvas.fit == "window" else canvas.fit)
    window = fit.Canvas(tuple(size) or canvas.size, how, canvas.pad_value)
    spacing = {"spacing": resampling.spacing, "image_resampling": resampling.image}
    return Layout(window, flips=tuple(flips), scales=scales, **spacing, **own)


def check_whole(section: Mapping[str, Any]) -> None:
    """Refuse what joins several views of an image, which objects have no scores for.

    Raises:
        ConfigError: Which key.
    """
    for key, alone in (("flips", ()), ("scales", (1.0,))):
        if tuple(section[key]) != alone:
            raise ConfigError(
                f"config.inference.{key}={list(section[key])}: joins scores of pixels, and "
                f"config.task finds objects in whole images. Set it to {list(alone)}."
            )


def check_precision(section: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for float64 where JAX would quietly compute in float32."""
    for key in ("compute_dtype", "param_dtype"):
        if key in section and section[key] == "float64" and not jax.config.read("jax_enable_x64"):
            raise ConfigError(
                f"config.model.{key}='float64': JAX computes in 32 bits. Set the environment "
                "variable JAX_ENABLE_X64=1, or use 'float32'."
            )


def select(
    available: Schema | None, task: Task, classes: Classes, more: Sequence[str] = ()
) -> Schema:
    """Return the fields that a batch has: the image, what the task needs, and `more`.

    Raises:
        ConfigError: One that is not `available`, or of another kind than the task needs.
    """
    if available is None:
        behind = {"labels": (len(classes.class_names),)}
        known = core.object_schema(8)
        needed = {
            name: known.get(name, Field(kind, behind.get(kind, ())))
            for name, kind in task.needs.items()
        }
        return {"image": Field("image", (classes.channels,)), **needed}
    chosen = core.choose_fields(available, [*task.needs, *more])
    for name, kind in task.needs.items():
        if chosen[name].kind != kind:
            raise ConfigError(
                f"config.task needs {name!r} of kind {kind!r}; that of config.input.source is "
                f"{chosen[name].kind!r}. Use another task or source."
            )
    return chosen


def state_shapes(init: Callable[[jax.Array], TrainState], key: jax.Array, mesh: Mesh) -> Any:
    """Return the train state as shapes with their placement; nothing is computed."""
    shapes = jax.eval_shape(init, key)
    return sharding.with_placement(shapes, sharding.infer(shapes, mesh))
