"""What a key of a config is, and how tables of keys are filled and checked. Never imports jax."""

import copy
import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from segjax.config import lookup, rules, schedule
from segjax.errors import ConfigError

REQUIRED = object()
"""In place of a default: every config has to say it."""


@dataclasses.dataclass(frozen=True)
class Knob:
    """A key with a plain value.

    Attributes:
        default: Its value where neither config nor run has one, or `REQUIRED`.
        rule: What it takes.
        doc: What it does. Ends the message about a wrong value.
    """

    default: Any
    rule: rules.Rule
    doc: str


@dataclasses.dataclass(frozen=True)
class Duration:
    """A number with its unit in the key: one of `<name>_steps`, `<name>_epochs`, ….

    Attributes:
        default: Its number, or `REQUIRED`.
        unit: The unit of the default.
        units: Those that the key may have.
        doc: What lasts so long, or happens so often.
    """

    default: Any
    unit: str
    doc: str
    units: tuple[str, ...] = schedule.UNITS


@dataclasses.dataclass(frozen=True)
class Typed:
    """A section with a `type`, or several.

    Attributes:
        default: The section where neither config nor run has one, or `REQUIRED`.
        doc: What it builds.
        common: Its keys whatever the type. Those with a default may be left out.
        many: `list` or `dict` of such sections; `None`: a single one.
    """

    default: Any
    doc: str
    common: "Mapping[str, Knob | Duration | Typed]" = dataclasses.field(default_factory=dict)
    many: type | None = None


Table = Mapping[str, "Knob | Duration | Typed | Table"]

SECTIONS = 100
"""The most sections that a list or a group of named ones may have."""
NAMES = re.compile(r"[A-Za-z_]\w{0,99}", re.ASCII)
"""The names of evaluators, which are names of files too."""
TYPE = Knob(REQUIRED, rules.NAME, "What the section builds, such as 'unet' or 'pixel:focal'.")


def fill(table: Table, given: Any) -> Any:
    """Return a section with the default of every key that it lacks; what is none stays as it is."""
    if not isinstance(given, Mapping):
        return given  # `check` says what is wrong with it
    filled = dict(given)
    for key, spec in table.items():
        if isinstance(spec, Duration):
            absent = not any(f"{key}_{unit}" in given for unit in spec.units)
            if absent and spec.default is not REQUIRED:
                filled[f"{key}_{spec.unit}"] = spec.default
        elif isinstance(spec, Mapping):
            filled[key] = fill(spec, given[key] if key in given else {})
        elif key in given or spec.default is not REQUIRED:
            value = given[key] if key in given else copy.deepcopy(spec.default)
            filled[key] = fill_spec(spec, value)
    return filled


def fill_spec(spec: Any, value: Any) -> Any:
    """Return the value of one key, filled as `fill` does where it is a section or several."""
    if not isinstance(spec, Typed):
        return value
    if spec.many is list and isinstance(value, list):
        return [fill(spec.common, item) for item in value]
    if spec.many is dict and isinstance(value, Mapping):
        return {name: fill(spec.common, item) for name, item in value.items()}
    return value if spec.many else fill(spec.common, value)


def check_table(
    table: Table,
    section: Any,
    where: str,
    *,
    typed: bool = False,
    documented: str = "segjax/config/schema.py",
) -> None:
    """Check keys and values.

    Args:
        table: What there is.
        section: What was given.
        where: Its place, for messages.
        typed: Other keys, and a lack of what has a default, are fine.
        documented: The file that says what each key is.

    Raises:
        ConfigError: The first that is wrong, and what was expected.
    """
    if not isinstance(section, Mapping):
        raise ConfigError(f"{where}={rules.shown(section)}: expected a section, keys with values.")
    known: dict[str, Any] = {}
    missing = []
    for name, spec in table.items():
        keys = [name]
        if isinstance(spec, Duration):
            keys = [f"{name}_{unit}" for unit in spec.units]
        known |= dict.fromkeys(keys, spec)
        optional = typed and not isinstance(spec, Mapping) and spec.default is not REQUIRED
        if not optional and not any(key in section for key in keys):
            missing.append(keys[0])
    for key in section:
        if key not in known and not typed:
            word = f"{where}.{rules.name(key)}"
            raise ConfigError(f"{word}: no such key.{lookup.suggest(key, list(known))}")
    for name, spec in table.items():
        if isinstance(spec, Duration):
            schedule.key_of(section, name, where)
    if missing:
        names = ", ".join(map(repr, missing))
        raise ConfigError(f"{where}: needs {names}. Add it: {documented} says what.")
    for key, value in section.items():
        if key in known:
            check_spec(known[key], value, f"{where}.{key}")


def check_spec(spec: Any, value: Any, where: str) -> None:
    """Check the value of one key.

    Raises:
        ConfigError: As `check_table`.
    """
    if isinstance(spec, Mapping):
        return check_table(spec, value, where)
    if isinstance(spec, Typed):
        return _check_typed(spec, value, where)
    duration = isinstance(spec, Duration)
    rule = schedule.rule_of(where.rpartition("_")[2]) if duration else spec.rule
    if not rule.holds(value):
        got = rules.shown(value)
        raise ConfigError(f"{where}={got}: expected {rule.expected}. {spec.doc}")


def _check_typed(spec: Typed, value: Any, where: str) -> None:
    items = {where: value}
    if spec.many and not isinstance(value, spec.many):
        kind = "a list of sections" if spec.many is list else "sections by name"
        got = rules.shown(value)
        raise ConfigError(f"{where}={got}: expected {kind}, each with a 'type'. {spec.doc}")
    if spec.many and len(value) > SECTIONS:
        raise ConfigError(
            f"{where}: {len(value)} sections, expected at most {SECTIONS}. {spec.doc}"
        )
    if spec.many is list:
        items = {f"{where}[{i}]": item for i, item in enumerate(value)}
    elif spec.many is dict:
        if odd := [name for name in value if not NAMES.fullmatch(name)]:
            raise ConfigError(
                f"{where}: {rules.shown(odd[0])} is no name. Use up to 100 letters, digits and '_'."
            )
        items = {f"{where}.{name}": item for name, item in value.items()}
    for place, item in items.items():
        if not isinstance(item, Mapping):
            got = rules.shown(item)
            raise ConfigError(f"{place}={got}: expected a section with a 'type'. {spec.doc}")
        check_table({"type": TYPE, **spec.common}, item, place, typed=True)
