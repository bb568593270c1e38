"""One side in a process of its own; a line names a work, and the answer is the seconds of one turn.

python -m experiments.augment.worker SIDE VARIANT
"""

import argparse
import sys
import time


def main(side: str, variant: str) -> None:
    """Say `{}`, then after each line read the seconds a batch takes; work once unseen at first."""
    if side == "segjax":
        from experiments.augment import segjax_side as module
    else:
        from experiments.augment import torch_side as module
    print("READY " + module.facts(), flush=True)
    built = {}
    for line in sys.stdin:
        work = line.strip()
        if work not in built:
            built[work] = module.build(work, variant)
            if built[work] is not None:
                built[work][0]()
        if built[work] is None:
            print("TOOK none", flush=True)
            continue
        once, calls = built[work]
        start = time.perf_counter()
        for _ in range(calls):
            once()
        print("TOOK", (time.perf_counter() - start) / calls, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("side", "variant"):
        parser.add_argument(name)
    main(**vars(parser.parse_args()))
