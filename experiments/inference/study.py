"""Measure segjax and MONAI's sliding-window inferer on the same work, taking turns.

python -m experiments.inference.study --monai_python=<an interpreter that has MONAI>
python -m experiments.inference.study street --repeats=9 --variants=float32,eager,channels_last
python -m experiments.inference.study --table                  # only write the README again

Each side and variant is a process of its own; one works while the others sleep.
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

from experiments.inference import memory
from experiments.inference.works import KINDS, VARIANTS, WORKS
from experiments.speed.study import Worker, processor, typed
from segjax.views import progress

HERE = pathlib.Path(__file__).parent
RESULTS, README = HERE / "results.jsonl", HERE / "README.md"
MARKS = {
    "speed": ("<!-- speed: written by study.py -->", "<!-- end of speed -->"),
    "memory": ("<!-- memory: written by study.py -->", "<!-- end of memory -->"),
}


def measure(work: str, variants: list[tuple[str, str, str]], repeats: int) -> dict:
    """Return one record: medians and quartiles of every side, variant and kind, from one run.

    `variants` are of (python, side, variant). segjax also sends as many windows through the network
    and does nothing else (`bare`).
    """
    workers: list[tuple[str, Worker]] = []
    try:
        for python, side, variant in variants:
            for kind in (*KINDS, *["bare"] * (side == "segjax")):
                program = "experiments.inference.worker"
                workers.append((kind, Worker(python, side, variant, work, kind, program=program)))
        chance = random.Random(0)
        for _ in range(repeats):
            for _, worker in chance.sample(workers, len(workers)):
                worker.work()
        peaks = [int(ask(worker, "peak", "PEAK")) for _, worker in workers]
    finally:
        for _, worker in workers:
            worker.close()
    return {
        "work": work, "repeats": repeats,
        "runs": [
            {
                "side": worker.side, "variant": worker.variant, "kind": kind, **worker.facts,
                "peak_bytes": peak, "median": statistics.median(worker.seconds),
                "quartiles": statistics.quantiles(worker.seconds, n=4)[::2],
            }
            for (kind, worker), peak in zip(workers, peaks, strict=True)
        ],
        "cores": len(os.sched_getaffinity(0)), "processor": processor(),
        "python": platform.python_version(), "date": datetime.date.today().isoformat(),
        "command": typed("experiments.inference.study"),
    }  # fmt: skip


def ask(worker: Worker, order: str, word: str) -> str:
    """Return what a worker answers to an order."""
    worker.orders.write(f"{order}\n")
    worker.orders.flush()
    return worker.read(word)


def table(records: list[dict]) -> str:
    """Return the records as a Markdown table."""
    lines = [
        "| work | type | segjax | MONAI as documented | MONAI, fastest | ratio | of the fastest "
        "| scored: segjax | MONAI and torchmetrics | joining | memory |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for record in records:
        for variant, names in (
            ("float32", ("eager", "channels_last", "compile")),
            ("bfloat16", ("bf16", "compile bf16")),
        ):
            ours = {r["kind"]: r for r in record["runs"] if r["variant"] == variant}
            theirs = [r for r in record["runs"] if r["side"] == "monai" and r["variant"] in names]
            if not ours or not theirs:
                continue
            best = {
                kind: min((r for r in theirs if r["kind"] == kind), key=lambda r: r["median"])
                for kind in KINDS
            }
            plain = next(r for r in theirs if r["variant"] == names[0] and r["kind"] == "predict")
            own, bare = ours["predict"]["median"], ours["bare"]["median"]
            cells = [
                WORKS[record["work"]].title,
                variant,
                shown(ours["predict"]),
                shown(plain),
                f"{shown(best['predict'])}, {best['predict']['variant']}",
                f"{plain['median'] / own:.2f}",
                f"{best['predict']['median'] / own:.2f}",
                shown(ours["score"]),
                shown(best["score"]),
                f"{ours['score']['median'] / bare - 1:.1%}",
                f"{ours['score']['peak_bytes'] / 1e9:.2f} GB, "
                f"MONAI {best['score']['peak_bytes'] / 1e9:.2f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def memory_table() -> str:
    """Return the records of `memory` as a Markdown table."""
    lines = ["| job | peak of the process | time |", "| --- | ---: | ---: |"]
    lines += [
        f"| {record['job']} | {record['peak_bytes'] / 1e9:.2f} GB | {record['seconds']:,.0f} s |"
        for record in memory.latest()
    ]
    return "\n".join(lines)


def shown(run: dict) -> str:
    """Return a run as `1.23 s (1.10 to 1.40)`."""
    low, high = run["quartiles"]
    return f"{run['median']:.2f} s ({low:.2f} to {high:.2f})"


def latest() -> list[dict]:
    """Return the last record of each work, in the order of `WORKS`."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    last = {record["work"]: record for record in map(json.loads, lines)}
    return [last[work] for work in WORKS if work in last]


def main() -> None:
    """Measure what the command line names, append the records, write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("works", nargs="*", metavar="WORK", help=", ".join(WORKS))
    parser.add_argument("--variants", default="", help="all, or some: float32,eager")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--monai_python", default=sys.executable, help="interpreter with MONAI")
    options = parser.parse_args()
    chosen = options.variants.split(",") if options.variants else sum(VARIANTS.values(), ())
    pythons = {"segjax": sys.executable, "monai": options.monai_python}
    variants = [
        (pythons[side], side, name)
        for side in VARIANTS
        for name in VARIANTS[side]
        if name in chosen
    ]
    works = [] if options.table else options.works or list(WORKS)
    with progress.Progress(len(works), unit="works") as bar, RESULTS.open("a") as log:
        for number, work in enumerate(works, 1):
            record = measure(work, variants, options.repeats)
            log.write(json.dumps(record) + "\n")
            log.flush()
            for row in table([record]).splitlines()[2:]:
                bar.message(row)
            bar.update(number)
    text = README.read_text()
    for name, content in (("speed", table(latest())), ("memory", memory_table())):
        begin, end = MARKS[name]
        before, after = text.split(begin)[0], text.split(end)[1]
        text = f"{before}{begin}\n{content}\n{end}{after}"
    README.write_text(text)


if __name__ == "__main__":
    main()
