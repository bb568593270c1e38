"""Read the same windows by segjax and by a PyTorch DataLoader, taking turns; record, write a table.

python -m experiments.data.study --torch_python=~/torch/bin/python  # with PyTorch and nibabel
python -m experiments.data.study jpeg png --repeats=9 --torch_python=…
python -m experiments.data.study --table                            # only write the table again

Both sides decode, cut and stack batches of 8 to the same bits, which is checked: images in their
own type, labels int32. PyTorch has two worker processes, segjax two threads; nothing is cached but
by the system. Each side reads on ahead as it is made to; what may be ready when its turn begins is
not timed, and the next turn waits as long as a side takes to read on after its own.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time

from experiments.data.works import AHEAD, BATCH, FILES, WORKS, write
from experiments.speed.study import Worker, processor, typed

HERE = pathlib.Path(__file__).parent
RESULTS, README = HERE / "results.jsonl", HERE / "README.md"
BEGIN, END = "<!-- speed: written by study.py -->", "<!-- end of speed -->"
PROGRAM = "experiments.data.worker"


def measure(work: str, root: pathlib.Path, torch_python: str, repeats: int) -> dict:
    """Return the record of a work: images a second of both sides."""
    workers: list[Worker] = []
    pythons = {"segjax": sys.executable} | ({"torch": torch_python} if torch_python else {})
    try:
        for side, python in pythons.items():
            workers.append(Worker(python, side, "", work, root, program=PROGRAM))
        chance = random.Random(0)
        for _ in range(repeats):
            for worker in chance.sample(workers, len(workers)):
                worker.work()
                time.sleep(worker.seconds[-1] * AHEAD / WORKS[work].batches)
    finally:
        for worker in workers:
            worker.close()
    if len({tuple(worker.facts["digests"]) for worker in workers}) > 1:
        raise SystemExit(f"{work}: the two sides give other bits.")
    images = BATCH * WORKS[work].batches
    return {
        "work": work, "repeats": repeats, "images_in_a_turn": images,
        "images_per_s": {w.side: images / statistics.median(w.seconds) for w in workers},
        "quartiles": {
            w.side: [images / s for s in statistics.quantiles(w.seconds, n=4)[::-2]]
            for w in workers
        },
        "cores": len(os.sched_getaffinity(0)), "processor": processor(),
        "python": platform.python_version(), "date": datetime.date.today().isoformat(),
        "command": typed("experiments.data.study"),
    }  # fmt: skip


def prepare(root: pathlib.Path, work: str, photos: list[pathlib.Path], repeats: int) -> None:
    """Write the files of a work, its prepared form, and the rows that the other side reads."""
    files = FILES.get(work, work)
    write(root, files, photos)
    program = (
        "import json, pathlib, sys; from experiments.data import segjax_side as side\n"
        "from experiments.data.works import WORKS; from segjax.data import preparing, store\n"
        "work, files, root, count = sys.argv[1:]; root = pathlib.Path(root)\n"
        "if files != work: preparing.write_split(side.source_of(root, files),"
        " store.Store(str(root / 'prepared')), 'train', made_from={})\n"
        "rows = side.rows(root, work, WORKS[work], int(count))\n"
        "(root / 'rows.json').write_text(json.dumps(rows))\n"
    )
    count = BATCH * ((WORKS[work].batches + AHEAD) * repeats + 20)
    command = [sys.executable, "-c", program, work, files, str(root), str(count)]
    subprocess.run(command, check=True, cwd=HERE.parents[1])


def table() -> str:
    """Return the last record of each work as a Markdown table."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    last = {record["work"]: record for record in map(json.loads, lines)}
    rows = [
        "| work | segjax, images/s | PyTorch, 2 workers | ratio |",
        "| --- | ---: | ---: | ---: |",
    ]
    for work, about in WORKS.items():
        if work not in last:
            continue
        speeds, spread = last[work]["images_per_s"], last[work]["quartiles"]
        cells = [
            f"{speeds[s]:,.0f} ({spread[s][0]:,.0f} to {spread[s][1]:,.0f})" if s in speeds else ""
            for s in ("segjax", "torch")
        ]
        ratio = f"{speeds['segjax'] / speeds['torch']:.2f}" if "torch" in speeds else ""
        rows.append(f"| {about.title} | {cells[0]} | {cells[1]} | {ratio} |")
    return "\n".join(rows)


def main() -> None:
    """Measure what the command line names, append the records, write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("works", nargs="*", metavar="WORK", help=", ".join(WORKS))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--torch_python", default="", help="interpreter with PyTorch and nibabel")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    options = parser.parse_args()
    photos = sorted(pathlib.Path(os.environ.get("SEGJAX_DATA", ".")).glob("camvid/train/images/*"))
    for work in [] if options.table else options.works or WORKS:
        if not photos:
            raise SystemExit("SEGJAX_DATA: expected a folder with camvid/train/images. Set it.")
        with tempfile.TemporaryDirectory() as folder, RESULTS.open("a") as log:
            root = pathlib.Path(folder)
            prepare(root, work, photos, options.repeats)
            record = measure(work, root, options.torch_python, options.repeats)
            log.write(json.dumps(record) + "\n")
        print(work, record["images_per_s"], flush=True)
    text = README.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}")


if __name__ == "__main__":
    main()
