"""What a config's value may be, and how an error message says it. Never imports jax."""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

MOST = 10_000
"""Items of a list, where nothing else bounds them."""


class Rule(NamedTuple):
    """The values that a key takes.

    Attributes:
        expected: In words, after "expected".
        holds: Whether a value of plain data is one of them.
    """

    expected: str
    holds: Callable[[Any], bool]


def whole(low: int, high: int | None = None) -> Rule:
    """Take integers from `low` on, to `high` where there is one."""
    words = f"of at least {low}" if high is None else f"from {low} to {high}"
    return Rule(
        f"an integer {words}",
        lambda value: _is_int(value) and low <= value and (high is None or value <= high),
    )


def number(low: float, high: float = math.inf, *, open_ends: str = "") -> Rule:
    """Take finite numbers, integers too, from `low` to `high`.

    Args:
        low: The least.
        high: The greatest.
        open_ends: 'low' or 'high' where that end itself is excluded.
    """
    if open_ends == "low":
        words = f"a number above {low}"
    else:
        words = f"a number of at least {low}" if math.isinf(high) else f"a number from {low}"
    if not math.isinf(high):
        words += f" and below {high}" if open_ends == "high" else f" to {high}"

    def holds(value: Any) -> bool:
        finite = (_is_int(value) or isinstance(value, float)) and math.isfinite(value)
        excluded = {"low": low, "high": high, "": None}[open_ends]
        return finite and low <= value <= high and value != excluded

    return Rule(words, holds)


def one_of(*values: str) -> Rule:
    """Take one of a few strings."""
    return Rule(" or ".join(map(repr, values)), lambda value: value in values)


def each(rule: Rule, words: str, *, least: int = 0, most: int = MOST) -> Rule:
    """Take lists of what `rule` takes, as long as `least` to `most` say."""

    def holds(value: Any) -> bool:
        fits = isinstance(value, list) and least <= len(value) <= most
        return fits and all(map(rule.holds, value))

    return Rule(words, holds)


def pair(first: Rule, second: Rule) -> Rule:
    """Take lists of two."""

    def holds(value: Any) -> bool:
        two = isinstance(value, list) and len(value) == 2
        return two and first.holds(value[0]) and second.holds(value[1])

    return Rule(f"a pair of {first.expected} and {second.expected}", holds)


def _compiles(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(re.compile(value))
    except re.error:
        return False


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_size(value: Any) -> bool:
    sides = value if isinstance(value, list) and all(map(_is_int, value)) else []
    return 1 <= len(sides) <= 3 and min(sides) >= 1 and min(sides[-2:]) >= 32


FLAG = Rule("True or False", lambda value: isinstance(value, bool))
TEXT = Rule("a string", lambda value: isinstance(value, str))
NAME = Rule("a string that is not empty", lambda value: isinstance(value, str) and value != "")
PATTERN = Rule("a regular expression", _compiles)
SIZE = Rule("a list of 1 to 3 integers, the last two of them at least 32", _is_size)
SHARE = Rule(
    "-1 or an integer of at least 1", lambda value: _is_int(value) and (value == -1 or value >= 1)
)
