"""Turn a config section `dict(type='unet', …)` into the thing it names. Never imports jax."""

import difflib
import functools
import importlib
import importlib.machinery
import inspect
import os
import pathlib
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from segjax.config import annotations, kinds, rules
from segjax.errors import ConfigError

LISTED = 240
"""How many characters of known names a message lists."""
_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*(:[^\W\d]\w*)?")

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
    near = nearest(name, known)
    hint = f" Did you mean {near!r}?" if near else ""
    listed = ", ".join(sorted(known))
    if len(listed) > LISTED:
        listed = f"{listed[:LISTED].rpartition(', ')[0]}, …"
    return f"{hint} Known: {listed}."


def nearest(name: str, known: Sequence[str]) -> str:
    """Return the known name that another one stands for; empty: none comes near.

    One that is spelled nearly so; else one that is short for it, as `lr` is for `lrate` and for
    `learning_rate`, or a word of it; else what is spelled most alike.
    """
    name = name[:LISTED]
    words = [word for word in name.lower().split("_") if word]
    initials = "".join(word[0] for word in words)
    short = [key for key in known if len(key) > 1 and (key == initials or name.startswith(key))]
    parts = [key for key in known if len(key) > 2 and key in words]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    far = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return next(iter((*close, *sorted(short, key=len, reverse=True), *parts, *far)), "")


def choose(name: T, known: Sequence[T], *, what: str) -> T:
    """Return `name` if it is one of `known`; else raise `ConfigError`, calling it `what`."""
    if name not in known:
        raise ConfigError(f"{what}={rules.shown(name)} is none of {', '.join(map(str, known))}.")
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
    here = f"{where}.type={rules.shown(type_)}"
    if not isinstance(type_, str) or not _NAME.fullmatch(type_):
        raise ConfigError(f"{here}: expected a name, such as 'unet' or 'pixel:focal'.")
    module_name, _, symbol = type_.partition(":")
    path, outside = f"segjax.{package}.{module_name}", is_outside(type_)
    if outside:
        path = module_name
        check_in_project(path, where=f"{where}.type={type_!r}")
    elif not modules(package):  # a plain module, whose functions are the types
        path, symbol = f"segjax.{package}", type_
    elif module_name not in modules(package):
        known = suggest(module_name, modules(package))
        raise ConfigError(f"{here}: no module {rules.cut(path)}.{known}")
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(
            f"{here}: no module {rules.cut(path)}.{suggest(module_name, modules(package))}"
        ) from None
    symbol = symbol or SYMBOLS.get(package, "")
    camel = "".join(word.capitalize() for word in symbol.split("_"))
    found = None if symbol.startswith("_") else getattr(module, symbol, None)
    found = found or (getattr(module, camel, None) if symbol else None)
    own = (inspect.isclass(found) or inspect.isfunction(found)) and found.__module__ == path
    if found is None or not own:
        raise ConfigError(
            f"{here}: {path} has no {rules.shown(symbol or 'default symbol')}."
            f"{suggest(symbol, [snake_case(name) for name in symbols(module)])}"
        )
    return found


def is_outside(type_: str) -> bool:
    """Return whether a `type` names code that is not of segjax, by its module's full path."""
    return "." in type_.partition(":")[0]


def check_in_project(path: str, *, where: str) -> None:
    """Refuse a module that is not of the project: below the current folder or one of `PYTHONPATH`.

    Raises:
        ConfigError: It is of Python itself, of an installed package, or nowhere; nothing of it was
            imported.
    """
    project, first = pathlib.Path.cwd(), path.partition(".")[0]
    named = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    projects = {project.resolve(), *(pathlib.Path(folder).resolve() for folder in named)}
    spec = importlib.machinery.PathFinder.find_spec(first)
    places = [*(spec.submodule_search_locations or [])] if spec else []
    places += [spec.origin] if spec and spec.origin else []
    inside = [place for place in places if projects & {*pathlib.Path(place).resolve().parents}]
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


def build(
    package: str,
    section: Mapping[str, Any],
    *,
    where: str,
    takes: Sequence[str] | None = None,
    or_takes: Sequence[Sequence[str]] = (),
    also: Iterable[str] = (),
    for_takers: Mapping[str, Any] | None = None,
    **given: Any,
) -> Any:
    """Build what `section` describes: a class is constructed, a function is bound to its arguments.

    Args:
        package: The segjax package (or module) that `section['type']` is looked up in.
        section: The config section: `type` and the keyword arguments, each used exactly once.
        where: The section's place in the config, for messages (`config.model`).
        takes: The positional arguments that a function, or what a class makes, is called with;
            None: not asked, as a class that is a part itself is not called.
        or_takes: Sets of others that it may be called with instead.
        also: Other keys that the section may have had, for suggestions.
        for_takers: Arguments that the program supplies to what takes them (`things`).
        **given: Arguments that the program itself supplies (`num_classes`), not the config.

    Raises:
        ConfigError: As `check`.
    """
    if for_takers and isinstance(section, Mapping) and "type" in section:
        known = _parameters(resolve(package, section["type"], where=where), where)
        given |= {name: value for name, value in for_takers.items() if name in known}
    asked: Any = {"takes": takes, "or_takes": or_takes, "also": also, "given": given}
    symbol = check(package, section, where=where, **asked)
    arguments = {name: value for name, value in section.items() if name != "type"}
    if inspect.isclass(symbol):
        return symbol(**arguments, **given)
    return functools.partial(symbol, **arguments, **given)


def check(
    package: str,
    section: Any,
    *,
    where: str,
    takes: Sequence[str] | None = None,
    or_takes: Sequence[Sequence[str]] = (),
    also: Iterable[str] = (),
    given: Iterable[str] = (),
) -> Callable[..., Any]:
    """Return what a section's `type` names, having checked all that `build` needs; see there.

    Raises:
        ConfigError: Unknown `type` or one of another kind of part; an unknown or missing argument,
            or a value that its annotation does not allow.
    """
    if not isinstance(section, Mapping) or "type" not in section:
        raise ConfigError(
            f"{where}: expected a section with a 'type' key, got {rules.shown(section)}."
        )
    symbol = resolve(package, section["type"], where=where)
    called_with = None if takes is None else [takes, *or_takes]
    _check_kind(package, symbol, section["type"], where, called_with, [*given])
    arguments = {name: value for name, value in section.items() if name != "type"}
    check_arguments(symbol, arguments, given, where=where, also=also)
    return symbol


def _check_kind(
    package: str,
    symbol: Callable[..., Any],
    type_: str,
    where: str,
    takes: Sequence[Sequence[str]] | None,
    given: Sequence[str],
) -> None:
    """Refuse what is no part of this kind: a loss where an op belongs, a schedule as optimiser.

    A part takes what the program gives it. Those of segjax name their positional arguments alike;
    of those from outside only the number counts.
    """
    outside, is_class = "." in type_.partition(":")[0], inspect.isclass(symbol)
    known = _parameters(symbol, where)
    fits = {*given} <= {*known} or (
        outside and any(p.kind is p.VAR_KEYWORD for p in known.values())
    )
    if package in SYMBOLS:  # whose other classes are what those are made of
        fits = fits and is_class and (outside or symbol.__name__ == SYMBOLS[package])
    elif package == "losses":
        fits = fits and (is_class or outside)
    elif package == "metrics":
        fits = fits and is_class
    fits = fits and not inspect.isabstract(symbol) and not getattr(symbol, "_is_protocol", False)
    if takes is not None:
        fits = fits and any(
            _takes(symbol, each, by_name=not outside, where=where) for each in takes
        )
    if not fits:
        asked = ", ".join((*(takes[0] if takes else ()), *given))
        wanted = asked or "what a part of this kind is given"
        raise ConfigError(
            f"{where}.type={rules.shown(type_)}: {symbol.__module__}.{symbol.__name__} is of "
            f"another kind: it does not take {wanted}. Name one that does."
        )


def _takes(symbol: Callable[..., Any], takes: Sequence[str], *, by_name: bool, where: str) -> bool:
    """Return whether a function, or what a class makes, is called with these arguments."""
    call: Any = symbol
    if inspect.isclass(symbol):
        call = next((vars(c)["__call__"] for c in symbol.__mro__ if "__call__" in vars(c)), None)
    if call is None:
        return False
    positional = [
        p
        for p in _parameters(call, where).values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name != "self"
    ]
    if by_name:
        return [p.name for p in positional] == [*takes]
    needed = [p for p in positional if p.default is p.empty]
    return len(needed) <= len(takes) <= len(positional)


def _parameters(symbol: Callable[..., Any], where: str) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(symbol).parameters
    except (ValueError, TypeError):
        raise ConfigError(
            f"{where}.type: {rules.shown(symbol)} does not say what it takes. Name a function or "
            "class of Python."
        ) from None


def check_arguments(
    symbol: Callable[..., Any],
    arguments: Any,
    given: Iterable[str],
    *,
    where: str,
    also: Iterable[str] = (),
) -> None:
    """Check a section's keys against the signature of what it configures, values against its types.

    Of a function only keyword-only arguments count: its positional ones are arrays that come later.
    `given` ones belong to the program; `parent` and `name` of a module belong to Flax.

    Raises:
        ConfigError: An argument that `symbol` does not take, one that it needs and does not get, or
            a value that its annotation does not allow.
    """
    if not isinstance(arguments, Mapping):
        raise ConfigError(
            f"{where}={rules.shown(arguments)}: expected a section, keys with values."
        )
    known = configurable(symbol, given, where=where)
    title = f"{symbol.__module__}.{symbol.__name__}"
    for key in arguments:
        if key not in known:
            names = suggest(str(key), [*known, *also])
            raise ConfigError(
                f"{where}.{rules.name(str(key))}: {title} takes no {rules.shown(key)}.{names}"
            )
    missing = [key for key, p in known.items() if p.default is p.empty and key not in arguments]
    if missing:
        raise ConfigError(f"{where}: {title} needs {', '.join(missing)}. Add it to the section.")
    for key, value in arguments.items():
        check_argument(symbol, known[key], value, where=f"{where}.{key}")


def check_argument(
    symbol: Callable[..., Any], parameter: inspect.Parameter, value: Any, *, where: str
) -> None:
    """Raise `ConfigError` for a value that the parameter's annotation does not allow."""
    annotation = annotations.resolved(symbol, parameter)
    if found := annotations.fault(annotation, value, where):
        if parameter.default is parameter.empty:
            remedy = f"Change it: {symbol.__module__}.{symbol.__name__} says what it is."
        else:
            remedy = f"Change it, or leave it out for {rules.shown(parameter.default)}."
        got = rules.shown(found.value)
        raise ConfigError(f"{found.where}={got}: expected {found.expected}. {remedy}")
    for part in annotations.metadata(annotation, kinds.Builds):
        check(part.package, value, where=where, given=part.given)


def configurable(
    symbol: Callable[..., Any], given: Iterable[str], *, where: str = "config"
) -> dict[str, inspect.Parameter]:
    """Return the parameters of a class or function that a config may give."""
    accepted = [inspect.Parameter.KEYWORD_ONLY]
    if inspect.isclass(symbol):
        accepted.append(inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = _parameters(symbol, where)
    others = {"parent", "name"} if {"parent", "name"} <= {*found} else set()  # a Flax module's
    return {
        name: p
        for name, p in found.items()
        if p.kind in accepted and name not in given and name not in others
    }


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
