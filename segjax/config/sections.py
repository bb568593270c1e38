"""Configs as plain data: structure arguments, overrides, text. Never imports jax."""

import ast
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import ml_collections
from ml_collections.config_flags import config_path

from segjax.config import lookup, rules, schedule
from segjax.errors import ConfigError

KINDS = {
    bool: "True or False", int: "an integer", float: "a number", str: "a string", list: "a list",
    dict: "a section", type(None): "nothing",
}  # fmt: skip
"""What the types of plain data are called in messages."""
DEPTH = 16
"""How deep lists and sections of a config may lie in each other."""
ABSENT = object()
"""In place of a value that is not there."""


def parse_arg(arg: str, **defaults: Any) -> SimpleNamespace:
    """Parse a config file's structure argument, `configs/x.py:encoder=resnet101,debug`.

    Each value takes the type of its default; a bare name is True. Structure goes here, scalars go
    by flag (`--config.optimizer.lr=0.01`).

    Raises:
        ConfigError: Unknown name, a name given twice, or a value of another type.
    """
    values = dict(defaults)
    seen: set[str] = set()
    for item in filter(None, arg.split(",")):
        name, _, text = item.partition("=")
        if name not in defaults:
            raise ConfigError(
                f"config argument {name!r} is unknown.{lookup.suggest(name, list(defaults))}"
            )
        if name in seen:
            raise ConfigError(f"config argument {name!r} is given twice in {arg!r}. Give it once.")
        seen.add(name)
        values[name] = _cast(name, text if "=" in item else "true", defaults[name])
    return SimpleNamespace(**values)


def _cast(name: str, text: str, default: Any) -> Any:
    kind = type(default)
    if kind is bool:
        if text.lower() in ("true", "false", "1", "0"):
            return text.lower() in ("true", "1")
    elif kind is str:
        return text
    else:
        try:
            return kind(text)
        except ValueError:
            pass
    raise ConfigError(f"config argument {name}={text!r}: expected {kind.__name__}.")


def plain(value: Any, *, depth: int = DEPTH) -> Any:
    """Return a config as JSON-ready data: ConfigDicts become dicts, tuples become lists.

    Raises:
        ConfigError: A value of another kind, an integer of more than 64 bits, or lists and sections
            more than `depth` deep.
    """
    if depth < 0:
        raise ConfigError(f"config: lists or sections more than {DEPTH} deep. Nest them less.")
    if isinstance(value, (Mapping, ml_collections.ConfigDict)):
        return {str(key): plain(item, depth=depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth=depth - 1) for item in value]
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ConfigError(f"config value {rules.shown(value)} is beyond 64 bits. Lower it.")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ConfigError(
        f"config value {rules.shown(value)} is not plain data (number, string, list, section)."
    )


def section(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a whole config, or one section of it, as plain data."""
    return {str(key): plain(item) for key, item in dict(config).items()}


def innermost(source: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the section of the data set that another one, such as 'folds', is made of; or it."""
    while isinstance(source.get("source"), Mapping):
        source = source["source"]
    return source


def flatten(config: Mapping[str, Any] | list, prefix: str = "") -> dict[str, Any]:
    """Return `{'optimizer.lr': 0.1, 'augment[0].type': 'geometry:flip', …}` of plain data."""
    items: Iterable = (
        ((f"{prefix}[{i}]", item) for i, item in enumerate(config))
        if isinstance(config, list)
        else ((f"{prefix}.{key}" if prefix else key, item) for key, item in config.items())
    )
    flat: dict[str, Any] = {}
    for path, item in items:
        sections = isinstance(item, list) and any(isinstance(x, Mapping) for x in item)
        flat |= flatten(item, path) if isinstance(item, Mapping) or sections else {path: item}
    return flat


def to_text(config: Mapping[str, Any]) -> str:
    """Return the golden text of a config: one `key = value` a line, sorted."""
    return "".join(f"{key} = {value!r}\n" for key, value in sorted(flatten(plain(config)).items()))


def override(config: dict[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Return a plain config after assignments such as `evals.val.batch_size=3`.

    A key that is there takes a value of its kind. A section with a `type` takes further arguments,
    which are checked when it is built; a duration may change its unit (`total_epochs=3` where there
    is `total_steps`). Values are Python literals; what is none is a string.

    Raises:
        ConfigError: No '=', no such key, or a value of another kind than the one it replaces.
    """
    config = section(config)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            shown = rules.cut(assignment)
            raise ConfigError(f"config.{shown}: no value. Write --config.<key>=<value>.")
        _assign(config, path, text)
    return config


def _assign(config: dict[str, Any], path: str, text: str) -> None:
    head, _, key = path.rpartition(".")
    old, parent = _get(config, path), _get(config, head) if head else config
    if old is not ABSENT:
        config_path.set_value(path, config, read(text, old, path))
        return
    other = schedule.other_unit(parent, key) if isinstance(parent, dict) else ""
    if not isinstance(parent, dict) or not (other or "type" in parent):
        known = lookup.suggest(path, list(flatten(config)))
        raise ConfigError(f"config.{rules.cut(f'{path}={text}')}: no such key.{known}")
    parent.pop(other, None)
    parent[key] = literal(text)


def _get(config: dict[str, Any], path: str) -> Any:
    try:
        return config_path.get_value(path, config)
    except (KeyError, IndexError, TypeError, ValueError):
        return ABSENT


def literal(text: str) -> Any:
    """Return the value that a text of the command line stands for."""
    try:
        return plain(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, ConfigError):
        return {"true": True, "false": False}.get(text.lower(), text)


def read(text: str, old: Any, path: str) -> Any:
    """Return the value that a text stands for in place of `old`.

    Raises:
        ConfigError: It is of another kind.
    """
    value = literal(text)
    if isinstance(old, str) and value is not None:
        return value if isinstance(value, str) else text
    if isinstance(old, float) and type(value) is int:
        return float(value)
    numbers = (int, float, list)  # ignore_index takes one or several
    alike = type(value) is type(old) or (type(value) in numbers and type(old) in numbers)
    if old is not None and not alike:
        got, expected = KINDS[type(value)], KINDS[type(old)]
        raise ConfigError(
            f"config.{rules.cut(f'{path}={text}')}: got {got}, expected {expected} as in "
            f"{rules.shown(old)}."
        )
    return value
