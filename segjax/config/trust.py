"""Whose code a config may run: that of a run's folder stays inside segjax. Never imports jax."""

from collections.abc import Mapping
from typing import Any

from segjax.config import lookup, sections
from segjax.errors import ConfigError


def check(config: Mapping[str, Any], *, where: str) -> None:
    """Refuse a config that names code outside of segjax.

    A config file is a program that its user has chosen to run. The config that a run recorded is
    data, which may come from anybody.

    Raises:
        ConfigError: Some `type` is not one of segjax.
    """
    for key, value in sections.flatten(config).items():
        is_type = key.rpartition(".")[2] == "type" and isinstance(value, str)
        if is_type and lookup.is_outside(value):
            raise ConfigError(
                f"{where}: {key}={value!r} would run code that is not of segjax. Where you trust "
                "whoever made this run, add --trust_code (in Python trust_code=True)."
            )
