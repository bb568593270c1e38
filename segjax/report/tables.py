"""The tables of a report: scores of classes, what is taken for what, how runs differ."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from segjax.errors import UserError
from segjax.metrics import intervals
from segjax.report.record import is_real
from segjax.report.seen import Eye, Seen
from segjax.studies import statistics
from segjax.views import colour, figures

COLUMNS = {
    "iou": "IoU", "dice": "Dice", "precision": "precision", "recall": "recall", "AP": "mask AP",
    "AP50": "AP50", "AP75": "AP75", "box_AP": "box AP", "PQ": "PQ", "SQ": "SQ", "RQ": "RQ",
}  # fmt: skip
"""Scores of a class by their key in `per_class`, in the order of their columns."""
MOST = 30
"""Classes of a confusion matrix that is shown; of more those that are confused most."""
CONFUSIONS = 12
RESAMPLES = 1000
FEW = 30
"""Classes, at most, by each of which runs are compared."""


class Table(NamedTuple):
    """A table as the templates draw it."""

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]


def classes(
    result: Mapping[str, Any], ends: Mapping[str, Sequence[float | None]], *, of: str
) -> Table:
    """Return the scores of each class, with the interval of its main one where it is known.

    Args:
        result: What `eval/<name>.json` holds.
        ends: The interval of each class, by name; empty: none is known.
        of: The key of the score that the intervals are of.
    """
    per_class = {k: v for k, v in result["per_class"].items() if isinstance(v, dict)}
    shown = [key for key in COLUMNS if any(key in each for each in per_class.values())]
    pixels = sum(each["pixels"] for each in per_class.values() if is_real(each.get("pixels")))
    counted = any("objects" in each or "segments" in each for each in per_class.values())
    head = ["class"]
    for key in shown:
        head += [COLUMNS[key], *["95 % interval"] * (key == of and bool(ends))]
    head += ["of all pixels"] * bool(pixels) + ["true", "found"] * counted
    rows = []
    for name, each in per_class.items():
        row: list[Any] = [name]
        for key in shown:
            value = each.get(key)
            row.append(float(value) if is_real(value) else None)
            if key == of and ends:
                row.append(interval(ends.get(name, (None, None))))
        if pixels:
            own = each.get("pixels")
            share = own / pixels if is_real(own) else 0.0
            row.append((f"{share:.2%}", share))
        if counted:
            numbers = each.get("objects") or each.get("segments")
            numbers = numbers if isinstance(numbers, dict) else {}
            cells = [numbers.get(part) for part in ("truth", "found")]
            row += [cell if is_real(cell) else None for cell in cells]
        rows.append(row)
    return Table(head, rows)


def interval(ends: Sequence[float | None]) -> Any:
    """Return a cell with an interval, sorted by its width."""
    low, high = ends
    if low is None or high is None:
        return None
    return f"{low:.3f} to {high:.3f}", high - low


class Confusion(NamedTuple):
    """A confusion matrix to read.

    Attributes:
        names: Of the classes that are shown.
        cells: By true and predicted class: pixels, share of the true and of the predicted class.
        left_out: How many classes are not shown.
        worst: What is most taken for what.
    """

    names: Sequence[str]
    cells: Sequence[Sequence[tuple[int, float, float]]]
    left_out: int
    worst: Table


def confusion(result: Mapping[str, Any]) -> Confusion | None:
    """Return the confusion matrix of `eval/<name>.json`; None where it has none."""
    if result.get("confusion_matrix") is None:
        return None
    matrix = np.asarray(result["confusion_matrix"], np.int64)
    names = list(result["per_class"])
    total, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    wrong = matrix - np.diag(np.diagonal(matrix))
    kept = np.arange(len(names))
    if len(names) > MOST:
        share = wrong / np.maximum(total, 1)[:, None]
        kept = np.sort(np.argsort(-(share.sum(axis=0) + share.sum(axis=1)), kind="stable")[:MOST])
    cells = [
        [
            (
                int(matrix[i, j]),
                matrix[i, j] / max(1, total[i]),
                matrix[i, j] / max(1, predicted[j]),
            )
            for j in kept
        ]
        for i in kept
    ]
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
    rows = []
    for place in order.tolist():
        i, j = divmod(place, len(names))
        if wrong[i, j]:
            share = wrong[i, j] / total[i]
            rows.append([names[i], names[j], int(wrong[i, j]), (f"{share:.1%}", float(share))])
    worst = Table(["true class", "taken for", "pixels", "of the true class"], rows)
    return Confusion([names[i] for i in kept], cells, len(names) - len(kept), worst)


def differences(eye: Eye, first: Sequence[Seen], second: Sequence[Seen]) -> Table:
    """Return how a run differs from the first, metric by metric, tested example by example.

    Bootstrap intervals of the difference and paired permutation tests, see `intervals.compare`; the
    p-values are corrected for all metrics of the table (Holm 1979).
    """
    names = list(eye.compared())
    if len(names) > FEW:
        names = [name for name in names if not name.startswith("IoU of ")]
    tables = eye.table(first), eye.table(second)
    found: dict[str, intervals.Comparison] = {}
    for name in names:
        try:
            found[name] = intervals.compare(*tables, metric=name, resamples=RESAMPLES)
        except UserError:  # it has no value in one of the two
            continue
    adjusted = statistics.holm({name: each.p_value for name, each in found.items()})
    rows = [
        [
            name, each.first, each.second, (f"{each.difference:+.4f}", each.difference),
            interval(each.interval), (f"{each.p_value:.4f}", each.p_value),
            (f"{adjusted[name]:.4f}", adjusted[name]),
        ]
        for name, each in found.items()
    ]  # fmt: skip
    return Table(
        ["", "first", "second", "difference", "95 % interval", "p", "p, corrected (Holm)"], rows
    )


def swatches(names: Sequence[str], palette: Sequence[colour.Colour]) -> list[tuple[str, str]]:
    """Return each class with its colour as the page writes it."""
    return [(name, colour.code(shade)) for name, shade in zip(names, palette, strict=True)]


def three(value: Any) -> str:
    """Return a score to three decimals, or n/a."""
    return figures.three(value if is_real(value) else None)
