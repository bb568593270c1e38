"""Which stored value of a mask is which class: `label_map`."""

import bisect
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from segjax.errors import ConfigError

OTHERS = "*"
LARGEST = 2**63 - 1
"""Of a stored value, either way."""
LONGEST = 64
_KEY = re.compile(r"(-?\d+)(?:\s*-\s*(\d+))?")


class LabelMap:
    """Turns stored values into classes.

    Args:
        entries: A class for each key. A key is a whole number, as a number or as text (JSON has no
            other keys); a range of them with both ends, such as '1-65535'; or '*', all others. A
            number counts before a range that holds it.
        num_classes: Classes are 0..num_classes-1.
        where: What holds the entries, for messages.

    Raises:
        ConfigError: A key that is none, a class that is none, a value named twice.
    """

    def __init__(self, entries: Mapping[Any, Any], *, num_classes: int, where: str):
        where = f"{where}: label_map"
        if not isinstance(entries, Mapping):
            raise ConfigError(f"{where}={entries!r}: expected a mapping, such as {{0: 0, 255: 1}}.")
        self.others = -1
        single: dict[int, int] = {}
        ranges: list[tuple[int, int, int]] = []
        for key, number in entries.items():
            if type(number) is not int or not 0 <= number < num_classes:
                raise ConfigError(
                    f"{where}: {key!r} is mapped to {number!r}; expected a class, "
                    f"0..{num_classes - 1}. List values to leave out in ignore_index instead."
                )
            text = str(key).strip()
            match = _KEY.fullmatch(text) if len(text) <= LONGEST else None
            if text == OTHERS:
                self.others = number
            elif match is None or isinstance(key, bool):
                raise ConfigError(
                    f"{where}: {key!r} is no stored value. Write a whole number, a range such as "
                    "'1-65535', or '*' for all others."
                )
            elif max(abs(int(end)) for end in match.groups("0")) > LARGEST:
                raise ConfigError(f"{where}: {key!r} is beyond 64 bits, as no stored value is.")
            elif match.group(2) is None:
                if int(text) in single:
                    raise ConfigError(f"{where}: {int(text)} is named twice. Keep one.")
                single[int(text)] = number
            else:
                ranges.append((int(match.group(1)), int(match.group(2)), number))
        self.keys = [str(key) for key in entries]
        self._put(single, ranges, where=where)

    def _put(
        self, single: dict[int, int], ranges: list[tuple[int, int, int]], *, where: str
    ) -> None:
        """Make disjoint intervals of all entries, in order."""
        ranges = sorted(ranges)
        for low, high, _ in ranges:
            if low > high:
                raise ConfigError(
                    f"{where}: '{low}-{high}' is no range. Write the lower end first."
                )
        for (low, high, _), (next_low, next_high, _) in zip(ranges, ranges[1:], strict=False):
            if next_low <= high:
                raise ConfigError(
                    f"{where}: '{low}-{high}' and '{next_low}-{next_high}' overlap. Part them."
                )
        numbers = sorted(single)
        found = [(value, value, single[value]) for value in numbers]
        for low, high, number in ranges:
            inside = slice(bisect.bisect_left(numbers, low), bisect.bisect_right(numbers, high))
            for value in numbers[inside]:
                if low < value:
                    found.append((low, value - 1, number))
                low = value + 1
            if low <= high:
                found.append((low, high, number))
        found.sort()
        self._lows, self._highs, self._classes = (
            np.array(column, np.int64) for column in zip(*(found or [(0, -1, -1)]), strict=True)
        )

    def __call__(self, label: np.ndarray) -> np.ndarray:
        """Return the class of every value of an integer array, int64; -1: it has none."""
        if label.dtype.kind == "u" and label.dtype.itemsize <= 2:  # through a table
            values = np.arange(np.iinfo(label.dtype).max + 1)
            return self._look_up(values)[label]
        return self._look_up(label.astype(np.int64))

    def _look_up(self, values: np.ndarray) -> np.ndarray:
        place = np.searchsorted(self._lows, values, side="right") - 1
        inside = (place >= 0) & (values <= self._highs[place])
        return np.where(inside, self._classes[place], self.others)

    def describe(self) -> str:
        """Return the stored values it names, for messages."""
        return ", ".join(self.keys[:8]) + (", …" if len(self.keys) > 8 else "")
