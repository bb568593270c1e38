"""What augmentation costs, beside albumentations, torchvision and batchgeneratorsv2, in turns.

    python -m experiments.augment.study --torch_python=<an interpreter that has the others>
    python -m experiments.augment.study --only=nnU-Net --turns=9
    python -m experiments.augment.study --table                  # only write the README again

Each side is a process of its own; one works while the others sleep. A record a work goes to
results.jsonl.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import random
import statistics
import sys

from experiments.augment.works import CALLS, EVERY, POLICY, STEP, WORKS
from experiments.speed.study import Worker, processor, typed
from segjax.studies import tables
from segjax.views import progress

HERE = pathlib.Path(__file__).parent
RESULTS, README = HERE / "results.jsonl", HERE / "README.md"
MARKS = {
    "ops": ("<!-- ops: written by study.py -->", "<!-- end of ops -->"),
    "policy": ("<!-- policy: written by study.py -->", "<!-- end of policy -->"),
}
PROGRAM = "experiments.augment.worker"


def measure(workers: list[Worker], work: str, turns: int) -> dict:
    """Return one record: of every side the median and quartiles of a batch's seconds."""
    seconds: dict[int, list[float]] = {i: [] for i in range(len(workers))}
    chance = random.Random(0)
    loads = []
    for turn in range(turns + 1):
        for i in chance.sample(list(seconds), len(seconds)):
            workers[i].orders.write(f"{work}\n")
            workers[i].orders.flush()
            answer = workers[i].read("TOOK").strip()
            if answer == "none":
                del seconds[i]
            elif turn:  # the first one is unseen: others may compile beside it
                seconds[i].append(float(answer))
        loads.append(os.getloadavg()[0])
    return {
        "work": work,
        "turns": turns,
        "runs": [
            {
                "side": workers[i].side,
                "variant": workers[i].variant,
                **workers[i].facts,
                "median": statistics.median(found),
                "quartiles": statistics.quantiles(found, n=4)[::2],
            }
            for i, found in seconds.items()
        ],
        "load": statistics.median(loads),
        "cores": len(os.sched_getaffinity(0)),
        "processor": processor(),
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
        "command": typed("experiments.augment.study"),
    }


def run_of(record: dict, side: str, variant: str) -> dict:
    """Return what a record has of one side; empty: nothing."""
    named = (r for r in record["runs"] if (r["side"], r["variant"]) == (side, variant))
    return next(named, {})


def table_of_ops(records: list[dict]) -> str:
    """Return the ops as a Markdown table."""
    last = {record["work"]: record for record in records}
    step = run_of(last[STEP], "segjax", "float32") if STEP in last else {}
    rows = []
    for work in WORKS:
        if work not in last:
            continue
        own = run_of(last[work], "segjax", "float32")
        theirs = run_of(last[work], "others", "threads")
        torchvision = run_of(last[work], "others", "torchvision")
        rows.append([
            work, f"`{WORKS[work].section['type'] or 'geometry:*'}`",
            shown(own), f"{own['median'] / step['median']:.1%}" if step else "",
            shown(theirs) if theirs else "", WORKS[work].theirs[0] if theirs else "",
            f"{own['median'] / theirs['median']:.2f}" if theirs else "",
            shown(torchvision) if torchvision else "",
            WORKS[work].torchvision[0] if torchvision else "",
            f"{own['median'] / torchvision['median']:.2f}" if torchvision else "",
            f"{last[work]['load']:.1f}",
        ])  # fmt: skip
    head = ["op", "type", "segjax", "of a step", "albumentations", "class", "ratio"]
    head += ["torchvision", "class", "ratio", "load"]
    return tables.markdown(head, rows)


def table_of_policy(records: list[dict]) -> str:
    """Return nnU-Net's set as a Markdown table."""
    rows = []
    for record in [r for r in records if r["work"] == POLICY][-1:]:
        own = run_of(record, "segjax", "float32")
        for run in record["runs"]:
            version = run["versions"].get("batchgeneratorsv2") or run["versions"]["jax"]
            name = "segjax" if run is own else f"batchgeneratorsv2, {run['variant']}"
            ratio = f"{own['median'] / run['median']:.2f}"
            rows.append([name, version, shown(run), ratio, f"{record['load']:.1f}"])
    return tables.markdown(["side", "version", "two volumes", "segjax / this", "load"], rows)


def shown(run: dict) -> str:
    """Return a run as `1.2 ms (1.1 to 1.4)`."""
    middle, low, high = (1000 * x for x in (run["median"], *run["quartiles"]))
    return f"{middle:.1f} ms ({low:.1f} to {high:.1f})"


def load() -> list[dict]:
    """Return the records."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def redraw(text: str, records: list[dict]) -> str:
    """Return the page with its tables drawn from the records."""
    for name, draw in (("ops", table_of_ops), ("policy", table_of_policy)):
        begin, end = MARKS[name]
        text = tables.redraw(text, draw(records), begin=begin, end=end)
    return text


def main() -> None:
    """Measure what the command line names, append the records, write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch_python", default="", help="An interpreter that has the others.")
    parser.add_argument("--turns", type=int, default=9, help=f"Turns, of {CALLS} batches each.")
    parser.add_argument("--only", default="", help="Works, joined by a semicolon; all unless said.")
    parser.add_argument("--table", action="store_true", help="Measure nothing.")
    arguments = parser.parse_args()
    if not arguments.table:
        names = arguments.only.split(";") if arguments.only else list(EVERY)
        if unknown := {*names} - {*EVERY}:
            raise SystemExit(f"--only: no {', '.join(sorted(unknown))}. Known: {', '.join(EVERY)}.")
        workers = [Worker(sys.executable, "segjax", "float32", program=PROGRAM)]
        for variant in ("threads", "processes", "torchvision") if arguments.torch_python else ():
            workers.append(Worker(arguments.torch_python, "others", variant, program=PROGRAM))
        with RESULTS.open("a") as file, progress.Progress(len(names), unit="works") as bar:
            for number, name in enumerate(names, start=1):
                file.write(json.dumps(measure(workers, name, arguments.turns)) + "\n")
                file.flush()
                bar.update(number)
        for worker in workers:
            worker.close()
    README.write_text(redraw(README.read_text(), load()))


if __name__ == "__main__":
    main()
