"""A config from its file: Python with `get_config`, or the JSON of a run. Never imports jax."""

import ast
import importlib.machinery
import inspect
import os
import pathlib
import traceback
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

import ml_collections

from segjax.config import rules, schema, sections, trust
from segjax.errors import ConfigError, DataError, UserError
from segjax.runtime import reading

SOURCE_BYTES = 8 << 20
"""Of a config file."""
EXPECTED = "Expected configs/<file>.py[:argument,…] with a get_config, or a run's config.json."


def load(name: str, overrides: Iterable[str] = (), *, trust_code: bool = False) -> dict[str, Any]:
    """Return the config that a file describes, as plain data with every default.

    Args:
        name: `configs/x.py`, `configs/x.py:argument,…` or the `config.json` of a run, without what
            its data had added.
        overrides: Changes, such as `optimizer.lr=0.1`; see `sections.override`.
        trust_code: Take a run's config that names code outside of segjax, too.

    Raises:
        ConfigError: The file is not there or cannot be run, with the line and cause; it returns no
            config; it is a run's and not trusted; or an override that does not fit.
    """
    path, _, argument = name.partition(":")
    file = pathlib.Path(os.path.expanduser(path))
    if not reading.is_file(file):
        what = "a folder" if file.is_dir() else "no such file"
        raise ConfigError(f"--config={rules.cut(name)}: {what}. {EXPECTED}")
    if file.suffix == ".json":
        found = from_json(file)
        if not trust_code:
            trust.check(found, where=str(file))
    else:
        found = from_python(file, argument)
    return reviewed(sections.override(schema.fill(found), overrides))


def reviewed(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config whose data set is one of type 'reviewed' where it names a review."""
    source = config["input"].get("source")
    if not isinstance(source, dict) or "review" not in source or source.get("type") == "reviewed":
        return config
    own = {name: value for name, value in source.items() if name != "review"}
    if not source["review"]:
        return config | {"input": config["input"] | {"source": own}}
    around = {"type": "reviewed", "source": own, "review": source["review"]}
    return config | {"input": config["input"] | {"source": around}}


def from_json(file: pathlib.Path) -> dict[str, Any]:
    """Return the config in a JSON file.

    Raises:
        ConfigError: It holds none.
    """
    return {key: value for key, value in recorded(file).items() if key != "resolved"}


def recorded(file: pathlib.Path) -> dict[str, Any]:
    """Return what a run's `config.json` holds, with what its data had added as `resolved`.

    Raises:
        ConfigError: It holds no config.
    """
    try:
        found = reading.read_json(file)
    except (OSError, DataError) as error:
        raise ConfigError(f"{error} {EXPECTED}") from None
    if not isinstance(found, dict) or not isinstance(found.get("model"), dict):
        raise ConfigError(f"{file}: holds no config: no section 'model'. {EXPECTED}")
    return sections.section(found)


def from_python(
    file: pathlib.Path, argument: str, *, function: str = "get_config", expected: str = EXPECTED
) -> dict[str, Any]:
    """Return what a function of a Python file returns, as plain data.

    Args:
        file: The file.
        argument: What follows the colon after its name; empty: nothing.
        function: Another function of it.
        expected: What should have been named, for messages.

    Raises:
        ConfigError: The file does not run, has no such function, or it returns something else.
    """
    try:
        get = getattr(run(file), function, None)
        if not callable(get):
            raise ConfigError(f"{file}: has no function {function}. {expected}")
        if argument and not inspect.signature(get).parameters:
            raise ConfigError(f"{file}: {function} takes no argument, got {argument!r}.")
        found = get(argument) if argument else get()
        if not isinstance(found, (Mapping, ml_collections.ConfigDict)):
            kind = type(found).__name__
            raise ConfigError(f"{file}: {function} returned {kind}, expected a ConfigDict.")
        return sections.section(dict(found))  # a placeholder without a value is found here
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(describe(error, file)) from None


def has_function(file: pathlib.Path, function: str) -> bool:
    """Return whether a Python file defines a function; its code is not run."""
    try:
        tree = ast.parse(_code(file))
    except (OSError, SyntaxError, ValueError):
        return False
    return any(isinstance(node, ast.FunctionDef) and node.name == function for node in tree.body)


def _code(file: pathlib.Path) -> bytes:
    with reading.open_file(file, limit=SOURCE_BYTES) as stream:
        return stream.read()


def run(file: pathlib.Path) -> ModuleType:
    """Return the module that a file defines; it is not entered among the imported ones."""
    code = _code(file)
    loader = importlib.machinery.SourceFileLoader("config", str(file))
    module = ModuleType("config")
    module.__file__ = str(file)
    exec(loader.source_to_code(code, str(file)), module.__dict__)
    return module


def describe(error: BaseException, file: pathlib.Path) -> str:
    """Return file, line and cause of what went wrong in a config file, in one line."""
    text = rules.cut(" ".join(str(error).split()), 300) or "no message"
    if isinstance(error, OSError) and error.filename == str(file):
        return f"{file}: cannot be read: {error.strerror}. Check that it may be read."
    if isinstance(error, SyntaxError):
        line = f":{error.lineno}" if error.lineno else ""
        return f"{error.filename or file}{line}: {type(error).__name__}: {error.msg}."
    inside = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file)]
    line = f":{inside[-1].lineno}" if inside else ""
    return f"{file}{line}: {type(error).__name__}: {text}."
