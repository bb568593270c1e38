"""Draw the table of experiments/feedback/README.md from results.jsonl.

python -m experiments.feedback.table

It is drawn in place; the test that they agree calls `redraw`.
"""

import argparse
import json
import pathlib

from experiments.feedback import study
from segjax.studies import tables

HERE = pathlib.Path(__file__).parent
BEGIN, END = "<!-- drawn from results.jsonl -->", "<!-- end -->"
DOUBTED, DONE = "<!-- drawn from doubts.jsonl -->", "<!-- end of doubts -->"


def redraw(text: str, records: list[dict]) -> str:
    """Return the page with the table of the records."""
    lines = ["| masks | scenes | run, steps | usual | its kind | hold-out | tested by, p | gate |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in records:
        kind = study.kind_of(row["case"])
        pairs = (("usual_old", "usual_new"), (f"{kind}_old", f"{kind}_new"))
        pairs += (("holdout_first", "holdout_second"),)
        cells = [f"{row[old]:.3f} → {row[new]:.3f}" for old, new in pairs]
        verdict = "promoted" if row["promoted"] else "refused"
        tested = f"{row['tested_by']}, {row['images_p_value']:.3f}"
        seed, run = row.get("seed", study.SEED), row.get("run", 300)
        steps = f"{run}, {row['steps']}"
        lines.append(f"| {' | '.join([row['case'], str(seed), steps, *cells, tested, verdict])} |")
    text = tables.redraw(text, "\n".join(lines), begin=BEGIN, end=END)
    return tables.redraw(text, "\n".join(of_doubts(doubts())), begin=DOUBTED, end=DONE)


def of_doubts(records: list[dict]) -> list[str]:
    """Return the lines of the table of doubts: of each case the range over seeds."""
    lines = ["| masks | scenes | classes | moved alike | renamed | suspected |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for masks, scenes in dict.fromkeys((row["masks"], row["scenes"]) for row in records):
        rows = [row for row in records if (row["masks"], row["scenes"]) == (masks, scenes)]
        moved = [row["moved"] for row in rows if row["moved"] is not None]
        renamed = [row["renamed"] for row in rows]
        ends = [f"{min(each):.2f} to {max(each):.2f}" if each else "-" for each in (moved, renamed)]
        count = sum(row["suspected"] for row in rows)
        cells = (masks, scenes, str(rows[0]["classes"]), *ends, f"{count} of {len(rows)}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def load(name: str = "results") -> list[dict]:
    """Return the records."""
    return [json.loads(line) for line in (HERE / f"{name}.jsonl").read_text().splitlines()]


def doubts() -> list[dict]:
    """Return what `doubting.py` wrote."""
    return load("doubts")


def main() -> None:
    """Draw the table."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    page = HERE / "README.md"
    page.write_text(redraw(page.read_text(), load()))


if __name__ == "__main__":
    main()
