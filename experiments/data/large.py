"""What host memory training on windows of a large file takes, and how long reading one does.

python -m experiments.data.large                # 20,000 x 20,000 pixels; some minutes on two cores
python -m experiments.data.large --side=4000    # a smaller one

A TIFF file of SIDE x SIDE pixels of three bands and its mask, both in tiles of 256, are written. A
small U-Net trains on windows of 512 pixels, a third of them laid over a class, in a process of its
own: the peak is the kernel's VmHWM of it, Python, JAX and the compiled step in it. In another one
windows are read at places drawn at random, one at a time.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "large.jsonl"
JOBS = ("train", "windows")
WINDOW, CLASSES, STEPS, COUNT = 512, 5, 6, 200


def train(root: str) -> dict:
    """Train for a few steps, as `run.py` does."""
    import segjax
    from configs import zoo
    from experiments.inference.worker import peak
    from segjax.config import schema
    from segjax.config.sections import parse_arg

    config = schema.defaults()
    config.total_steps, config.log_steps = STEPS, 1
    config.checkpoint.keep_best = ""
    config.input.update(
        source=dict(type="folder", root=root, channels=3),
        size=(WINDOW, WINDOW),
        fit="window",
        batch_size=2,
    )
    config.input.window.share = 1 / 3
    config.optimizer.update(type="adamw", lr=1e-3, schedule=dict(type="constant"))
    zoo.put(config, parse_arg("model=unet,size=debug", **zoo.ARGUMENTS))
    begun = time.perf_counter()
    segjax.train(config, pathlib.Path(root) / "run")
    return {"peak_bytes": peak(), "seconds": time.perf_counter() - begun}


def windows(root: str) -> dict:
    """Read windows one after the other, at places of which each is looked at first."""
    from experiments.inference.worker import peak
    from segjax.data import folder, windows

    source = folder.Source(split="train", root=root, channels=3)
    found = {}
    for name, share in (("anywhere", 0.0), ("over a class", 1.0)):
        sampling = windows.Sampling(share, tuple(range(1, len(source.class_names))))
        draw = windows.Windows(
            source, schema=source.schema, size=(WINDOW, WINDOW), pad_value=0, seed=0,
            sampling=sampling,
        )  # fmt: skip
        seconds = []
        for position in range(COUNT + 1):
            begun = time.perf_counter()
            draw(0, position)
            seconds.append(1e3 * (time.perf_counter() - begun))
        first, *rest = seconds
        cuts = statistics.quantiles(rest, n=20)
        found[name] = {"first_ms": first, "median_ms": statistics.median(rest), "p95_ms": cuts[-1]}
    return {"peak_bytes": peak(), "windows": found}


def measure(job: str, side: int, root: str) -> dict:
    """Return the record of a job, done in a process of its own."""
    command = [sys.executable, "-m", "experiments.data.large", "--child", job, root]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=HERE.parents[1])
    answers = [line for line in done.stdout.splitlines() if line.startswith("DONE ")]
    if done.returncode or not answers:
        raise SystemExit(f"{job}: the process ended with {done.returncode}, see its message above.")
    return {
        "job": job, "side": side, **json.loads(answers[0].removeprefix("DONE ")),
        "cores": len(os.sched_getaffinity(0)), "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
        "command": f"python -m experiments.data.large --side={side}",
    }  # fmt: skip


def main() -> None:
    """Write the files, do the jobs, append the records."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        job, root = options.child
        print("DONE " + json.dumps({"train": train, "windows": windows}[job](root)), flush=True)
        return
    from experiments.inference import memory

    with tempfile.TemporaryDirectory() as root, RESULTS.open("a") as log:
        size = options.side, options.side
        for part, bands in (("images", 3), ("labels", 1)):
            folder = pathlib.Path(root) / "train" / part
            folder.mkdir(parents=True)
            memory.write(folder / "x.tif", size, bands=bands, classes=CLASSES)
        names = [str(number) for number in range(CLASSES)]
        (pathlib.Path(root) / "meta.json").write_text(json.dumps({"class_names": names}))
        for job in JOBS:
            record = measure(job, options.side, root)
            log.write(json.dumps(record) + "\n")
            log.flush()
            print(f"{job}: {record['peak_bytes'] / 1e9:.2f} GB", record.get("windows", ""))


if __name__ == "__main__":
    main()
