"""Configs as plain data: structure arguments, overrides, fingerprint, text. Never imports jax."""

import ast
import hashlib
import json
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import ml_collections

from segjax.config import lookup, schedule
from segjax.errors import ConfigError


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


SECTIONS = (
    "seed",
    "microbatches",
    "ema_decay",
    "log_batch_hashes",
    "deterministic_reduction",
    "task",
    "model",
    "input",
    "augment",
    "normalize",
    "optimizer",
    "mesh",
    "trials",
    "checkpoint",
    "evals",
)


def check_top_level(config: Mapping[str, Any]) -> None:
    """Refuse a config with an unknown or missing section; `total` and `log` are durations.

    Raises:
        ConfigError: The key, and what was meant.
    """
    durations = [f"{name}_{unit}" for name in ("total", "log") for unit in schedule.UNITS]
    for key in config:
        if key not in SECTIONS and key not in durations:
            raise ConfigError(
                f"config.{key}: no such section.{lookup.suggest(key, [*SECTIONS, *durations])}"
            )
    missing = [key for key in SECTIONS if key not in config]
    missing += [
        f"{n}_steps"
        for n in ("total", "log")
        if not any(k in config for k in durations if k.startswith(n))
    ]
    if missing:
        raise ConfigError(f"config: needs {', '.join(missing)}. configs/common.py has defaults.")


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


def plain(value: Any) -> Any:
    """Return a config as JSON-ready data: ConfigDicts become dicts, tuples become lists."""
    if isinstance(value, ml_collections.ConfigDict):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ConfigError(f"config value {value!r} is not plain data (number, string, list, section).")


def section(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a whole config, or one section of it, as plain data."""
    return {str(key): plain(item) for key, item in dict(config).items()}


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


def fingerprint(config: Mapping[str, Any]) -> str:
    """Return twelve hex digits that two configs share if and only if their values are equal."""
    canonical = json.dumps(plain(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def override(config: dict[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Return a plain config after assignments such as `evals.val.batch_size=3` to its keys.

    Raises:
        ConfigError: Unknown key, no '=', or a value of another type than the one it replaces.
    """
    config = section(config)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        known = flatten(config)
        if not equals or path not in known:
            raise ConfigError(
                f"--override={assignment}: no such key.{lookup.suggest(path, list(known))}"
            )
        try:
            value = plain(ast.literal_eval(text))
        except (ValueError, SyntaxError):
            value = text
        old = known[path]
        if isinstance(old, float) and type(value) is int:
            value = float(value)
        if type(value) is not type(old):
            raise ConfigError(
                f"--override={assignment}: got {type(value).__name__}, expected "
                f"{type(old).__name__} as in {path}={old!r}."
            )
        *parents, leaf = path.replace("[", ".").replace("]", "").split(".")
        node: Any = config
        for part in parents:
            node = node[int(part) if isinstance(node, list) else part]
        node[int(leaf) if isinstance(node, list) else leaf] = value
    return config
