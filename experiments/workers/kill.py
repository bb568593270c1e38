"""Is a run of a study lost, repeated or half-counted when workers are killed at random?

python -m experiments.workers.kill --repeats=20
"""

import argparse
import datetime
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

HERE = pathlib.Path(__file__).parent
STUDY = HERE / "studied.py"
WORKERS = 3
PAUSE = (2.0, 10.0)
"""Seconds between two kills."""
PATIENCE = 1800.0
"""Seconds after which a repetition has failed."""


def start(root: pathlib.Path) -> subprocess.Popen:
    """Start a worker of the study in `root`."""
    command = [sys.executable, "run.py", "--mode=study", f"--study={STUDY}"]
    command += [f"--workdir={root / 'runs'}", f"--output={root}"]
    with (root / "log.txt").open("a") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=HERE.parents[1])


def records(root: pathlib.Path) -> list[dict[str, Any]]:
    """Return the lines of the results; each must be whole at any time."""
    path = root / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def scores(root: pathlib.Path) -> dict[tuple[str, int], dict[str, float]]:
    """Return the scores of each run."""
    return {(r["row"], r["seed"]): r["scores"] for r in records(root)}


def begun(root: pathlib.Path) -> dict[pathlib.Path, list[str]]:
    """Return from the folder of each run the lines of its log that say that it was begun."""
    logs = root.glob("runs/*/seed*/log.txt")
    return {p.parent: [x for x in p.read_text().splitlines() if "from step" in x] for p in logs}


def repeat(seed: int, expected: dict) -> dict[str, Any]:
    """Share the study once, workers killed at random; return what became of it."""
    chance, kills, late, torn = random.Random(seed), 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        workers = [start(root) for _ in range(WORKERS)]
        began, before = time.monotonic(), {}
        while any(worker.poll() is None for worker in workers):
            if time.monotonic() - began > PATIENCE:
                break
            time.sleep(chance.uniform(*PAUSE))
            number = chance.randrange(WORKERS)
            if workers[number].poll() is None and len(records(root)) < len(expected):
                workers[number].send_signal(signal.SIGKILL)
                workers[number].wait()
                kills += 1
                workers[number] = start(root)
            try:
                done = len(records(root))
            except ValueError:
                torn, done = torn + 1, 0
            finished = {path: len(lines) for path, lines in begun(root).items()}
            late += sum(finished[path] > n for path, n in before.items())
            before = {path: finished[path] for path in recorded(root)} if done else {}
        codes = [worker.wait() for worker in workers]
        found = scores(root)
        return {
            "seed": seed,
            "workers": WORKERS,
            "runs": len(expected),
            "killed": kills,
            "begun": sum(len(lines) for lines in begun(root).values()),
            "lost": len(expected.keys() - found.keys()),
            "repeated": len(records(root)) - len(found) + late,
            "half_counted": torn + sum(found[k] != expected[k] for k in found),
            "exit_codes": codes,
            "minutes": (time.monotonic() - began) / 60,
        }


def recorded(root: pathlib.Path) -> list[pathlib.Path]:
    """Return the folders of the runs that the results have."""
    known = set(scores(root))
    return [
        path
        for path in root.glob("runs/*/seed*")
        if (path / "config.json").exists()
        and (rate_of(path), int(path.name.removeprefix("seed"))) in known
    ]


def rate_of(path: pathlib.Path) -> str:
    """Return the row of a run's folder."""
    rate = json.loads((path / "config.json").read_text())["optimizer"]["lr"]
    known = {float(text): text for text in ("1e-4", "3e-4", "1e-3", "3e-3", "1e-2", "3e-2")}
    return known[rate]


def main() -> None:
    """Repeat, a line in results.jsonl each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="seed of the first repetition")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        if start(root).wait():
            sys.exit((root / "log.txt").read_text())
        expected = scores(root)
    for seed in range(given.first, given.first + given.repeats):
        found = repeat(seed, expected)
        when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        machine = {"cores": len(os.sched_getaffinity(0)), "date": when}
        with (HERE / "results.jsonl").open("a") as log:
            log.write(json.dumps(found | machine) + "\n")
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
