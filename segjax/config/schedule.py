"""Durations with their unit: configs speak epochs, examples, percent or steps; the loop only steps.

Never imports jax.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from segjax.config import rules
from segjax.errors import ConfigError

UNITS = ("steps", "epochs", "examples", "percent")


class Clock(NamedTuple):
    """What turns a duration into steps.

    Attributes:
        batch_size: Examples in a global batch.
        num_examples: Examples in the training split.
        total_steps: The run's length; 0 while it is not known yet.
    """

    batch_size: int
    num_examples: int
    total_steps: int = 0


def in_steps(section: Mapping[str, Any], names: tuple[str, ...], clock: Clock, where: str) -> dict:
    """Return `section` with each duration of `names` as `<name>_steps`, whatever unit it came in.

    `warmup_epochs=2` becomes `warmup_steps=…`; a positive duration is at least one step. A name
    that is not there stays away, so that defaults apply.

    Raises:
        ConfigError: Two units for one name, a negative value, or percent before the total is known.
    """
    result = dict(section)
    for name in names:
        if key := key_of(section, name, where):
            result[f"{name}_steps"] = _steps(result.pop(key), key, clock, where)
    return result


def key_of(section: Mapping[str, Any], name: str, where: str) -> str:
    """Return the key that the duration `name` has in `section`; empty: none.

    Raises:
        ConfigError: It is there in two units.
    """
    given = [f"{name}_{unit}" for unit in UNITS if f"{name}_{unit}" in section]
    if len(given) > 1:
        raise ConfigError(f"{where}: {' and '.join(given)} say the same thing. Keep one.")
    return given[0] if given else ""


def rule_of(unit: str) -> rules.Rule:
    """Return what a duration in this unit may be."""
    if unit in ("steps", "examples"):
        return rules.whole(0, rules.MANY if unit == "steps" else 2**53)
    return rules.number(0, 100 if unit == "percent" else rules.MANY)


def other_unit(section: Mapping[str, Any], key: str) -> str:
    """Return the key that says the duration `key` in another unit in `section`; empty: none."""
    name, _, unit = key.rpartition("_")
    others = [f"{name}_{other}" for other in UNITS if unit in UNITS and other != unit]
    return next((other for other in others if other in section), "")


def _steps(value: float, key: str, clock: Clock, where: str) -> int:
    unit = key.rsplit("_", 1)[1]
    if not (rule := rule_of(unit)).holds(value):
        raise ConfigError(f"{where}.{key}={rules.shown(value)}: expected {rule.expected}.")
    if unit == "percent" and not clock.total_steps:
        raise ConfigError(f"{where}.{key}: a share of the total needs another unit for the total.")
    per_unit = {
        "steps": 1.0,
        "epochs": clock.num_examples / clock.batch_size,
        "examples": 1 / clock.batch_size,
        "percent": clock.total_steps / 100,
    }[unit]
    steps = max(1, round(value * per_unit)) if value else 0
    if steps > rules.MANY:
        raise ConfigError(
            f"{where}.{key}={rules.shown(value)}: that is {steps} steps, expected at most "
            f"{rules.MANY}. Lower it."
        )
    return steps


def itstime(step: int, every_steps: int, total_steps: int) -> bool:
    """Say whether what is done every `every_steps` (0: at the end) is due after `step` steps."""
    return step == total_steps or (every_steps > 0 and step % every_steps == 0)
