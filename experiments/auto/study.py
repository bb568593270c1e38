"""Does a config that writes itself score as those by hand, in the same time on the same machine?

    export SEGJAX_DATA=<folder that holds camvid/, dsb2018/, hippocampus/ and isbi2012/>
    python -m experiments.auto.study --workdir=runs/auto --minutes=6

Of all data sets both configs are timed first, in turns, on a machine that does nothing else. Then
each is trained with as many steps as take the same minutes; how long that takes in truth does not
matter any more. The same command goes on where it was ended; one line a data set goes to
results.jsonl, and the table of README.md is drawn from them.
"""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
from typing import Any

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
TIMED, WARM = 30, 5
"""Steps of which the time is taken, and those before it."""
BEGIN, END = "<!-- drawn from results.jsonl -->", "<!-- end -->"
PAIRS = {
    "hippocampus": ("configs/hippocampus.py:size=cpu", "test"),
    "isbi2012": ("configs/isbi2012.py:from=folder,size=cpu", "val"),
    "dsb2018": ("configs/dsb2018.py:task=semantic,size=cpu", "test"),
    "camvid": ("configs/camvid.py:model=unet,size=cpu", "test"),
}
"""Of each data set the config by hand, and the split that is scored."""


def configs(name: str, minutes: float) -> dict[str, str]:
    """Return both configs of a data set."""
    root = f"$SEGJAX_DATA/{name}"
    return {"by hand": PAIRS[name][0], "auto": f"configs/auto.py:root={root},minutes={minutes:g}"}


def train(config: str, workdir: pathlib.Path, steps: int, *more: str) -> list[dict[str, Any]]:
    """Train so many steps, and return what was logged."""
    command = [sys.executable, "run.py", f"--config={config}", f"--workdir={workdir}"]
    command += [f"--config.total_steps={steps}", *more]
    done = subprocess.run(command, cwd=ROOT)
    if done.returncode:
        sys.exit(done.returncode)
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def step_seconds(config: str, workdir: pathlib.Path) -> float:
    """Return the median time of a step, from a training of a few steps that is kept."""
    few = ["--config.log_steps=1", "--config.evals={}", "--config.checkpoint.keep_best="]
    logged = train(config, workdir, WARM + TIMED, *few)
    times = [row["time/step_ms"] for row in logged if "time/step_ms" in row]
    return statistics.median(times[WARM:]) / 1000


def scores(workdir: pathlib.Path, split: str) -> dict[str, float]:
    """Return mIoU, and the mean Dice of all classes but the first."""
    report = json.loads((workdir / "eval" / f"{split}.json").read_text())
    rows = [*report["per_class"].values()][1:]
    dice = [row["dice"] for row in rows if row["dice"] is not None]
    return {"miou": report["miou"], "dice_foreground": statistics.mean(dice)}


def pace(name: str, root: pathlib.Path, minutes: float) -> dict[str, float]:
    """Return the seconds of a step of both configs, kept in the folder once they are measured."""
    path = root / "timed" / f"{name}.json"
    if not path.exists():
        both = configs(name, minutes)
        times: dict[str, list[float]] = {kind: [] for kind in both}
        for turn in range(2):
            for kind, config in both.items():
                timed = path.parent / f"{name}_{kind.replace(' ', '_')}_{turn}"
                times[kind].append(step_seconds(config, timed))
        path.write_text(json.dumps({kind: min(each) for kind, each in times.items()}))
    return json.loads(path.read_text())


def compare(name: str, root: pathlib.Path, minutes: float) -> dict[str, Any]:
    """Train both configs of a data set, and return a line of the results."""
    split, times = PAIRS[name][1], pace(name, root, minutes)
    line: dict[str, Any] = {"data": name, "split": split, "minutes": minutes}
    for kind, config in configs(name, minutes).items():
        folder, each = root / f"{name}_{kind.replace(' ', '_')}", times[kind]
        steps = max(10, round(60 * minutes / each))
        train(config, folder, steps)
        found = scores(folder, split)
        line[kind] = {"config": config, "steps": steps, "step_ms": round(1000 * each), **found}
    line["difference"] = line["auto"]["miou"] - line["by hand"]["miou"]
    return line


def redraw(text: str, records: list[dict[str, Any]]) -> str:
    """Return the page with the table of the records."""
    from segjax.studies import tables

    rows = ["| data | split | minutes | by hand: steps, mIoU, Dice | auto | difference of mIoU |"]
    rows.append("| --- | --- | --- | --- | --- | --- |")
    for record in records:
        cells = [
            f"{own['steps']:,}, {own['miou']:.3f}, {own['dice_foreground']:.3f}"
            for own in (record["by hand"], record["auto"])
        ]
        rows.append(
            f"| {record['data']} | {record['split']} | {record['minutes']:g} | "
            f"{' | '.join(cells)} | {record['difference']:+.3f} |"
        )
    return tables.redraw(text, "\n".join(rows), begin=BEGIN, end=END)


def load() -> list[dict[str, Any]]:
    """Return the records."""
    path = HERE / "results.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def main() -> None:
    """Compare each data set that results.jsonl does not have with these minutes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/auto"))
    parser.add_argument("--minutes", type=float, default=6.0, help="of each training")
    parser.add_argument("--only", nargs="+", default=[*PAIRS], choices=[*PAIRS])
    values = parser.parse_args()
    facts = {
        "date": datetime.date.today().isoformat(),
        "command": f"python -m experiments.auto.study --minutes={values.minutes:g}",
        "cores": len(os.sched_getaffinity(0)),
    }
    root, have = values.workdir.resolve(), {(r["data"], r["minutes"]) for r in load()}
    missing = [name for name in values.only if (name, values.minutes) not in have]
    for name in missing:
        pace(name, root, values.minutes)
    for name in missing:
        line = compare(name, root, values.minutes) | facts
        print(json.dumps(line), flush=True)
        with (HERE / "results.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
    page = HERE / "README.md"
    page.write_text(redraw(page.read_text(), load()))


if __name__ == "__main__":
    main()
