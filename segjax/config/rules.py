"""What a config's value may be, and how an error message says it. Never imports jax."""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

LARGE = 1e30
"""The largest number that a config can mean: float32, in which steps compute, ends at 3e38."""
MANY = 2**31 - 1
"""The largest integer: steps and positions are counted in int32."""
ITEMS = 1000
"""The most items that a list may have."""
LONGEST = 4096
"""The most characters that a string may have."""


class Rule(NamedTuple):
    """The values that a key takes.

    Attributes:
        expected: In words, after "expected"; of a list as a whole, after "a list".
        holds: Whether a value of plain data is one of them.
    """

    expected: str
    holds: Callable[[Any], bool]


def whole(low: int, high: int = MANY) -> Rule:
    """Take integers from `low` to `high`."""
    return Rule(
        f"an integer from {low} to {high}",
        lambda value: is_int(value) and low <= value <= high,
    )


def odd(low: int, high: int) -> Rule:
    """Take odd integers from `low` to `high`."""
    return Rule(
        f"an odd integer from {low} to {high}",
        lambda value: is_int(value) and low <= value <= high and value % 2 == 1,
    )


def number(low: float, high: float = LARGE, *, open_ends: str = "") -> Rule:
    """Take numbers, integers too, from `low` to `high`.

    Args:
        low: The least.
        high: The greatest.
        open_ends: 'low' or 'high' where that end itself is excluded.
    """
    first = f"above {low:g}, up" if open_ends == "low" else f"from {low:g}"
    last = f"to below {high:g}" if open_ends == "high" else f"to {high:g}"

    def holds(value: Any) -> bool:
        excluded = {"low": low, "high": high, "": None}[open_ends]
        return is_number(value) and low <= value <= high and value != excluded

    return Rule(f"a number {first} {last}", holds)


def one_of(*values: str | int) -> Rule:
    """Take one of a few strings or integers."""

    def holds(value: Any) -> bool:
        return any(type(value) is type(one) and value == one for one in values)

    return Rule(f"{' or '.join(map(repr, values))}", holds)


def length(low: int, high: int) -> Rule:
    """Take lists of `low` to `high` items."""
    words = f"of {low} items" if low == high else f"of {low} to {high} items"
    return Rule(words, lambda value: low <= len(value) <= high)


def empty_or(count: int) -> Rule:
    """Take lists of `count` items or none."""
    return Rule(f"of {count} items or none", lambda value: len(value) in (0, count))


def interval(low: float, high: float = LARGE) -> Rule:
    """Take lists of two numbers in order, both from `low` to `high`."""
    return Rule(
        f"[lo, hi] with {low:g} <= lo <= hi <= {high:g}",
        lambda value: len(value) == 2 and low <= value[0] <= value[1] <= high,
    )


def each(rule: Rule, words: str, *, least: int = 0, most: int = ITEMS) -> Rule:
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


def either(first: Rule, second: Rule) -> Rule:
    """Take what one of two rules takes."""
    return Rule(
        f"{first.expected} or {second.expected}",
        lambda value: first.holds(value) or second.holds(value),
    )


def is_int(value: Any) -> bool:
    """Return whether a value is an integer, which a truth value is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Return whether a value is a finite float, or an integer that JAX takes for one: of int32."""
    if is_int(value):
        return abs(value) <= MANY
    return isinstance(value, float) and math.isfinite(value)


def is_text(value: Any) -> bool:
    """Return whether a value is a string that may name something: not endless, no zero byte."""
    return isinstance(value, str) and len(value) <= LONGEST and "\0" not in value


def shown(value: Any) -> str:
    """Return a value as an error message shows it: in one line, the middle of a long one cut."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, a list in itself
        return f"a huge {type(value).__name__}"
    return cut(text)


def name(key: str) -> str:
    """Return a key as an error message shows it: as it is where it is a plain word."""
    return key if key.isidentifier() and len(key) <= 40 else shown(key)


def cut(text: str, limit: int = 100) -> str:
    """Return a text without its middle where it is longer than `limit`."""
    if len(text) <= limit:
        return text
    return f"{text[: limit * 2 // 3]} … {text[-limit // 4 :]}"


def _compiles(value: Any) -> bool:
    try:
        return is_text(value) and bool(re.compile(value))
    except (re.error, OverflowError, RecursionError):
        return False


def _is_size(value: Any) -> bool:
    sides = value if isinstance(value, list) and all(map(is_int, value)) else []
    return 1 <= len(sides) <= 3 and 1 <= min(sides) and max(sides) <= SIDE and min(sides[-2:]) >= 32


ANY = Rule("a finite number", number(-LARGE).holds)
SIDE = 2**24
"""The longest side in pixels: beyond it float32 cannot tell neighbouring pixels apart."""
FLAG = Rule("True or False", lambda value: isinstance(value, bool))
TEXT = Rule("a string", is_text)
NAME = Rule("a string that is not empty", lambda value: is_text(value) and value != "")
EMPTY = Rule("[]", lambda value: value == [])
PATTERN = Rule("a regular expression", _compiles)
SIZE = Rule(f"a list of 1 to 3 integers up to {SIDE}, the last two of them at least 32", _is_size)
SHARE = Rule(
    f"-1 or an integer from 1 to {2**20}",
    lambda value: is_int(value) and (value == -1 or 1 <= value <= 2**20),
)
