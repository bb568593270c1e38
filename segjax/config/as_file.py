"""A config as the text of a config file, each value with the reason for it. Never imports jax."""

import keyword
import pathlib
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from segjax.config import load, schema, sections
from segjax.errors import ConfigError

COLUMNS = 96
"""Of the lines of such a file."""
REASONS = "get_reasons"
"""The function of a config file that says why its values are as they are, by key."""


def reasons_of(name: str) -> dict[str, str]:
    """Return the reasons that a config file gives, `configs/x.py[:argument,…]`; none: it has none.

    Raises:
        ConfigError: As `load.load`.
    """
    path, _, argument = name.partition(":")
    file = pathlib.Path(path).expanduser()
    if file.suffix != ".py" or not load.has_function(file, REASONS):
        return {}
    found = load.from_python(file, argument, function=REASONS)
    return {str(key): str(reason) for key, reason in found.items()}


def lines(config: Mapping[str, Any], reasons: Mapping[str, str]) -> list[str]:
    """Return what is decided and why, for people: a value, and below it the reason."""
    found = []
    for key, value in values(config, first=reasons):
        if why := _reasons(key, reasons):
            found.append(f"{key} = {_one_line(value)}")
            found += [f"    {reason}" for reason in why]
    return found


def write(config: Mapping[str, Any], reasons: Mapping[str, str], *, title: str) -> str:
    """Return a config file in Python that makes this config, each value with its reason.

    What has its default is left out.

    Args:
        config: Plain data, with every default.
        reasons: By key, such as `input.size`.
        title: The first line of its docstring.
    """
    body: list[str] = []
    for key, value in values(config, first=reasons):
        for reason in _reasons(key, reasons):
            body += textwrap.wrap(f"# {reason}", COLUMNS - 4, subsequent_indent="# ")
        body += literal(value, before=f"config.{key} = ")
    quoted = title.replace("\\", "\\\\").replace('"""', "'''")
    return "\n".join(
        [
            f'"""{quoted}"""', "", "import ml_collections", "", "from segjax.config import schema",
            "", "", 'def get_config(arg: str = "") -> ml_collections.ConfigDict:',
            '    """Return the config; it takes no argument."""', "    config = schema.defaults()",
            *(f"    {line}" for line in body), "    return config", "",
        ]
    )  # fmt: skip


def literal(value: Any, *, before: str = "", after: str = "") -> list[str]:
    """Return plain data as Python is written by hand: on one line, or an item a line.

    Args:
        value: Plain data.
        before: What stands in front of it.
        after: What stands behind it.
    """
    short = before + _one_line(value) + after
    if len(short) <= COLUMNS - 8 or not isinstance(value, (dict, list)) or not value:
        return [short]
    first, last = "[", "]"
    items = [literal(item, after=",") for item in value] if isinstance(value, list) else []
    if isinstance(value, dict):
        first, last = ("dict(", ")") if _are_names(value) else ("{", "}")
        named = _are_names(value)
        items = [
            literal(item, before=f"{key}=" if named else f"{quote(key)}: ", after=",")
            for key, item in _ordered(value)
        ]
    inside = [f"    {line}" for lines in items for line in lines]
    return [before + first, *inside, last + after]


def _one_line(value: Any) -> str:
    if isinstance(value, dict):
        pairs = [(key, _one_line(item)) for key, item in _ordered(value)]
        if _are_names(value):
            return f"dict({', '.join(f'{key}={text}' for key, text in pairs)})"
        return f"{{{', '.join(f'{quote(key)}: {text}' for key, text in pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_one_line, value))}]"
    return quote(value) if isinstance(value, str) else repr(value)


def quote(text: str) -> str:
    """Return a text as Python writes it, in double quotes where that needs no more signs."""
    plain = repr(text)
    return f'"{plain[1:-1]}"' if plain[0] == "'" and '"' not in plain else plain


def _are_names(section: Mapping[str, Any]) -> bool:
    return all(key.isidentifier() and not keyword.iskeyword(key) for key in section)


def _ordered(section: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the items of a section, its type first."""
    return sorted(section.items(), key=lambda item: item[0] != "type")


def values(config: Mapping[str, Any], *, first: Iterable[str] = ()) -> list[tuple[str, Any]]:
    """Return key and value of what has not its default: sections with a `type` as a whole.

    Those that hold one of the keys `first` come first, in that order.
    """
    usual: dict[str, Any] = sections.plain(schema.defaults())
    found = list(_differing(sections.section(config), usual, ""))
    order = {name: place for place, name in reversed([*enumerate(first)])}

    def place(item: tuple[str, Any]) -> int:
        own = [order[name] for name in order if f"{name}.".startswith(f"{item[0]}.")]
        return min(own, default=len(order))

    return sorted(found, key=place)


def _differing(
    config: Mapping[str, Any], usual: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if key in usual and usual[key] == value:
            continue
        common = usual.get(key)
        if isinstance(value, dict) and isinstance(common, dict) and common:
            if "type" not in value:
                yield from _differing(value, common, f"{prefix}{key}.")
                continue
            if (
                "type" not in common
            ):  # keys of every optimiser: those at their default are filled in
                value = {k: v for k, v in value.items() if k not in common or common[k] != v}
        yield prefix + key, value


def _reasons(key: str, reasons: Mapping[str, str]) -> list[str]:
    """Return the reasons of a key and of those below it, each once."""
    own = [
        reason if name == key else f"{name.removeprefix(f'{key}.')}: {reason}"
        for name, reason in reasons.items()
        if name == key or name.startswith(f"{key}.")
    ]
    return [*dict.fromkeys(own)]


def check_path(path: pathlib.Path) -> None:
    """Refuse a path that no config file can be written to.

    Raises:
        ConfigError: Another ending, or a file that is there: it may have been edited.
    """
    if path.suffix != ".py":
        raise ConfigError(
            f"--output={path}: a config is a file in Python. End its name with .py, such as "
            "configs/cells.py."
        )
    if path.exists():
        raise ConfigError(f"--output={path}: is there already. Name another file, or move it away.")
