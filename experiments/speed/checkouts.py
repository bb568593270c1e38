"""Is a train step as fast as in another checkout? Both take turns in one run.

python -m experiments.speed.checkouts --against=../before unet_small deeplabv3plus --repeats=15
"""

import argparse
import json
import pathlib
import random
import statistics
import sys

from experiments.speed import study
from experiments.speed.works import KINDS, WORKS


def ratios(work: str, kind: str, variant: str, against: pathlib.Path, repeats: int) -> list[float]:
    """Return the time here over the time there, turn by turn."""
    size, batch = WORKS[work].cpu
    here = pathlib.Path(__file__).parents[2]
    workers = [
        study.Worker(
            sys.executable,
            "segjax",
            variant,
            work,
            kind,
            json.dumps(size),
            batch,
            checkout=checkout,
        )
        for checkout in (here, against)
    ]
    chance = random.Random(0)
    for _ in range(repeats):
        for worker in chance.sample(workers, len(workers)):
            worker.work()
    for worker in workers:
        worker.close()
    ours, theirs = (worker.seconds for worker in workers)
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def main() -> None:
    """Print the median ratio of each work, and its quartiles."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("works", nargs="+", choices=WORKS)
    parser.add_argument("--against", type=pathlib.Path, required=True)
    parser.add_argument("--kind", default="train", choices=KINDS)
    parser.add_argument("--variant", default="float32")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    for work in options.works:
        found = ratios(
            work, options.kind, options.variant, options.against.resolve(), options.repeats
        )
        low, middle, high = statistics.quantiles(found, n=4)
        print(
            f"{work:16} {options.kind}: {middle:.3f} of the other's time ({low:.3f} to {high:.3f})"
        )


if __name__ == "__main__":
    main()
