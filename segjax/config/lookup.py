"""Turn a config section `dict(type='unet', …)` into the thing it names. Never imports jax."""

import difflib
import functools
import importlib
import importlib.machinery
import inspect
import pathlib
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from segjax.errors import ConfigError

T = TypeVar("T")

SYMBOLS = {
    "models": "Model",
    "encoders": "Encoder",
    "data": "Source",
    "tasks": "Task",
    "evaluators": "Evaluator",
}
"""The symbol a bare module name stands for. Others name a function or class: `pixel:focal`."""


def suggest(name: str, known: list[str]) -> str:
    """Return the tail of an error message: the nearest known name, then all of them."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{hint} Known: {', '.join(sorted(known))}."


def choose(name: T, known: Sequence[T], *, what: str) -> T:
    """Return `name` if it is one of `known`; else raise `ConfigError`, calling it `what`."""
    if name not in known:
        raise ConfigError(f"{what}={name!r} is none of {', '.join(map(str, known))}.")
    return name


def resolve(package: str, type_: str, *, where: str) -> Callable[..., Any]:
    """Return the class or function that `type_` names inside `segjax.<package>`.

    `unet` is `segjax.models.unet.Model`; `geometry:flip` is `segjax.augment.geometry.flip`, and
    `pixel:cross_entropy`, where no function has that name, the class `CrossEntropy`; `adamw` of the
    module `training.optim` is `segjax.training.optim.adamw`; a name with a dot before the colon is
    a full path outside (`experiments.study.losses:boundary`), below the current folder.

    Raises:
        ConfigError: No such module or symbol. An import error *inside* a module is not disguised.
    """
    module_name, _, symbol = type_.partition(":")
    path, outside = f"segjax.{package}.{module_name}", is_outside(type_)
    if outside:
        path = module_name
        check_in_project(path, where=f"{where}.type={type_!r}")
    elif not modules(package):  # a plain module, whose functions are the types
        path, symbol = f"segjax.{package}", type_
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(
            f"{where}.type={type_!r}: no module {path}.{suggest(module_name, modules(package))}"
        ) from None
    symbol = symbol or SYMBOLS.get(package, "")
    camel = "".join(word.capitalize() for word in symbol.split("_"))
    found = getattr(module, symbol, None) or getattr(module, camel, None) if symbol else None
    own = (inspect.isclass(found) or inspect.isfunction(found)) and found.__module__ == path
    if found is None or not own:
        raise ConfigError(
            f"{where}.type={type_!r}: {path} has no {symbol or 'default symbol'!r}."
            f"{suggest(symbol, [snake_case(name) for name in symbols(module)])}"
        )
    return found


def is_outside(type_: str) -> bool:
    """Return whether a `type` names code that is not of segjax, by its module's full path."""
    return "." in type_.partition(":")[0]


def check_in_project(path: str, *, where: str) -> None:
    """Refuse a module that is not of the project: a file below the current folder.

    Raises:
        ConfigError: It is of Python itself, of an installed package, or nowhere; nothing of it was
            imported.
    """
    project, first = pathlib.Path.cwd(), path.partition(".")[0]
    spec = importlib.machinery.PathFinder.find_spec(first)
    places = [*(spec.submodule_search_locations or [])] if spec else []
    places += [spec.origin] if spec and spec.origin else []
    inside = [place for place in places if project in pathlib.Path(place).resolve().parents]
    if not places:
        raise ConfigError(
            f"{where}: no module {path}. Expected a file below {project}, the current folder."
        )
    installed = first in sys.stdlib_module_names or any("site-packages" in p for p in places)
    if installed or len(inside) < len(places):
        raise ConfigError(
            f"{where}: {first} is not of this project. Expected a class or function in a file "
            f"below {project}, the current folder: write one there that calls it."
        )


def snake_case(name: str) -> str:
    """Return the name by which a config calls a class or function: `cross_entropy`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def build(package: str, section: Mapping[str, Any], *, where: str, **given: Any) -> Any:
    """Build what `section` describes: a class is constructed, a function is bound to its arguments.

    Args:
        package: The segjax package (or module) that `section['type']` is looked up in.
        section: The config section: `type` and the keyword arguments, each used exactly once.
        where: The section's place in the config, for messages (`config.model`).
        **given: Arguments that the program itself supplies (`num_classes`), not the config.

    Raises:
        ConfigError: Unknown `type`, unknown or missing argument.
    """
    if not isinstance(section, Mapping) or "type" not in section:
        raise ConfigError(f"{where}: expected a section with a 'type' key, got {section!r}.")
    symbol = resolve(package, section["type"], where=where)
    arguments = {name: value for name, value in section.items() if name != "type"}
    check_arguments(symbol, arguments, given, where=where)
    if inspect.isclass(symbol):
        return symbol(**arguments, **given)
    return functools.partial(symbol, **arguments, **given)


def check_arguments(
    symbol: Callable[..., Any],
    arguments: Mapping[str, Any],
    given: Iterable[str],
    *,
    where: str,
) -> None:
    """Check a section's keys against the signature of what it configures.

    Of a function only keyword-only arguments count: its positional ones are arrays that come later.
    `given` ones belong to the program; `parent` and `name` belong to Flax.

    Raises:
        ConfigError: An argument that `symbol` does not take, or one that it needs and does not get.
    """
    parameters = inspect.signature(symbol).parameters.values()
    kinds = [inspect.Parameter.KEYWORD_ONLY]
    if inspect.isclass(symbol):
        kinds.append(inspect.Parameter.POSITIONAL_OR_KEYWORD)
    known = {
        p.name: p.default is inspect.Parameter.empty
        for p in parameters
        if p.kind in kinds and p.name not in given and p.name not in ("parent", "name")
    }
    title = f"{symbol.__module__}.{symbol.__name__}"
    for key in arguments:
        if key not in known:
            raise ConfigError(
                f"{where}.{key}: {title} takes no {key!r}.{suggest(key, list(known))}"
            )
    missing = [key for key, required in known.items() if required and key not in arguments]
    if missing:
        raise ConfigError(f"{where}: {title} needs {', '.join(missing)}. Add it to the section.")


def modules(package: str) -> list[str]:
    """List the module names of the package `segjax.<package>` without importing them.

    All but `base`, which holds what the others share.
    """
    root = importlib.import_module(f"segjax.{package}")
    names = [module.name for module in pkgutil.iter_modules(getattr(root, "__path__", []))]
    return [name for name in names if name != "base"]


def symbols(module: Any) -> list[str]:
    """List the public functions and classes that `module` itself defines."""
    return [
        name
        for name, value in vars(module).items()
        if callable(value)
        and not name.startswith("_")
        and getattr(value, "__module__", "") == module.__name__
    ]
