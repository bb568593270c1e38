"""How many frames a second BiSeNetV2 predicts, by size, numeric type and batch, weights at random.

python -m experiments.video.speed                      # sizes and types of this Python's JAX
python -m experiments.video.speed --table              # only draw the table again

The network and the class map of its logits, compiled, on images that are in memory already.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

from experiments.video.smoothing import about, latest, redraw
from segjax.views import progress

HERE = pathlib.Path(__file__).parent
RESULTS, README = HERE / "speed.jsonl", HERE / "README.md"
BEGIN, END = "<!-- speed: written by speed.py -->", "<!-- end of speed -->"
SIZES = ((256, 256), (256, 512), (360, 480), (480, 864), (512, 1024))
MODELS = {"full": "BiSeNetV2", "cpu": "BiSeNetV2, narrow heads"}
TYPES, BATCHES = ("float32", "bfloat16"), (1, 4)
CLASSES, SECONDS = 19, 4.0
KEYS = ("model", "height", "width", "jax", "type", "batch")


def measure(size: str, sides: tuple[int, int], kind: str, batch: int) -> dict:
    """Return frames a second: the median over some seconds of passes, and its quartiles."""
    import jax
    import jax.numpy as jnp

    from configs import zoo
    from segjax.config import lookup
    from segjax.runtime import xla

    section = {
        "type": "bisenetv2", **getattr(zoo.ZOO["bisenetv2"], size), "compute_dtype": kind,
    }  # fmt: skip
    model = lookup.build("models", section, where="config.model", num_classes=CLASSES)
    image = jnp.zeros((batch, *sides, 3), jnp.float32)
    variables = jax.jit(lambda key: model.init(key, image, train=False))(jax.random.key(0))

    def classes(variables, image):
        return model.apply(variables, image, train=False).logits.argmax(-1).astype(jnp.uint8)

    options = xla.xla_options(kind)
    run = jax.jit(classes, compiler_options=options).lower(variables, image).compile()
    image = jax.random.uniform(jax.random.key(1), image.shape)
    seconds: list[float] = []
    run(variables, image).block_until_ready()
    begun, busy = time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < SECONDS or len(seconds) < 5:
        start = time.perf_counter()
        run(variables, image).block_until_ready()
        seconds.append(time.perf_counter() - start)
    busy = time.process_time() - busy
    low, middle, high = statistics.quantiles(seconds, n=4)
    return {
        "model": size, "height": sides[0], "width": sides[1], "type": kind, "batch": batch,
        "fps": batch / middle, "quartiles": [batch / high, batch / low],
        "fastest": batch / min(seconds), "cpu_seconds": busy / len(seconds) / batch,
        "passes": len(seconds), **about(),
        "command": " ".join(["python -m experiments.video.speed", *sys.argv[1:]]),
    }  # fmt: skip


def table(records: list[dict]) -> str:
    """Return the records as a Markdown table, a line for each network, size and type."""
    lines = [
        "| network | size | type | JAX | batch | fps beside other work | processor time of a frame "
        "| two cores' worth of it |",
        "| --- | --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    order = {model: number for number, model in enumerate(MODELS)}
    for r in sorted(
        records,
        key=lambda r: (order[r["model"]], r["height"], r["width"], r["jax"], r["type"], r["batch"]),
    ):
        low, high = r["quartiles"]
        lines.append(
            f"| {MODELS[r['model']]} | {r['width']}x{r['height']} | {r['type']} | {r['jax']} | "
            f"{r['batch']} | {r['fps']:.1f} ({low:.1f} to {high:.1f}) | "
            f"{r['cpu_seconds'] * 1000:.0f} ms | {2 / r['cpu_seconds']:.1f} fps |"
        )
    loads = sorted(r["load"] for r in records)
    if loads:
        lines += ["", f"Load average {loads[0]:.1f} to {loads[-1]:.1f} on two cores."]
    return "\n".join(lines)


def main() -> None:
    """Measure, append the records, draw the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--types", default=",".join(TYPES), help="with commas between")
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)))
    sizes = ",".join(f"{height}x{width}" for height, width in SIZES)
    parser.add_argument("--sizes", default=sizes, help="height x width, with commas between")
    parser.add_argument("--models", default=",".join(MODELS))
    arguments = parser.parse_args()
    if not arguments.table:
        from segjax.runtime import xla

        xla.prepare(keep_memory=True)
        cases = [
            (model, tuple(map(int, sides.split("x"))), kind, int(batch))
            for model in arguments.models.split(",")
            for kind in arguments.types.split(",")
            for batch in arguments.batches.split(",")
            for sides in arguments.sizes.split(",")
        ]
        with progress.Progress(len(cases), unit="cases") as bar, RESULTS.open("a") as log:
            for number, case in enumerate(cases, 1):
                log.write(json.dumps(measure(*case)) + "\n")
                log.flush()
                bar.update(number)

    README.write_text(redraw(README.read_text(), BEGIN, END, table(latest(RESULTS, *KEYS))))


if __name__ == "__main__":
    sys.exit(main())
