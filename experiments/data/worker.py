"""One side in a process of its own, which reads when a line comes and otherwise waits.

python -m experiments.data.worker SIDE VARIANT WORK ROOT
"""

import argparse
import json
import pathlib
import sys
import time

from experiments.data.works import AHEAD, WORKS


def main(side: str, variant: str, work: str, root: str) -> None:
    """Say `{facts}`, then after each line read some batches and say how long they took."""
    del variant
    about, place = WORKS[work], pathlib.Path(root)
    if side == "torch":
        from experiments.data import torch_side as module

        rows = json.loads((place / "rows.json").read_text())
        batches = module.batches(place, rows, about)
    else:
        from experiments.data import segjax_side as module

        batches = module.batches(place, work, about)
    digests = [module.digest(next(batches)) for _ in range(3)]
    print("READY " + json.dumps({"digests": digests}), flush=True)
    for _ in sys.stdin:
        for _ in range(AHEAD):
            next(batches)
        start = time.perf_counter()
        for _ in range(about.batches):
            next(batches)
        print(f"TOOK {time.perf_counter() - start}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("side", "variant", "work", "root"):
        parser.add_argument(name)
    main(**vars(parser.parse_args()))
