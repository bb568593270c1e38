"""What does `config.deterministic_reduction` cost? Steps with and without it, taking turns.

python -m experiments.speed.fixed_order --devices=2 --shards=8

One line goes to fixed_order.jsonl: seconds of a step, temporary memory and collective bytes of a
device, each with the mode off and on.
"""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import sys
import time

import jax
import numpy as np
from jax.sharding import Mesh

from experiments.speed import segjax_side
from experiments.speed.works import WORKS
from segjax.assemble import program as program_lib
from segjax.costs import hlo
from segjax.runtime import sharding, xla
from segjax.views import progress

RESULTS = pathlib.Path(__file__).parent / "fixed_order.jsonl"
SIZE, BATCH = 128, 16


def build(work: str, shards: int, devices: int):
    """Return a function that takes one step, and what the compiled step needs on a device."""
    config = segjax_side.make_config(WORKS[work], "float32", SIZE, BATCH)
    config["deterministic_reduction"] = shards
    mesh = Mesh(np.asarray(jax.devices()[:devices]).reshape(devices, 1, 1), sharding.AXES)
    setup = segjax_side.make_setup(config, BATCH, mesh=mesh)
    key = jax.random.key(0)
    program = program_lib.trace(setup, key, key).compile()
    placement = sharding.batch_sharding(mesh, setup.parts.schema)
    placed = jax.device_put(segjax_side.make_batch(WORKS[work], SIZE, BATCH), placement)
    state = program.init(key)

    def once() -> None:
        nonlocal state
        state, scalars = program.step(state, placed, key)
        jax.block_until_ready((state, scalars))

    memory = program.step.memory_analysis().temp_size_in_bytes
    moved = sum(hlo.bytes_by_kind(hlo.collectives_of(program.step.as_text())).values())
    return once, {"temporary_mb": memory / 1e6, "collective_mb": moved / 1e6}


def main() -> None:
    """Measure and append a record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", default="unet_small", choices=WORKS)
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    xla.prepare(virtual_devices=arguments.devices)
    runs = {n: build(arguments.work, n, arguments.devices) for n in (0, arguments.shards)}
    seconds = {n: [] for n in runs}
    with progress.Progress(arguments.repeats, unit="rounds") as bar:
        for number in range(-1, arguments.repeats):
            for n, (once, _) in runs.items():
                start = time.perf_counter()
                once()
                seconds[n] += [time.perf_counter() - start] if number >= 0 else []
            bar.update(number + 1)
    off, on = (
        {"step_seconds": statistics.median(seconds[n]), **facts} for n, (_, facts) in runs.items()
    )
    record = {
        "work": arguments.work, "size": SIZE, "batch": BATCH, "devices": arguments.devices,
        "logical_shards": arguments.shards, "off": off, "on": on,
        "time_ratio": on["step_seconds"] / off["step_seconds"],
        "cores": len(os.sched_getaffinity(0)), "jax": jax.__version__,
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python -m experiments.speed.fixed_order", *sys.argv[1:]]),
    }  # fmt: skip
    with RESULTS.open("a") as log:
        log.write(json.dumps(record) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
