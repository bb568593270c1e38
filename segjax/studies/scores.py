"""The scores of a run as numbers by the names that its log has for them, read from its reports."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from segjax.evaluators.semantic import log_names

Scores = dict[str, float]


def of_result(name: str, result: Mapping[str, Any], class_names: Sequence[str]) -> Scores:
    """Return the scores in a report: `val/miou`, of a class `val/dice/<class>`.

    Counts and what is of single examples are left out, and so is what has no value; what was logged
    is among the others by the same names.

    Args:
        name: Of the evaluation.
        result: The content of its `eval/<name>.json`.
        class_names: In their order.
    """
    found: dict[str, Any] = {}
    for key, value in result.items():
        if key == "logged":
            continue
        if key == "per_class":
            for class_name, logged in zip(class_names, log_names(class_names), strict=True):
                own = value.get(class_name) or {}
                found |= {f"{metric}/{logged}": number for metric, number in own.items()}
        elif isinstance(value, dict) and all(_is_score(each, none=True) for each in value.values()):
            found |= {f"{key}/{inner}": number for inner, number in value.items()}
        else:
            found[key] = value
    return {f"{name}/{key}": value for key, value in found.items() if _is_score(value)}


def means(runs: Iterable[Scores]) -> tuple[Scores, Scores]:
    """Return the mean of each score over the runs that have it, and its standard deviation.

    That of a sample, from the sum of squares over one less than their number; only of two or more.
    """
    every: dict[str, list[float]] = {}
    for own in runs:
        for name, value in own.items():
            every.setdefault(name, []).append(value)
    mean = {name: statistics.fmean(values) for name, values in every.items()}
    std = {name: statistics.stdev(values) for name, values in every.items() if len(values) > 1}
    return mean, std


def _is_score(value: Any, *, none: bool = False) -> bool:
    return (isinstance(value, float) and math.isfinite(value)) or (none and value is None)
