"""Draw the table of experiments/drift/README.md from results.jsonl.

python -m experiments.drift.table

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
    lines = ["| stream | images | alerts | nearest: PSI, its limit | KS, its limit |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for row in records:
        alerts = ", ".join(f"`{name}`" for name in row["alerts"]) or "none"
        lines.append(
            f"| {row['stream']} | {row['first_alert'] or '-'} | {alerts} | `{row['farthest']}`: "
            f"{row['psi']}, {row['psi_limit']} | {row['ks']}, {row['ks_limit']} |"
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
