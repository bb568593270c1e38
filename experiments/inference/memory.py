"""What the host's memory holds while large images are scored and predicted, each in a process.

python -m experiments.inference.memory    # everything; some 15 minutes on two cores
python -m experiments.inference.memory "score 2048" "predict 20000"

A small U-Net sees windows of 256 pixels. `score ROWS` measures a split of one image, ROWS x 4096
pixels of three bands, with a mask of 150 classes, both TIFF files in tiles; `predict SIDE` predicts
a TIFF file of SIDE x SIDE pixels to one. The peak is the kernel's VmHWM of the process: Python, JAX
and the compiled programs in it.
"""

import argparse
import contextlib
import datetime
import itertools
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tifffile

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "memory.jsonl"
JOBS = ("score 2048", "score 4096", "score 16384", "score 4096 gaussian", "predict 20000")
WIDTH, CLASSES, TILE = 4096, 150, 256


def write(path: pathlib.Path, size: tuple[int, int], *, bands: int, classes: int = CLASSES) -> None:
    """Write noise in tiles, without ever holding it all."""
    draw = np.random.default_rng(0)
    high = 256 if bands == 3 else classes
    made = [draw.integers(0, high, (TILE, TILE, bands), np.uint8) for _ in range(7)]
    count = -(-size[0] // TILE) * -(-size[1] // TILE)
    shape = (*size, 3) if bands == 3 else size
    tiles: Iterator[Any] = (
        made[number % 7] if bands == 3 else made[number % 7][..., 0] for number in range(count)
    )
    tifffile.imwrite(
        path, tiles, shape=shape, dtype=np.uint8, tile=(TILE, TILE), compression="zlib",
        photometric="rgb" if bands == 3 else "minisblack", metadata=None,
    )  # fmt: skip


def work(job: str, folder: str) -> None:
    """Do a job in this process and say what it took."""
    from experiments.inference import segjax_side
    from experiments.inference.worker import peak
    from experiments.inference.works import Work
    from segjax.data import folder as folder_source
    from segjax.data.decode import Reading
    from segjax.evaluators import semantic
    from segjax.inference import folder as predicting
    from segjax.inference import paths
    from segjax.runtime import xla
    from segjax.structs import Classes
    from segjax.views.progress import Progress

    xla.prepare()
    kind, side, *blend = job.split()
    classes = CLASSES if kind == "score" else 3
    inference = {"blend": blend[0]} if blend else {"blend": "nearest"}
    described = Work("", (8, 16, 32), classes, 3, (), (256, 256), 0.25)
    network = segjax_side.make_network(described, "float32", **inference)
    names = tuple(map(str, range(classes)))
    palette = tuple((n, n, n) for n in range(classes))
    root = pathlib.Path(folder)
    begun = time.perf_counter()
    if kind == "score":
        source = folder_source.Source(split="val", root=folder, class_names=names)
        evaluator = semantic.Evaluator(
            split="val", batch_size=1, threads=1, name="val", source=source,
            classes=Classes(names, palette, 3),
        )  # fmt: skip
        with Progress(1, unit="images", enabled=False) as bar:
            report = evaluator.evaluate(network, step=0, progress=bar, draw=False)
        found = report.result["num_pixels"], int(side) * WIDTH
    else:
        predicting.predict(
            paths.list_inputs(folder), root / "out", predictor=network,
            classes=Classes(names, palette, 3), reading=Reading(channels=3), step=0,
            layout=network.forward.layout,
        )  # fmt: skip
        with tifffile.TiffFile(next((root / "out").glob("*_label.tif"))) as written:
            found = written.pages.first.shape, (int(side), int(side))
    if found[0] != found[1]:
        raise SystemExit(f"{job}: got {found[0]}, expected {found[1]}")
    seconds = time.perf_counter() - begun
    print("DONE " + json.dumps({"peak_bytes": peak(), "seconds": seconds}), flush=True)


def measure(job: str) -> dict:
    """Return the record of a job, done in a process of its own."""
    kind, side = job.split()[:2]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(HERE.parents[1]):
        root = pathlib.Path(folder)
        if kind == "score":
            for part, bands in (("images", 3), ("labels", 1)):
                (root / "val" / part).mkdir(parents=True)
                write(root / "val" / part / "x.tif", (int(side), WIDTH), bands=bands)
        else:
            write(root / "x.tif", (int(side), int(side)), bands=3)
        command = [sys.executable, "-m", "experiments.inference.memory", "--child", job, folder]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    answers = [line for line in done.stdout.splitlines() if line.startswith("DONE ")]
    if done.returncode or not answers:
        raise SystemExit(f"{job}: the process ended with {done.returncode}, see its message above.")
    return {
        "job": job, **json.loads(answers[0].removeprefix("DONE ")),
        "cores": len(os.sched_getaffinity(0)), "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
        "command": f'python -m experiments.inference.memory "{job}"',
    }  # fmt: skip


def main() -> None:
    """Measure what the command line names, append the records, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=", ".join(JOBS))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        work(*options.jobs)
        return
    with RESULTS.open("a") as log:
        for job in options.jobs or JOBS:
            record = measure(job)
            log.write(json.dumps(record) + "\n")
            log.flush()
            print(f"{job}: {record['peak_bytes'] / 1e9:.2f} GB, {record['seconds']:.0f} s")


def latest() -> list[dict]:
    """Return the last record of each job, in the order of `JOBS`."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    last = {record["job"]: record for record in map(json.loads, lines)}
    return [last[job] for job in itertools.chain(JOBS) if job in last]


if __name__ == "__main__":
    main()
