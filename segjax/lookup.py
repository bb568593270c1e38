"""Turn a config section `dict(type='unet', widths=…)` into the thing it names. Never imports jax."""

import difflib
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

from segjax.errors import ConfigError

SYMBOLS = {
    "models": "Model",
    "data": "Source",
    "tasks": "Task",
    "evaluators": "Evaluator",
}
"""The symbol a bare module name stands for. The other packages name a function: `pixel:focal`."""


def suggest(name: str, known: list[str]) -> str:
    """Return the tail of an error message: the nearest known name, then all of them."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{hint} Known: {', '.join(sorted(known))}."


def resolve(package: str, type_: str, *, where: str) -> Callable[..., Any]:
    """Return the class or function that `type_` names inside `segjax.<package>`.

    `unet` is `segjax.models.unet.Model`; `pixel:focal` is `segjax.losses.pixel.focal`; a name with a
    dot in its module part is a full path outside the package (`experiments.study.losses:boundary`).

    Raises:
        ConfigError: No such module or symbol. An import error *inside* a module is not disguised.
    """
    module_name, _, symbol = type_.partition(":")
    outside = "." in module_name
    path = module_name if outside else f"segjax.{package}.{module_name}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(
            f"{where}.type={type_!r}: no module {path}.{suggest(module_name, modules(package))}"
        ) from None
    symbol = symbol or SYMBOLS.get(package, "")
    found = getattr(module, symbol, None) if symbol else None
    if not callable(found) or (not outside and found.__module__ != path):
        raise ConfigError(
            f"{where}.type={type_!r}: {path} has no {symbol or 'symbol named'!r}."
            f"{suggest(symbol, symbols(module))} Write it as '<module>:<name>'."
        )
    return found


def build(package: str, section: Mapping[str, Any], *, where: str, **given: Any) -> Any:
    """Build what `section` describes: a class is constructed, a function is bound to its arguments.

    Args:
        package: The segjax package that `section['type']` is looked up in.
        section: The config section: `type` and the keyword arguments, each used exactly once.
        where: The section's place in the config, for messages (`config.model`).
        **given: Arguments that the program itself supplies (`num_classes`), not the config. Those that
            the function does not take are an error in segjax, not in the config.

    Raises:
        ConfigError: Unknown `type`, unknown, missing or doubly given argument.
    """
    if not isinstance(section, Mapping) or "type" not in section:
        raise ConfigError(f"{where}: expected a section with a 'type' key, got {section!r}.")
    symbol = resolve(package, section["type"], where=where)
    arguments = {name: value for name, value in section.items() if name != "type"}
    name = f"{symbol.__module__}.{symbol.__name__}"
    parameters = configurable(symbol, given)
    for key in arguments:
        if key not in parameters:
            raise ConfigError(
                f"{where}.{key}: {name} takes no {key!r}.{suggest(key, list(parameters))}"
            )
    missing = [key for key, required in parameters.items() if required and key not in arguments]
    if missing:
        raise ConfigError(f"{where}: {name} needs {', '.join(missing)}. Add it to the section.")
    if inspect.isclass(symbol):
        return symbol(**arguments, **given)
    return functools.partial(symbol, **arguments, **given)


def configurable(symbol: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, bool]:
    """Return the arguments that a config may set, and whether each is required.

    Of a function only the keyword-only ones count: its positional arguments are arrays that come later.
    `given` ones belong to the program; `parent` and `name` belong to Flax.
    """
    parameters = inspect.signature(symbol).parameters.values()
    kinds = (
        (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        if inspect.isclass(symbol)
        else (inspect.Parameter.KEYWORD_ONLY,)
    )
    return {
        p.name: p.default is inspect.Parameter.empty
        for p in parameters
        if p.kind in kinds and p.name not in given and p.name not in ("parent", "name")
    }


def modules(package: str) -> list[str]:
    """List the module names of `segjax.<package>` without importing them."""
    root = importlib.import_module(f"segjax.{package}")
    return [module.name for module in pkgutil.iter_modules(root.__path__)]


def symbols(module: Any) -> list[str]:
    """List the public functions and classes that `module` itself defines."""
    return [
        name
        for name, value in vars(module).items()
        if callable(value)
        and not name.startswith("_")
        and getattr(value, "__module__", "") == module.__name__
    ]
