"""How many frames a second BiSeNetV2 predicts, by size, runtime and batch, weights at random.

python -m experiments.video.speed                      # sizes and runtimes with this Python
python -m experiments.video.speed --table              # only draw the table again

The network and the class map of its logits, compiled, on images that are in memory already. ONNX
Runtime gets the graph that `--mode=export --format=onnx` writes of such a network; int8 has its
ranges from images of noise: it says how fast, not how good.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from experiments.video.smoothing import about, latest, redraw
from segjax.views import progress

HERE = pathlib.Path(__file__).parent
RESULTS, README = HERE / "speed.jsonl", HERE / "README.md"
BEGIN, END = "<!-- speed: written by speed.py -->", "<!-- end of speed -->"
SIZES = ((180, 320), (256, 512), (360, 640), (480, 854), (512, 1024))
MODELS = {"full": "BiSeNetV2", "cpu": "BiSeNetV2, narrow heads"}
RUNTIMES = {
    "float32": "XLA, float32", "bfloat16": "XLA, bfloat16",
    "onnx": "ONNX Runtime, float32", "onnx int8": "ONNX Runtime, int8",
}  # fmt: skip
"""By what a record calls its type."""
CLASSES, SECONDS, CALIBRATED = 19, 4.0, 4
KEYS = ("model", "height", "width", "jax", "type", "batch")
Pass = Callable[[], Any]


def network(size: str, kind: str, shape: tuple[int, ...]) -> tuple[Callable[..., Any], Any]:
    """Return `(variables, image) → classes uint8`, and variables."""
    import jax
    import jax.numpy as jnp

    from configs import zoo
    from segjax.config import lookup

    section = {
        "type": "bisenetv2", **getattr(zoo.ZOO["bisenetv2"], size), "compute_dtype": kind,
    }  # fmt: skip
    model = lookup.build("models", section, where="config.model", num_classes=CLASSES)
    image = jnp.zeros(shape, jnp.float32)
    variables = jax.jit(lambda key: model.init(key, image, train=False))(jax.random.key(0))

    def classes(variables: Any, image: Any) -> Any:
        return model.apply(variables, image, train=False).logits.argmax(-1).astype(jnp.uint8)

    return classes, variables


def by_xla(size: str, kind: str, shape: tuple[int, ...]) -> Pass:
    """Return a pass of the compiled network."""
    import jax

    from segjax.runtime import xla

    classes, variables = network(size, kind, shape)
    image = jax.random.uniform(jax.random.key(1), shape)
    lowered = jax.jit(classes, compiler_options=xla.xla_options(kind)).lower(variables, image)
    run = lowered.compile()
    return lambda: run(variables, image).block_until_ready()


def by_graph(size: str, kind: str, shape: tuple[int, ...]) -> Pass:
    """Return a pass of the graph that is exported, in float32 or int8, by ONNX Runtime."""
    import jax
    import numpy as np

    from segjax.export import onnx_graph, quantize

    classes, variables = network(size, "float32", shape)
    given = jax.ShapeDtypeStruct(shape, np.float32)
    graph = onnx_graph.convert(lambda image: (classes(variables, image),), given, ["classes"])
    draw = np.random.default_rng(1)
    images = [draw.uniform(size=shape).astype(np.float32) for _ in range(CALIBRATED)]
    if kind == "onnx int8":
        graph = quantize.calibrated(graph, images)
    run = onnx_graph.session_of(graph, ["classes"], path=pathlib.Path("bisenetv2.onnx"))
    return lambda: run(images[0])


def measure(size: str, sides: tuple[int, int], kind: str, batch: int) -> dict:
    """Return frames a second: the median over some seconds of passes, and its quartiles."""
    make = by_graph if kind.startswith("onnx") else by_xla
    run = make(size, kind, (batch, *sides, 3))
    seconds: list[float] = []
    run()
    begun, busy = time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < SECONDS or len(seconds) < 5:
        start = time.perf_counter()
        run()
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
    """Return the records as a Markdown table, a line for each of `KEYS`."""
    lines = [
        "| network | size | by | JAX | batch | fps | fastest pass | processor time of a frame "
        "| two cores' worth of it |",
        "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    models, kinds = ({name: at for at, name in enumerate(each)} for each in (MODELS, RUNTIMES))
    for r in sorted(
        records,
        key=lambda r: (
            models[r["model"]], r["height"], r["width"], kinds[r["type"]], r["jax"], r["batch"],
        ),
    ):  # fmt: skip
        low, high = r["quartiles"]
        lines.append(
            f"| {MODELS[r['model']]} | {r['width']}x{r['height']} | {RUNTIMES[r['type']]} | "
            f"{r['jax']} | {r['batch']} | {r['fps']:.1f} ({low:.1f} to {high:.1f}) | "
            f"{r['fastest']:.1f} | {r['cpu_seconds'] * 1000:.0f} ms | "
            f"{2 / r['cpu_seconds']:.1f} fps |"
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
    parser.add_argument("--types", default=",".join(RUNTIMES), help="with commas between")
    parser.add_argument("--batches", default="1", help="with commas between")
    sizes = ",".join(f"{height}x{width}" for height, width in SIZES)
    parser.add_argument("--sizes", default=sizes, help="height x width, with commas between")
    parser.add_argument("--models", default=",".join(MODELS))
    arguments = parser.parse_args()
    if not arguments.table:
        from segjax.runtime import xla

        xla.prepare()
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
