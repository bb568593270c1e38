"""Record finished runs in results.jsonl and redraw the README's table from it.

python -m experiments.results runs/quickstart runs/unet_camvid_cpu
"""

import argparse
import json
import pathlib

from segjax.config import spelling
from segjax.studies import finished, tables

HERE = pathlib.Path(__file__).parent
RECORDS = HERE / "results.jsonl"
README = HERE.parent / "README.md"
CROSSVAL = "crossval.json"
BEGIN, END = "<!-- results: written by experiments/results.py -->", "<!-- end of results -->"


def record(workdir: pathlib.Path) -> list[dict]:
    """Return one record for each evaluated split of a finished run, from its files alone.

    The folder of a cross-validation has one, of its joined predictions: its minutes are those of
    all folds. Scores after post-processing are left out: the command of the training does not give
    them.
    """
    folds = sorted(workdir.glob("fold[0-9]*")) if (workdir / CROSSVAL).exists() else []
    runs = folds or [workdir]
    run = json.loads((runs[0] / "run.json").read_text())
    each = [finished.costs(map(json.loads, (p / "metrics.jsonl").open())) for p in runs]
    costs = each[0] | {"train_minutes": sum(found["minutes"] for found in each)}
    del costs["minutes"]
    packages = {name: run["packages"][name] for name in ("jax", "jaxlib", "flax")}
    return [
        {
            "run": workdir.name,
            "split": result["split"],
            **({"folds": len(folds)} if folds else {}),
            "miou": result["miou"],
            "dice": result["per_image"]["dice"],
            "pixel_accuracy": result["pixel_accuracy"],
            "num_examples": result["num_examples"],
            "step": result["step"],
            **costs,
            "devices": f"{len(run['devices'])} × {run['devices'][0]}",
            "cores": run["cores"],
            "python": run["python"],
            "packages": packages,
            "git_revision": run["git_revision"],
            "fingerprint": run["fingerprint"],
            "command": " ".join(["python", *run["command"]]),
        }
        for result in (json.loads(p.read_text()) for p in sorted((workdir / "eval").glob("*.json")))
        if not result.get("inference", {}).get("postprocess")
    ]


def table(records: list[dict]) -> str:
    """Return the README's table; Dice is the mean over classes and images."""
    rows = [
        "| run | split | mIoU | Dice | pixel accuracy | training | hardware | command |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in records:
        words = r["command"].partition(" --workdir")[0].split(" ")
        command = " ".join(map(spelling.modern, words))
        dice = f"{r['dice']:.3f}" if "dice" in r else "–"
        split = r["split"] + (f", {r['folds']} folds" if "folds" in r else "")
        rows.append(
            f"| {r['run']} | {split} ({r['num_examples']}) | {r['miou']:.3f} | {dice} "
            f"| {r['pixel_accuracy']:.3f} | {r['train_minutes']:.1f} min, {r['step']} steps "
            f"| {r['devices']}, {r['cores']} cores | `{command}` |"
        )
    return "\n".join(rows)


def redraw(readme: str, records: list[dict]) -> str:
    """Return the README with its table drawn anew."""
    return tables.redraw(readme, table(records), begin=BEGIN, end=END)


def load() -> list[dict]:
    """Return all records."""
    return [json.loads(line) for line in RECORDS.open()] if RECORDS.exists() else []


def main(workdirs: list[str]) -> None:
    """Replace the records of the runs named, then redraw."""
    new = [row for workdir in workdirs for row in record(pathlib.Path(workdir))]
    names = {row["run"] for row in new}
    records = [row for row in load() if row["run"] not in names] + new
    records.sort(key=lambda row: (row["run"], row["split"]))
    RECORDS.write_text("".join(json.dumps(row) + "\n" for row in records))
    README.write_text(redraw(README.read_text(), records))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workdirs", nargs="*", metavar="WORKDIR", help="of finished runs")
    given = parser.parse_args().workdirs
    for folder in given:
        if not any(pathlib.Path(folder, name).exists() for name in ("run.json", CROSSVAL)):
            parser.error(f"{folder}: no run.json there, expected a run's folder. Name its workdir.")
    main(given)
