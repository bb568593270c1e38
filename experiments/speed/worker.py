"""One side in a process of its own, which works when a line comes and otherwise sleeps.

python -m experiments.speed.worker SIDE VARIANT WORK KIND SIZE BATCH
"""

import argparse
import json
import sys
import time

from experiments.speed.works import WORKS


def main(side: str, variant: str, work: str, kind: str, size: str, batch: str) -> None:
    """Say `{facts}`, then after each line read the seconds of one run, and of processors in it."""
    if side == "torch":
        from experiments.speed import torch_side as module
    else:
        from experiments.speed import segjax_side as module
    once, facts = module.build(WORKS[work], kind, variant, json.loads(size), int(batch))
    for _ in range(2):
        once()
    if side == "torch" and (ours := {"jax", "flax", "segjax"} & sys.modules.keys()):
        raise SystemExit(f"PyTorch's side is to run alone, and has imported {sorted(ours)}.")
    print("READY " + json.dumps(facts), flush=True)
    for _ in sys.stdin:
        start, busy = time.perf_counter(), time.process_time()
        once()
        taken = time.perf_counter() - start, time.process_time() - busy
        print("TOOK", *taken, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("side", "variant", "work", "kind", "size", "batch"):
        parser.add_argument(name)
    main(**vars(parser.parse_args()))
