"""The table of a study, from its records alone: Markdown, CSV and LaTeX."""

import statistics as median_of
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from segjax.studies import statistics
from segjax.studies.statistics import Difference, Mean

COSTS: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "parameters": ("parameters", lambda x: f"{x / 1e6:.2f} M"),
    "gflops": ("GFLOP a step", lambda x: f"{x:.1f}"),
    "memory_mb": ("memory of a step", lambda x: f"{x:.0f} MB"),
    "step_ms": ("time of a step", lambda x: f"{x:.0f} ms"),
    "steps": ("steps", lambda x: f"{x:.0f}"),
    "minutes": ("training", lambda x: f"{x:.1f} min"),
}
"""What a run costs: its name in records, in prose, and how it is shown."""
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "–": "--",
}  # fmt: skip
"""How LaTeX writes what it would take for a command."""


class Line(NamedTuple):
    """A row of the table.

    Attributes:
        name: Of the row.
        n: Runs that are finished.
        of: Runs that there are to be.
        means: By metric; without those that no run logged.
        differences: From the baseline, by metric; without those that cannot be compared.
        costs: Medians of what is in `COSTS`.
        hardware: What the runs were trained on.
    """

    name: str
    n: int
    of: int
    means: dict[str, Mean]
    differences: dict[str, Difference]
    costs: dict[str, float]
    hardware: str


def lines(
    rows: Sequence[str],
    records: Sequence[Mapping[str, Any]],
    *,
    metrics: Sequence[str],
    baseline: str,
    of: int,
) -> list[Line]:
    """Return the rows of a study's table.

    Args:
        rows: Their names, in order.
        records: See `outcome.of_run`, each with its `row` and `seed`.
        metrics: The scores that are shown.
        baseline: A row's name; empty: none.
        of: How many runs each row is to have.
    """
    own = {name: [r for r in records if r["row"] == name] for name in rows}
    values = {metric: {name: by_seed(own[name], metric) for name in rows} for metric in metrics}
    compared: dict[str, dict[str, Difference]] = {name: {} for name in rows}
    for metric in metrics if baseline else ():
        for name, found in statistics.differences(values[metric], baseline).items():
            if found is not None:
                compared[name][metric] = found
    return [
        Line(
            name,
            len(own[name]),
            of,
            {m: statistics.mean([*values[m][name].values()]) for m in metrics if values[m][name]},
            compared[name],
            costs(own[name]),
            ", ".join(sorted({f"{r['devices']}, {r['cores']} cores" for r in own[name]})),
        )
        for name in rows
    ]


def by_seed(records: Sequence[Mapping[str, Any]], metric: str) -> dict[int, float]:
    """Return a score of some records by their seed; without those that have none."""
    return {r["seed"]: r["scores"][metric] for r in records if metric in r["scores"]}


def costs(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the median of each cost that some records have."""
    found = {name: [r[name] for r in records if r.get(name) is not None] for name in COSTS}
    return {name: median_of.median(values) for name, values in found.items() if values}


def table(
    found: Sequence[Line], *, metrics: Sequence[str], baseline: str
) -> tuple[list[str], list[list[str]]]:
    """Return heading and rows as a reader sees them."""
    heading = ["", "runs"]
    for metric in metrics:
        heading += [metric, "95 % interval"]
        heading += [f"against {baseline}", "p (Holm)"] if baseline else []
    shown = [name for name in COSTS if any(name in line.costs for line in found)]
    heading += [COSTS[name][0] for name in shown] + ["hardware"]
    body = []
    for line in found:
        row = [line.name, str(line.n) if line.n == line.of else f"{line.n} of {line.of}"]
        for metric in metrics:
            row += _mean(line.means.get(metric))
            row += _difference(line.differences.get(metric)) if baseline else []
        row += [COSTS[n][1](line.costs[n]) if n in line.costs else "–" for n in shown]
        body.append([*row, line.hardware or "–"])
    return heading, body


def _mean(found: Mean | None) -> list[str]:
    if found is None:
        return ["–", "–"]
    spread = "" if found.std is None else f" ± {found.std:.3f}"
    return [f"{found.mean:.3f}{spread}", _interval(found.interval)]


def _difference(found: Difference | None) -> list[str]:
    if found is None:
        return ["–", "–"]
    p_value = "–" if found.adjusted is None else f"{found.adjusted:.3f}"
    return [_minus(f"{found.mean:+.3f}"), p_value if p_value != "0.000" else "< 0.001"]


def _interval(ends: tuple[float, float] | None) -> str:
    return "–" if ends is None else _minus(f"{ends[0]:.3f} to {ends[1]:.3f}")


def _minus(text: str) -> str:
    """Return numbers with the sign that a reader expects."""
    return text.replace("-", "−")


def markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown; what follows the first column stands to the right."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (heading, *rows)]
    marks = ["---", *["---:"] * (len(heading) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (cells[0], marks, *cells[1:]))


def latex(heading: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str) -> str:
    """Return a table for LaTeX with the package booktabs."""

    def line(row: Sequence[str]) -> str:
        return " & ".join("".join(LATEX.get(c, c) for c in cell) for cell in row) + r" \\"

    columns = "l" + "r" * (len(heading) - 1)
    escaped = "".join(LATEX.get(c, c) for c in caption)
    return "\n".join(
        [
            r"\begin{table}", r"\centering", rf"\caption{{{escaped}}}",
            rf"\begin{{tabular}}{{{columns}}}", r"\toprule", line(heading), r"\midrule",
            *map(line, rows), r"\bottomrule", r"\end{tabular}", r"\end{table}",
        ]
    )  # fmt: skip


def numbers(found: Sequence[Line], *, metrics: Sequence[str]) -> list[list[Any]]:
    """Return heading and rows for machines: every number whole, empty where there is none."""
    heading = ["row", "runs", "runs_planned"]
    parts = ("mean", "std", "low", "high", "difference", "difference_low", "difference_high")
    heading += [f"{m} {p}" for m in metrics for p in (*parts, "p", "p_holm")]
    rows: list[list[Any]] = [[*heading, *COSTS, "hardware"]]
    for line in found:
        row: list[Any] = [line.name, line.n, line.of]
        for metric in metrics:
            mean, other = line.means.get(metric), line.differences.get(metric)
            row += [mean.mean, mean.std, *(mean.interval or (None, None))] if mean else [None] * 4
            row += (
                [other.mean, *(other.interval or (None, None)), other.p_value, other.adjusted]
                if other
                else [None] * 5
            )
        rows.append([*row, *(line.costs.get(name) for name in COSTS), line.hardware])
    return rows


def redraw(text: str, table: str, *, begin: str, end: str) -> str:
    """Return a text with what stands between two marks replaced; unchanged without the marks."""
    head, mark, rest = text.partition(begin)
    return f"{head}{begin}\n{table}\n{end}{rest.partition(end)[2]}" if mark else text
