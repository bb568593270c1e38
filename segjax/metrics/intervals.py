"""How sure a score is: bootstrap over examples or cases, and whether two runs differ.

What is drawn again are whole examples, or whole cases where the data says which examples are of one
(slices of one patient are not independent). Draws depend on the seed alone.
"""

import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Int64, Num

from segjax.config import lookup
from segjax.errors import DataError, UserError
from segjax.metrics import base, confusion, matrix
from segjax.runtime import reading

CHUNK = 256
LEVEL = 0.95
REPORT_BYTES = 512 << 20
OF_MARGINS: Mapping[str, matrix.OfMargins] = {
    "specificity": matrix.Specificity(),
    "kappa": matrix.Kappa(),
    "mcc": matrix.Mcc(),
}
"""Scores that need no arguments, beside those of `confusion.means`."""
Counts = Int64[np.ndarray, "parts n k"]
Score = Callable[[np.ndarray], float]
"""From how often each example counts, [n], to the score of the whole; NaN where it has none."""


def of_margins(counts: Counts, *, score: Callable[[np.ndarray], float | None]) -> Score:
    """Return a score of summed margins [parts k] as a function of how often each example counts."""
    flat = counts.transpose(1, 0, 2).reshape(counts.shape[1], -1).astype(np.float64)

    def scored(weights: np.ndarray) -> float:
        total = np.rint(weights @ flat).astype(np.int64)  # exact: far below 2^53
        found = score(total.reshape(len(counts), -1)) if total.any() else None
        return np.nan if found is None else float(found)

    return scored


def of_values(values: Float[np.ndarray, "n k"]) -> Score:
    """Return the mean over classes of the means over examples as such a function."""
    return lambda weights: base.class_means(values, weights)[0]


def bootstrap(
    scores: Mapping[str, Score], groups: Int[np.ndarray, " n"], *, resamples: int, seed: int = 0
) -> dict[str, list[float | None]]:
    """Return the 95 % percentile interval of each score; None for the ends of one without any.

    Efron 1979. Resamples in which a score is undefined do not count for it.

    Args:
        scores: By name.
        groups: The number of each example's group, 0, 1, …; groups are drawn.
        resamples: How many times.
        seed: Decides the draws.
    """
    drawn = {name: np.empty(resamples) for name in scores}
    for number, weights in enumerate(_draws(groups, resamples, seed)):
        for name, score in scores.items():
            drawn[name][number] = score(weights)
    return {name: interval(values) for name, values in drawn.items()}


def of_classes(
    counts: Num[np.ndarray, "parts n k"],
    score: Callable[[np.ndarray], np.ndarray],
    *,
    resamples: int,
    groups: Int[np.ndarray, " n"] | None = None,
    seed: int = 0,
) -> list[list[float | None]]:
    """Return the 95 % percentile interval of each class's score, see `bootstrap`.

    Args:
        counts: What the score is made of, of each example and class.
        score: Of summed counts [parts k] that of each class [k]; NaN where it has none.
        resamples: How many times.
        groups: See `bootstrap`; None: each example is one.
        seed: Decides the draws.
    """
    examples = np.arange(counts.shape[1])
    flat = counts.transpose(1, 0, 2).reshape(len(examples), -1).astype(np.float64)
    drawn = [
        score((weights @ flat).reshape(len(counts), -1))
        for weights in _draws(examples if groups is None else groups, resamples, seed)
    ]
    return [interval(own) for own in np.stack(drawn).T]


def _draws(groups: np.ndarray, resamples: int, seed: int) -> Iterator[Int64[np.ndarray, " n"]]:
    """Yield how often each example counts in each resample."""
    rng, number = np.random.default_rng(seed), int(groups.max()) + 1
    for start in range(0, resamples, CHUNK):
        size = min(CHUNK, resamples - start)
        picks = rng.integers(number, size=(size, number))
        for pick in picks:
            yield np.bincount(pick, minlength=number)[groups]


def interval(drawn: Float[np.ndarray, " r"]) -> list[float | None]:
    """Return the percentiles between which 95 % of what was drawn lies."""
    finite = drawn[np.isfinite(drawn)]
    if not finite.size:
        return [None, None]
    ends = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(end) for end in ends]


class Comparison(NamedTuple):
    """How two runs differ on one split.

    Attributes:
        metric: What was compared.
        first: The score of the first run.
        second: That of the second.
        difference: Second minus first.
        interval: 95 % percentile interval of the difference, by bootstrap.
        p_value: Of a paired permutation test, two-sided: how often runs that are exchangeable
            differ at least as much.
        unit: What was drawn and exchanged, 'example' or 'case'.
        number: How many of them there are.
    """

    metric: str
    first: float
    second: float
    difference: float
    interval: list[float | None]
    p_value: float
    unit: str
    number: int


def describe(found: Comparison) -> str:
    """Return a comparison in one line."""
    low, high = ("none" if end is None else f"{end:+.4f}" for end in found.interval)
    return (
        f"{found.metric}: {found.first:.4f} and {found.second:.4f}, difference "
        f"{found.difference:+.4f}, 95 % interval {low} to {high}, p = {found.p_value:.4f} "
        f"({found.number} {found.unit}s)"
    )


def compare(
    first: str | pathlib.Path | Mapping[str, Any],
    second: str | pathlib.Path | Mapping[str, Any],
    *,
    metric: str = "miou",
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Test whether two runs differ on the same split, example by example.

    Args:
        first: `eval/<name>.json` of a run that was scored with `intervals` or `metrics`, or its
            content.
        second: That of another.
        metric: A score of the whole split ('miou', 'dice', 'pixel_accuracy', …, 'specificity',
            'kappa', 'mcc') or a metric with a value for each example ('hd95', …).
        resamples: Of the bootstrap, and of the permutation test.
        seed: Decides both.

    Raises:
        UserError: A file that cannot be read or has nothing of single examples, no such metric, or
            other examples or labels in the two.
    """
    tables = [_table(source) for source in (first, second)]
    _check_same(*tables)
    score = _score([table for table, _ in tables], metric)
    groups, unit = tables[0][0].get("group"), "case"
    if groups is None:
        groups, unit = range(len(tables[0][0]["name"])), "example"
    groups = np.asarray(groups, np.int64)
    number = int(groups.max()) + 1
    nobody, everybody = np.zeros(len(groups)), np.ones(len(groups))

    def scores(weights: np.ndarray, swapped: np.ndarray) -> tuple[float, float]:
        """Return the scores of both runs, some examples of each taken from the other."""
        own, other = weights * ~swapped, weights * swapped
        return score(np.concatenate([own, other])), score(np.concatenate([other, own]))

    one, other = scores(everybody, nobody > 0)
    if not np.isfinite([one, other]).all():
        raise UserError(f"{metric}: has no value in one of the two. Compare another metric.")
    pairs = [scores(weights, nobody > 0) for weights in _draws(groups, resamples, seed)]
    ends = interval(np.array([b - a for a, b in pairs]))
    rng, extreme = np.random.default_rng(seed), 0
    for _ in range(resamples):
        a, b = scores(everybody, (rng.random(number) < 0.5)[groups])
        extreme += not abs(b - a) < abs(other - one) * (1 - 1e-9)  # NaN counts too
    p_value = (1 + extreme) / (1 + resamples)
    return Comparison(metric, one, other, other - one, ends, p_value, unit, number)


def _table(source: Any) -> tuple[Mapping[str, Any], str]:
    """Return what a report says of single examples, and what to call the report."""
    name = "the report" if isinstance(source, Mapping) else str(source)
    try:
        report = (
            source if isinstance(source, Mapping) else reading.read_json(source, limit=REPORT_BYTES)
        )
    except FileNotFoundError:
        raise DataError(f"{name}: not there. Name the eval/<name>.json of a run.") from None
    table = report.get("per_example") if isinstance(report, Mapping) else None
    if not isinstance(table, Mapping) or not table.get("name"):
        raise UserError(
            f"{name}: says nothing of single examples. Score the run again with "
            "--override=evals.<name>.intervals=1000."
        )
    return table, name


def _check_same(first: tuple[Mapping, str], second: tuple[Mapping, str]) -> None:
    """Raise `UserError` unless both tables are of the same examples with the same labels."""
    (one, name), (other, other_name) = first, second
    same = {"name": "examples", "label": "labels", "known": "labels", "group": "cases"}
    for key, what in same.items():
        if one.get(key) != other.get(key):
            raise UserError(
                f"{other_name}: is of other {what} than {name}. Score both runs on the same split."
            )


def _score(tables: Sequence[Mapping[str, Any]], metric: str) -> Score:
    """Return a metric as a function of how often each example counts, the second's last."""
    values = [table.get("values", {}) for table in tables]
    if all(metric in each for each in values):
        rows = [row for each in values for row in each[metric]]
        return of_values(np.array(rows, np.float64))  # null becomes NaN
    binary = all("known" in table for table in tables)
    own = scores_of_margins(binary=binary) if all("hit" in table for table in tables) else {}
    if metric not in own:
        known = [*own, *(name for name in values[0] if name in values[1])]
        more = "" if own else " Scored with intervals they have others."
        raise UserError(
            f"metric={metric!r} is in neither report.{lookup.suggest(metric, known)}{more}"
        )
    parts = confusion.BINARY_MARGINS if binary else confusion.MARGINS
    counts = [[row for table in tables for row in table[key]] for key in parts]
    return of_margins(np.array(counts, np.int64), score=own[metric])


def scores_of_margins(*, binary: bool = False) -> dict[str, Callable[[np.ndarray], float | None]]:
    """Return the scores of a split that are functions of its margins [parts k], by name.

    Args:
        binary: They are those of multi-label maps.
    """
    parts = confusion.BINARY_MARGINS if binary else confusion.MARGINS
    of_all = confusion.binary_means if binary else confusion.means

    def mean(name: str) -> Callable[[np.ndarray], float | None]:
        return lambda counts: of_all(*counts)[name]

    found = {name: mean(name) for name in of_all(*np.ones((len(parts), 1), np.int64))}
    return found if binary else found | {name: each.score for name, each in OF_MARGINS.items()}
