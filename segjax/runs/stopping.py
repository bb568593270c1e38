"""Early stopping: whether a metric has stood still for so long that its run is over.

All that it knows stands in `metrics.jsonl`, so a run that was killed stops where it would have.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from segjax.config import lookup
from segjax.errors import ConfigError


class Verdict(NamedTuple):
    """That a run is over.

    Attributes:
        step: After which.
        best: The best value of the metric.
        best_step: When it was logged.
        text: All this for a person.
    """

    step: int
    best: float
    best_step: int
    text: str


def check(section: Mapping[str, Any], logged: Sequence[str]) -> None:
    """Refuse a metric of `config.early_stopping` that nothing logs.

    Raises:
        ConfigError: No evaluator logs it.
    """
    metric = section["metric"]
    if metric and metric not in logged:
        raise ConfigError(
            f"config.early_stopping.metric={metric!r}: nothing in config.evals logs it."
            f"{lookup.suggest(metric, list(logged))} Empty never stops."
        )


def verdict(
    section: Mapping[str, Any], records: Iterable[Mapping[str, Any]], *, until: int
) -> Verdict | None:
    """Return that the run is over by its log up to a step; None: it goes on.

    The run is over once `patience` values in a row were not better than the best before them by
    more than `min_delta`. A step counts once, with what was logged last.

    Args:
        section: `config.early_stopping`.
        records: Lines of `metrics.jsonl`.
        until: Later lines do not count.
    """
    metric, sign = section["metric"], 1.0 if section["mode"] == "max" else -1.0
    values = {
        record["step"]: record[metric]
        for record in records
        if metric and record["step"] <= until and record.get(metric) is not None
    }
    best, best_step, still = None, 0, 0
    for step in sorted(values):
        if best is None or sign * (values[step] - best) > section["min_delta"]:
            best, best_step, still = values[step], step, 0
            continue
        still += 1
        if still == section["patience"]:
            return Verdict(step, best, best_step, _said(section, step, best, best_step))
    return None


def _said(section: Mapping[str, Any], step: int, best: float, best_step: int) -> str:
    move = "risen above" if section["mode"] == "max" else "fallen below"
    least = f" by more than {section['min_delta']:g}" if section["min_delta"] else ""
    return (
        f"stopped early after step {step}: {section['metric']} has not {move} {best:.4f}, of step "
        f"{best_step}, in {section['patience']} evaluations{least}"
    )
