"""The table of a study: what a reader, a spreadsheet and LaTeX get."""

import csv
import io

import pytest

from segjax.runtime import files
from segjax.studies import tables

METRICS = ("test/miou", "test/hd95")


def record(row, seed, miou, **more):
    fields = {
        "row": row, "seed": seed, "scores": {"test/miou": miou}, "devices": "1 × cpu", "cores": 2,
        "parameters": 1_940_000, "gflops": 23.46, "memory_mb": 129.4, "step_ms": 250.0 + seed,
        "steps": 400, "minutes": 1.66,
    }  # fmt: skip
    return {**fields, **more}


RECORDS = [
    record("cross-entropy", 0, 0.50), record("cross-entropy", 1, 0.52),
    record("focal | γ=2", 0, 0.51), record("focal | γ=2", 1, 0.55),
    record("a_row & $5", 0, 0.40, parameters=None),
]  # fmt: skip
ROWS = ["cross-entropy", "focal | γ=2", "a_row & $5", "not yet"]


@pytest.fixture
def lines():
    return tables.lines(ROWS, RECORDS, metrics=METRICS, baseline="cross-entropy", of=2)


def test_a_reader_sees_means_intervals_differences_and_costs(lines):
    heading, rows = tables.table(lines, metrics=METRICS, baseline="cross-entropy")
    found = [dict(zip(heading, row, strict=True)) for row in rows]
    assert [row["runs"] for row in found] == ["2", "2", "1 of 2", "0 of 2"]
    assert [row["test/miou"] for row in found] == [
        "0.510 ± 0.014", "0.530 ± 0.028", "0.400", "–"
    ]  # fmt: skip
    # half = 12.706 · std / √2
    assert found[0]["95 % interval"] == "–"  # the last of that name: hd95, which nobody logged
    assert rows[0][3] == "0.383 to 0.637" and rows[1][3] == "0.276 to 0.784"
    assert rows[0][4] == "–" and rows[1][4] == "+0.020" and rows[2][4] == "−0.100"
    assert rows[1][5] == "0.295"  # differences 0.01 and 0.03: t = 2, one degree of freedom
    assert found[1]["time of a step"] == "250 ms" and found[1]["parameters"] == "1.94 M"
    assert found[2]["parameters"] == "–" and found[2]["hardware"] == "1 × cpu, 2 cores"
    assert set(rows[3][2:]) == {"–"}


def test_without_a_baseline_nothing_is_compared(lines):
    found = tables.lines(ROWS, RECORDS, metrics=METRICS, baseline="", of=2)
    heading, rows = tables.table(found, metrics=METRICS, baseline="")
    assert not [name for name in heading if "against" in name or "Holm" in name]
    assert {len(row) for row in rows} == {len(heading)}


def test_markdown_keeps_its_columns_whatever_a_row_is_called(lines):
    heading, rows = tables.table(lines, metrics=METRICS, baseline="cross-entropy")
    text = tables.markdown(heading, rows).splitlines()
    assert {line.replace("\\|", "").count("|") for line in text} == {len(heading) + 1}
    assert text[3].startswith("| focal \\| γ=2 |")


def test_latex_has_no_command_that_a_name_brought_in(lines):
    heading, rows = tables.table(lines, metrics=METRICS, baseline="cross-entropy")
    text = tables.latex(heading, rows, caption="50 % of {all}_data \\end")
    assert r"a\_row \& \$5 & 1 of 2" in text and r"$\pm$" in text
    assert r"\caption{50 \% of \{all\}\_data \textbackslash{}end}" in text
    assert text.count(r"\\") == len(rows) + 1
    assert text.startswith(r"\begin{table}") and text.endswith(r"\end{table}")


def test_numbers_are_whole_in_csv(lines, tmp_path):
    files.write_csv(tmp_path / "table.csv", tables.numbers(lines, metrics=METRICS))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    assert float(rows[1]["test/miou mean"]) == (0.51 + 0.55) / 2
    assert float(rows[1]["test/miou difference"]) == pytest.approx(0.02, abs=1e-15)
    assert rows[3]["test/miou mean"] == "" and rows[3]["runs"] == "0"
    assert float(rows[0]["gflops"]) == 23.46


def test_a_text_without_marks_stays_as_it_is():
    assert tables.redraw("text", "new", begin="<a>", end="<b>") == "text"
    found = tables.redraw("head\n<a>\nold\n<b>\ntail", "new", begin="<a>", end="<b>")
    assert found == "head\n<a>\nnew\n<b>\ntail"
