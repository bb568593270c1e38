"""Draw the table of experiments/feedback/README.md from results.jsonl.

python -m experiments.feedback.table

It is drawn in place; the test that they agree calls `redraw`.
"""

import argparse
import json
import pathlib

from segjax.studies import tables

HERE = pathlib.Path(__file__).parent
BEGIN, END = "<!-- drawn from results.jsonl -->", "<!-- end -->"


def redraw(text: str, records: list[dict]) -> str:
    """Return the page with the table of the records."""
    lines = ["| masks | steps | usual | weave | hold-out | tested by, p | gate |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for row in records:
        pairs = (("usual_old", "usual_new"), ("weave_old", "weave_new"))
        pairs += (("holdout_first", "holdout_second"),)
        cells = [f"{row[old]:.3f} → {row[new]:.3f}" for old, new in pairs]
        verdict = "promoted" if row["promoted"] else "refused"
        tested = f"{row['tested_by']}, {row['images_p_value']:.3f}"
        lines.append(
            f"| {row['case']} | {row['steps']} | {' | '.join([*cells, tested, verdict])} |"
        )
    return tables.redraw(text, "\n".join(lines), begin=BEGIN, end=END)


def load() -> list[dict]:
    """Return the records."""
    return [json.loads(line) for line in (HERE / "results.jsonl").read_text().splitlines()]


def main() -> None:
    """Draw the table."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    page = HERE / "README.md"
    page.write_text(redraw(page.read_text(), load()))


if __name__ == "__main__":
    main()
