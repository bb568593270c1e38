"""Measure segjax and PyTorch on the same work, taking turns; record, draw, write the table.

python -m experiments.speed.study                                # everything
python -m experiments.speed.study unet_small --kinds=train --repeats=15
python -m experiments.speed.study --sides=segjax                 # without PyTorch
python -m experiments.speed.study --torch_python=~/torch/bin/python  # PyTorch on its own Python
python -m experiments.speed.study --table                        # only draw again

Each side and variant is a process of its own; one works while the others sleep. They are started,
compiled and warmed up one after the other, then take turns `--repeats` times in a new order each.
"""

import argparse
import datetime
import importlib.util
import json
import os
import pathlib
import platform
import random
import re
import shutil
import statistics
import subprocess
import sys
from typing import Any

from experiments.speed import figure
from experiments.speed.works import KINDS, VARIANTS, WORKS, name_of
from segjax.views import progress

HERE = pathlib.Path(__file__).parent
RESULTS, README, PLOT = HERE / "results.jsonl", HERE / "README.md", HERE / "speed.png"
BEGIN, END = "<!-- speed: written by study.py -->", "<!-- end of speed -->"


class Worker:
    """A process that holds one side's work, compiled.

    `python` is the interpreter to run it, `arguments` are what its program takes behind the side,
    `checkout` is the working tree that it comes from, `wait` says whether to wait until its work is
    compiled. `seconds` are those of a clock on the wall,
    `busy` those that processors worked for it, where its program tells them.
    """

    def __init__(
        self,
        python: str,
        side: str,
        variant: str,
        *arguments: object,
        program: str = "experiments.speed.worker",
        checkout: pathlib.Path = HERE.parents[1],
        wait: bool = True,
    ):
        self.side, self.variant = side, variant
        self.process = subprocess.Popen(
            [python, "-m", program, side, variant, *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=checkout,
        )  # fmt: skip
        self.orders: Any = self.process.stdin
        self.answers: Any = self.process.stdout
        self.facts: dict[str, Any] = {}
        self.seconds: list[float] = []
        self.busy: list[float] = []
        if wait:
            self.wait()

    def wait(self) -> None:
        """Wait until the process has its work compiled."""
        self.facts = json.loads(self.read("READY"))

    def read(self, word: str) -> str:
        """Return what follows `word` on the next line that begins with it."""
        for line in self.answers:
            if line.startswith(word):
                return line.removeprefix(word)
        raise SystemExit(f"{self.side}, {self.variant}: the worker ended, see its message above.")

    def work(self) -> None:
        """Let the process work once, and note how long it took."""
        self.orders.write("go\n")
        self.orders.flush()
        seconds, *busy = map(float, self.read("TOOK").split())
        self.seconds.append(seconds)
        self.busy += busy

    def close(self) -> None:
        """End the process."""
        self.orders.close()
        self.process.wait()


def measure(
    work: str,
    kind: str,
    variants: list[tuple[str, str, str]],
    repeats: int,
    *,
    gpu: bool,
    together: bool,
) -> dict:
    """Return one record: medians and quartiles of every side and variant, from one run.

    `variants` are of (python, side, variant); `together` compiles them at the same time.
    """
    size, batch = WORKS[work].gpu if gpu else WORKS[work].cpu
    workers = []
    try:
        what = work, kind, json.dumps(size), batch
        for variant in variants:
            workers.append(Worker(*variant, *what, wait=not together))
        for worker in workers if together else ():
            worker.wait()
        chance = random.Random(0)
        for _ in range(repeats):
            for worker in chance.sample(workers, len(workers)):
                worker.work()
    finally:
        for worker in workers:
            worker.close()
    return {
        "work": work, "kind": kind, "size": size, "batch": batch, "repeats": repeats,
        "runs": [
            {
                "side": worker.side, "variant": worker.variant, **worker.facts,
                "median": statistics.median(worker.seconds),
                "quartiles": statistics.quantiles(worker.seconds, n=4)[::2],
                "processor_median": statistics.median(worker.busy),
            }
            for worker in workers
        ],
        "cores": len(os.sched_getaffinity(0)),
        "processor": processor(),
        "python": platform.python_version(), "load": os.getloadavg()[1],
        "date": datetime.date.today().isoformat(),
        "command": typed("experiments.speed.study"),
    }  # fmt: skip


def typed(module: str) -> str:
    """Return the command that was typed, as a record holds it: without paths of the machine."""
    given = [re.sub(r"^(--\w+_python=).*", r"\1…", argument) for argument in sys.argv[1:]]
    return " ".join([f"python -m {module}", *given])


def processor() -> str:
    """Return the name of the host's processor."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if "model name" in line), "")


def table(records: list[dict]) -> str:
    """Return the records as a Markdown table."""
    lines = [
        "| work | device | segjax | PyTorch, fastest | ratio | GFLOP | MFU | of the roofline |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for record in records:
        ours, theirs = figure.fastest(record, "segjax"), figure.fastest(record, "torch")
        if ours is None:
            continue
        size = f"{record['batch']} × {name_of(record['size'])}"
        cells = [
            f"{WORKS[record['work']].title}, {record['kind']}, {size}",
            ours["device"] if ours["device"] != "cpu" else f"{record['cores']} CPU cores",
            shown(ours),
            shown(theirs) if theirs else "",
            f"{ours['median'] / theirs['median']:.2f}" if theirs else "",
            f"{ours['flops'] / 1e9:,.0f}",
            f"{ours['flops'] / ours['median'] / ours['peak_flops']:.0%}",
            f"{figure.roofline_seconds(ours) / ours['median']:.0%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def shown(run: dict) -> str:
    """Return a run as `123 ms (110 to 140), variant`."""
    low, high = (1e3 * seconds for seconds in run["quartiles"])
    return f"{1e3 * run['median']:,.0f} ms ({low:,.0f} to {high:,.0f}), {run['variant']}"


def latest() -> list[dict]:
    """Return the last record of each work, kind and device, in the order of `WORKS`."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    last = {}
    for record in map(json.loads, lines):
        last[record["runs"][0]["device"], record["work"], record["kind"]] = record
    order = [(work, kind) for work in WORKS for kind in KINDS]
    return sorted(last.values(), key=lambda r: order.index((r["work"], r["kind"])))


def main() -> None:
    """Measure what the command line names, append the records, draw table and plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("works", nargs="*", metavar="WORK", help=", ".join(WORKS))
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--sides", default=",".join(VARIANTS))
    parser.add_argument("--variants", default="", help="all, or some: float32,eager,compile")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--together", action="store_true", help="compile all at the same time")
    parser.add_argument("--torch_python", default="", help="interpreter with PyTorch, if another")
    arguments = parser.parse_args()
    sides, theirs = arguments.sides.split(","), arguments.torch_python
    if "torch" in sides and not theirs and importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed (requirements-parity.txt): only segjax's side runs.")
        sides.remove("torch")
    chosen = arguments.variants.split(",") if arguments.variants else sum(VARIANTS.values(), ())
    pythons = {"segjax": sys.executable, "torch": theirs or sys.executable}
    variants = [
        (pythons[side], side, name) for side in sides for name in VARIANTS[side] if name in chosen
    ]
    kinds = arguments.kinds.split(",")
    jobs = [(w, k) for w in arguments.works or WORKS for k in WORKS[w].kinds if k in kinds]
    jobs = [] if arguments.table else jobs
    gpu = shutil.which("nvidia-smi") is not None
    with progress.Progress(len(jobs), unit="works") as bar, RESULTS.open("a") as log:
        for number, (work, kind) in enumerate(jobs, 1):
            record = measure(
                work, kind, variants, arguments.repeats, gpu=gpu, together=arguments.together
            )
            log.write(json.dumps(record) + "\n")
            log.flush()
            bar.message(table([record]).splitlines()[-1])
            bar.update(number)
    records = latest()
    figure.draw(PLOT, records)
    text = README.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n{table(records)}\n{END}{after}")


if __name__ == "__main__":
    main()
