"""Start a run from weights that are already there: published ones, or those of another run."""

import dataclasses
import functools
import importlib
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from segjax import checkpoint, damage, lookup, workdir
from segjax import state as state_lib
from segjax.data import core
from segjax.errors import ConfigError, DataError
from segjax.pretrained import convert, files, hub
from segjax.pretrained.convert import Rule

WHERE = "config.model.pretrained"
PUBLISHERS = ("torchvision", "timm", "smp", "huggingface", "segjax")
PARTS = ("encoder", "model")


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """`config.model.pretrained`: what a run starts from, once, before its first step.

    Attributes:
        weights: A local `.safetensors` or `.pth`, `hf:<org>/<repo>[@revision][/file]`,
            `https://…`, `torchvision:<name>`, `timm:<name>`, or the workdir of another run
            (`runs/x`, `runs/x@best`, `runs/x@1200`; by default its best checkpoint if it keeps
            one, else its latest).
        publisher: Who named the arrays: 'torchvision', 'timm', 'smp', 'huggingface' or 'segjax'.
            Empty where `weights` says it: a workdir, `torchvision:`, `timm:`.
        part: 'encoder', also out of a whole network's file, or 'model'. Of a whole model the
            leaves that count classes are initialised anew where the file has other classes.
        sha256: Checksum of the file, or its first eight hex digits or more. A URL needs it, unless
            its name ends with it as torchvision's do.
        prefix: What the names of the arrays begin with, where a file holds the network twice
            (`state_dict_ema.`). Otherwise it is found.
    """

    weights: str
    publisher: str = ""
    part: str = "encoder"
    sha256: str = ""
    prefix: str = ""

    def __post_init__(self) -> None:
        lookup.choose(self.part, PARTS, what=f"{WHERE}.part")
        if self.publisher:
            lookup.choose(self.publisher, PUBLISHERS, what=f"{WHERE}.publisher")


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What was loaded: our leaves by path, and one line for the log."""

    leaves: dict[str, np.ndarray]
    message: str


class Weights:
    """What `config.model.pretrained` gives a run to start from, read at most once.

    Args:
        model: The section `config.model`.
        module: What it builds.
        image: A shape that it takes, [b h w c].

    Attributes:
        said: What the log is to say once they were put into a state.
    """

    def __init__(self, model: Mapping[str, Any], module: nn.Module, image: jax.ShapeDtypeStruct):
        self.said: list[str] = []
        self._read = functools.cache(
            lambda: load(model, module, image, shown=jax.process_index() == 0)
        )

    def read(self) -> None:
        """Read them, so that what is wrong with them is known early.

        Raises:
            UserError: They cannot be had, or do not fit.
        """
        self._read()

    def put(self, state: state_lib.TrainState) -> state_lib.TrainState:
        """Return a state at step 0 that has them."""
        loaded = self._read()
        self.said = [loaded.message] if loaded.message else []
        return state_lib.replace_variables(state, loaded.leaves) if loaded.leaves else state


def resumes(path: pathlib.Path, saving: Mapping[str, Any]) -> bool:
    """Return whether the run in the workdir `path` has a checkpoint, and so needs no weights."""
    folder = checkpoint.locate(path, saving.get("root", ""))
    return any(file.name.isdigit() for file in folder.glob("*"))


def options(model: Mapping[str, Any]) -> Pretrained | None:
    """Return what `config.model.pretrained` says, None where there is none.

    Raises:
        ConfigError: An unknown or missing key, or a value that is none of the known.
    """
    if "pretrained" not in model:
        return None
    lookup.check_arguments(Pretrained, model["pretrained"], [], where=WHERE)
    return Pretrained(**model["pretrained"])


def load(model: Mapping[str, Any], module: nn.Module, image: Any, *, shown: bool = True) -> Loaded:
    """Return the leaves that `config.model.pretrained` provides for a model.

    Args:
        model: The section `config.model`.
        module: What it builds.
        image: A shape that it takes, [b h w c].
        shown: Show the progress of a download.

    Raises:
        UserError: The weights cannot be had, or a leaf is not among them.
    """
    chosen = options(model)
    if chosen is None:
        return Loaded({}, "")
    target = part_of(variable_shapes(module, image), chosen.part)
    paths = [path for path, _ in convert.leaves(target)]
    if not paths:
        raise ConfigError(f"{WHERE}.part='encoder': the model has no encoder. Use part='model'.")
    state, publisher, source = fetch(chosen, shown=shown)
    tables = rules_of(publisher, chosen.part, model, module, image)
    axes = class_axes(module, image) if chosen.part == "model" else {}
    try:
        rules, names, state = pick(tables, state, target, chosen.prefix)
        leaves = convert.from_torch(state, target, rules, class_axes=axes)
    except DataError as error:
        raise DataError(f"{WHERE}.weights={chosen.weights!r}: {error}") from error
    new = [path for path in paths if path not in leaves]
    unused = [k for k in state if k not in names and not k.endswith("num_batches_tracked")]
    return Loaded(leaves, describe(chosen.part, source, paths, new, unused))


def pick(
    tables: Sequence[list[Rule]], state: convert.State, target: Any, prefix: str
) -> tuple[list[Rule], set[str], convert.State]:
    """Return the first table whose names a file has, the names, and the arrays at their prefix.

    Where the file has those of no table it is the first one: `from_torch` says what is missing.

    Raises:
        DataError: A leaf that the table has no name for, or a file that holds the network twice.
    """
    found = []
    paths = [path for path, _ in convert.leaves(target)]
    for rules in tables:
        places = convert.places(target, rules)
        unnamed = [path for path in paths if path not in places]
        if unnamed:
            raise DataError(
                f"the publisher has no name for {len(unnamed)} of {len(paths)} leaves, such as "
                f"{unnamed[0]}. Configure the model as it was published."
            )
        names = {place.name for place in places.values()}
        below = convert.below(state, names, prefix)
        found.append((rules, names, below))
        if names <= set(below):
            return found[-1]
    return found[0]


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


def fetch(chosen: Pretrained, *, shown: bool = True) -> tuple[convert.State, str, str]:
    """Return the arrays of a source, their publisher, and the source in words.

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
            f"{', '.join(PUBLISHERS)}."
        )
    path = hub.fetch(chosen.weights, sha256=chosen.sha256, shown=shown)
    return files.read(path), publisher, chosen.weights


def from_run(path: pathlib.Path, which: str) -> tuple[convert.State, str, str]:
    """Return the leaves of a run's checkpoint (averaged where it has averages), by our path."""
    saving = workdir.load_config(path)["checkpoint"]
    saving = {key: value for key, value in saving.items() if not key.startswith("save_")}
    with checkpoint.Checkpointer(path, **saving, read_only=True) as checkpointer:
        step = checkpointer.find(which)
    tree = damage.read(checkpointer.path / str(step) / "default")
    variables = tree["ema"] or {name: tree[name] for name in ("params", "batch_stats")}
    return dict(convert.leaves(variables)), "segjax", f"{path}, step {step}"


def rules_of(
    publisher: str, part: str, model: Mapping[str, Any], module: nn.Module, image: Any
) -> list[list[Rule]]:
    """Return the publisher's names for a model, or those its encoder may have, alone or in a model.

    Raises:
        ConfigError: They publish no such network; the message lists what they do.
    """
    if publisher == "segjax":
        return [our_rules(module, image)]
    found = []
    table = importlib.import_module(f"segjax.pretrained.{publisher}")
    encoder = getattr(module, "encoder", {})
    if encoder:
        encoder = with_defaults("encoders", encoder)
    if part == "encoder" and encoder["type"] in table.ENCODERS:
        found.append(convert.nested(table.ENCODERS[encoder["type"]](encoder), "encoder", ""))
    if model["type"] in table.MODELS:
        section = with_defaults("models", model) | {"encoder": encoder}
        try:
            found.append(table.MODELS[model["type"]](section))
        except ConfigError:  # they publish the model on other encoders
            if not found:
                raise
    if found:
        return found
    raise ConfigError(
        f"{publisher} publishes no {part} like this one ({model['type']!r}"
        f"{', encoder ' + repr(encoder['type']) if encoder else ''}). It has the encoders "
        f"{', '.join(sorted(table.ENCODERS)) or 'none'} and the models "
        f"{', '.join(sorted(table.MODELS)) or 'none'}."
    )


def with_defaults(package: str, section: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section with every field of what it builds."""
    built = lookup.resolve(package, section["type"], where=WHERE)
    fields = dataclasses.fields(built)
    defaults = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
    return {**defaults, **section}


def our_rules(module: nn.Module, image: Any) -> list[Rule]:
    """Return the rules of our own files, where a leaf's name is its path."""
    more = jax.ShapeDtypeStruct((*image.shape[:-1], image.shape[-1] + 1), image.dtype)
    stems = differences(variable_shapes(module, image), variable_shapes(module, more))
    first = [Rule(re.escape(path), r"\g<0>", "raw stem") for path in stems]
    return [*first, Rule(".*", r"\g<0>", "raw")]


def class_axes(module: Any, image: Any) -> dict[str, list[int]]:
    """Return the axes of a model's leaves that count classes, by path: those of its heads.

    Found by asking for one class more, so that no table has to name heads.
    """
    more = module.clone(num_classes=module.num_classes + 1)
    return differences(variable_shapes(module, image), variable_shapes(more, image))


def differences(one: Any, other: Any) -> dict[str, list[int]]:
    """Return the axes along which leaves of two trees of shapes have other lengths, by path."""
    pairs = zip(convert.leaves(one), convert.leaves(other), strict=True)
    axes = {
        path: [axis for axis, (a, b) in enumerate(zip(x.shape, y.shape, strict=True)) if a != b]
        for (path, x), (_, y) in pairs
    }
    return {path: found for path, found in axes.items() if found}


def variable_shapes(module: nn.Module, image: Any) -> dict[str, Any]:
    """Return a model's variables as shapes; computes nothing."""
    return jax.eval_shape(lambda x: module.init(jax.random.key(0), x, train=False), image)


def part_of(variables: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Return the variables of a whole model, or of its encoder only."""
    if part == "model":
        return dict(variables)
    return {name: {"encoder": x["encoder"]} for name, x in variables.items() if "encoder" in x}
