"""One side in a process of its own, which works when a line comes and otherwise sleeps.

python -m experiments.inference.worker SIDE VARIANT WORK KIND
"""

import argparse
import json
import pathlib
import sys
import time

from experiments.inference.works import WORKS


def main(side: str, variant: str, work: str, kind: str) -> None:
    """Say `{facts}`, then after each line read the seconds of one run, or the most memory used."""
    if side == "monai":
        from experiments.inference import monai_side as module
    else:
        from experiments.inference import segjax_side as module
    once, facts = module.build(WORKS[work], kind, variant)
    for _ in range(2):
        once()
    print("READY " + json.dumps(facts), flush=True)
    for order in sys.stdin:
        if order.strip() == "peak":
            print(f"PEAK {peak()}", flush=True)
            continue
        start = time.perf_counter()
        once()
        print(f"TOOK {time.perf_counter() - start}", flush=True)


def peak() -> int:
    """Return the most memory that this process has held, in bytes."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("side", "variant", "work", "kind"):
        parser.add_argument(name)
    main(**vars(parser.parse_args()))
