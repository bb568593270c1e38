"""Does anything but the work since the last checkpoint get lost, whatever happens to the machines?

python -m experiments.faults.study --repeats=20

Each fault strikes a job of two local processes again and again at random moments; the job is
started again after each until it is done. Then its final state must be that of an undisturbed job,
bit for bit, and so must every logged loss. "… at any moment" strikes a process that is alone, its
start-up included. "second …" starts another training in the same workdir or on the same root. One
line a fault goes to results.jsonl.
"""

import argparse
import collections
import contextlib
import datetime
import importlib.metadata
import json
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
from absl import logging

from segjax.runs import writer
from tests.distributed import jobs

HERE = pathlib.Path(__file__).parent
TOTAL = 2000
SAVE_EVERY = TOTAL // 100
SHORT = 800
"""Steps of a process that is alone, a checkpoint every 8."""
MOMENTS = (0.0, 12.0)
"""Seconds after a start at which a signal comes to a process that is alone."""
STRIDE = (25, 45)
"""Steps after a start between which a fault strikes: more than a damaged checkpoint throws back."""


def arguments(work: pathlib.Path, total: int = TOTAL) -> list[str]:
    return [
        "--config=configs/quickstart.py:debug", f"--workdir={work}", "--config.log_steps=1",
        f"--config.total_steps={total}", "--config.evals.val.every_percent=100",
        "--config.checkpoint.save_percent=1",
    ]  # fmt: skip


def newest(work: pathlib.Path) -> int:
    """Return the newest checkpoint of a run, 0 without."""
    folders = (work / "checkpoints").glob("[0-9]*")
    return max((int(path.name) for path in folders if path.name.isdigit()), default=0)


def signalled(number: int, victims: Callable[[random.Random], list[int]]) -> Callable:
    """Return a fault that sends a signal to some of the processes."""

    def strike(job: jobs.Job, work: pathlib.Path, chance: random.Random) -> None:
        for victim in victims(chance):
            job[victim].send_signal(number)

    return strike


def fill_disk(job: jobs.Job, work: pathlib.Path, chance: random.Random) -> None:
    """Leave at most 64 kB of the small disk that the run is on, until the job has ended."""
    ballast = work.parent / "ballast"
    # Where the job itself takes the last of it first, the disk is full all the same.
    with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
        free = shutil.disk_usage(work).free - chance.randint(0, 1 << 16)
        file.write(b"\0" * max(free, 0))
    job.wait(120)
    ballast.unlink(missing_ok=True)


def hurt_newest(truncate: bool) -> Callable:
    """Return a fault that stops the job, then cuts short or removes a file of its checkpoint."""

    def strike(job: jobs.Job, work: pathlib.Path, chance: random.Random) -> None:
        job[chance.randint(0, 1)].send_signal(signal.SIGTERM)
        job.wait(60)
        folder = work / "checkpoints" / str(newest(work))
        file = chance.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
        if truncate:
            content = file.read_bytes()
            file.write_bytes(content[: chance.randrange(max(len(content), 1))])
        else:
            file.unlink()

    return strike


ALONE = {
    f"{number.name} at any moment": number
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
}
SECOND = ("second in one workdir", "second on one root")


def one(chance: random.Random) -> list[int]:
    return [chance.randint(0, 1)]


def both(_: random.Random) -> list[int]:
    return [0, 1]


STRIKES = {
    "kill -9 of one": signalled(signal.SIGKILL, one),
    "kill -9 of both": signalled(signal.SIGKILL, both),
    "SIGTERM to one": signalled(signal.SIGTERM, one),
    "SIGTERM to both": signalled(signal.SIGTERM, both),
    "full disk": fill_disk,
    "checkpoint file truncated": hurt_newest(truncate=True),
    "checkpoint file removed": hurt_newest(truncate=False),
}


def repeat(name: str, still: pathlib.Path, root: pathlib.Path, *, repeats: int, seed: int) -> dict:
    """Let a fault strike again and again; finish each run and compare it with the still one.

    A fault that is felt late brings a run near its end: then it is finished and another begun. One
    that had finished before it felt the fault was not struck.
    """
    chance = random.Random(f"{name} {seed}")
    log, lost, ends, codes = still.parent / "log", [], [], collections.Counter()
    same = same_losses = True
    aside = runs = 0
    while len(ends) < repeats:
        work = root / f"run{runs}"
        runs += 1
        before = None  # the last step that was shown before the fault
        while len(ends) < repeats and newest(work) <= TOTAL // 2:
            job = jobs.Job(2, log, *arguments(work))
            begin = wait_for_begin(job)
            if before is not None:
                lost.append(before - begin)
            job.wait_for_step(begin + chance.randint(*STRIDE))
            time.sleep(chance.uniform(0, 0.3))
            start = time.monotonic()
            STRIKES[name](job, work, chance)
            ended, _ = job.wait(120)
            before = job.step() if any(ended) else None
            if before is not None:
                ends.append(time.monotonic() - start)
                codes[str(sorted(ended))] += 1
        job = jobs.run(2, log, *arguments(work))
        if before is not None:
            lost.append(before - begin_of(job.text()))
        same &= same_state(still, work, TOTAL)
        same_losses &= losses(still) == losses(work)
        aside += len(list((work / "checkpoints").glob("*.damaged*")))
        shutil.rmtree(work)
    return {
        "fault": name,
        "repeats": len(ends),
        "survived": len(lost),
        "lost_steps_max": max(lost),
        "lost_steps_median": statistics.median(lost),
        "save_every": SAVE_EVERY,
        "seconds_to_end_max": round(max(ends), 1),
        "seconds_to_end_median": round(statistics.median(ends), 1),
        "exit_codes": dict(codes),
        "moved_aside": aside,
        "runs": runs,
        "final_state_bitwise_equal": same,
        "losses_equal": same_losses,
    }


def at_any_moment(
    name: str, still: pathlib.Path, root: pathlib.Path, *, repeats: int, seed: int
) -> dict:
    """Send a signal to a process that is alone, whatever it is at; finish and compare each run."""
    chance, number = random.Random(f"{name} {seed}"), ALONE[name]
    log, ends, codes = still.parent / "log", [], collections.Counter()
    same = same_losses = True
    tracebacks = trained = runs = 0
    while len(ends) < repeats:
        work = root / f"run{runs}"
        runs += 1
        while len(ends) < repeats and newest(work) <= SHORT // 2:
            job = jobs.Job(1, log, *arguments(work, SHORT))
            time.sleep(chance.uniform(*MOMENTS))
            start = time.monotonic()
            job[0].send_signal(number)
            codes[str(job.wait(120)[0][0])] += 1
            ends.append(time.monotonic() - start)
            tracebacks += "Traceback" in job.text()
            trained += "from step " in job.text()
        jobs.run(1, log, *arguments(work, SHORT))
        same &= same_state(still, work, SHORT)
        same_losses &= losses(still) == losses(work)
        shutil.rmtree(work)
    return {
        "fault": name,
        "repeats": len(ends),
        "steps": SHORT,
        "struck_while_starting": len(ends) - trained,
        "seconds_to_end_max": round(max(ends), 1),
        "seconds_to_end_median": round(statistics.median(ends), 1),
        "exit_codes": dict(codes),
        "tracebacks": tracebacks,
        "runs": runs,
        "final_state_bitwise_equal": same,
        "losses_equal": same_losses,
    }


def second(name: str, still: pathlib.Path, root: pathlib.Path, *, repeats: int, seed: int) -> dict:
    """Start second trainings while the first one goes on; it must not notice them."""
    work, log = root / "run", root / "log"
    shared = [f"--config.checkpoint.root={root}/root"] * (name == SECOND[1])
    first = jobs.Job(1, log, *arguments(work), *shared)
    first.wait_for_step(1)
    took, codes, lines = [], collections.Counter(), []
    while len(took) < repeats and first[0].poll() is None:
        other = root / "other" if shared else work
        start = time.monotonic()
        job = jobs.Job(1, root / "log2", *arguments(other), *shared)
        codes[str(job.wait(60)[0][0])] += 1
        took.append(time.monotonic() - start)
        lines.append(len(job.text().splitlines()))
    ended, _ = first.wait(600)
    folder = root / "root" if shared else work / "checkpoints"
    return {
        "fault": name,
        "repeats": len(took),
        "seconds_to_end_max": round(max(took), 1),
        "seconds_to_end_median": round(statistics.median(took), 1),
        "lines_max": max(lines),
        "exit_codes": dict(codes),
        "first_exit_code": ended[0],
        "second_folder_made": (root / "other").exists(),
        "final_state_bitwise_equal": same_trees(still / "checkpoints", folder, TOTAL),
        "losses_equal": losses(still) == losses(work),
    }


def wait_for_begin(job: jobs.Job) -> int:
    """Return the step that a job begins from, once it says so."""
    while "from step " not in job.text():
        if any(process.poll() is not None for process in job.processes):
            raise RuntimeError(job.text(0) + job.text(1))
        time.sleep(0.05)
    return begin_of(job.text())


def begin_of(text: str) -> int:
    return int(text.split("from step ")[1].split(",")[0])


def same_state(one: pathlib.Path, other: pathlib.Path, step: int) -> bool:
    """Compare the checkpoints of two runs bit for bit."""
    return same_trees(one / "checkpoints", other / "checkpoints", step)


def same_trees(one: pathlib.Path, other: pathlib.Path, step: int) -> bool:
    """Compare two checkpoints bit for bit."""
    from segjax.runs import damage

    trees = [damage.read(folder / str(step), lambda _: None) for folder in (one, other)]
    leaves = [[np.asarray(x) for x in flatten(tree)] for tree in trees]
    pairs = zip(*leaves, strict=True)
    return len(leaves[0]) > 10 and all(a.tobytes() == b.tobytes() for a, b in pairs)


def flatten(tree: object) -> list:
    if isinstance(tree, dict):
        return [leaf for key in sorted(tree) for leaf in flatten(tree[key])]
    if isinstance(tree, (list, tuple)):
        return [leaf for item in tree for leaf in flatten(item)]
    return [] if tree is None else [tree]


def losses(work: pathlib.Path) -> dict[int, float]:
    return {r["step"]: r["train/loss"] for r in writer.read(work) if "train/loss" in r}


def main() -> None:
    """Let the faults that the command line names strike, and append the records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20, help="how often each fault strikes")
    studies = {name: repeat for name in STRIKES} | {name: at_any_moment for name in ALONE}
    studies |= {name: second for name in SECOND}
    parser.add_argument("--faults", default=",".join(studies), help="which, by comma")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    options = parser.parse_args()
    names = options.faults.split(",")
    if unknown := [name for name in names if name not in studies]:
        parser.error(f"--faults: no fault {unknown[0]!r}, expected some of {', '.join(studies)}")
    logging.set_verbosity(logging.FATAL)
    for number in (signal.SIGINT, signal.SIGHUP):  # `&` in a script and nohup have them ignored
        signal.signal(number, signal.SIG_DFL)
    packages = ("jax", "orbax-checkpoint", "grain")
    facts = {
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python -m experiments.faults.study", *sys.argv[1:]]),
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        undisturbed = {}
        for name in names:
            count, total = 2 if name in STRIKES else 1, SHORT if name in ALONE else TOTAL
            if (count, total) not in undisturbed:
                undisturbed[count, total] = still = root / f"still{count}x{total}" / "run"
                jobs.run(count, root / "log", *arguments(still, total))
            still = undisturbed[count, total]
            place = root / name.replace(" ", "_")
            place.mkdir()
            if name == "full disk":
                subprocess.run(
                    ["mount", "-t", "tmpfs", "-o", "size=32m", "none", place], check=True
                )
            try:
                begun = time.monotonic()
                given = {"repeats": options.repeats, "seed": options.seed}
                result = {"steps": total} | studies[name](name, still, place, **given) | facts
                result["processes"] = 2 if name in STRIKES else 1
                result["study_seconds"] = round(time.monotonic() - begun)
            finally:
                if name == "full disk":
                    subprocess.run(["umount", "-l", place], check=True)
            line = json.dumps(result)
            print(line, flush=True)
            with open(HERE / "results.jsonl", "a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
