"""Export every model of the zoo in every format, compare, and write the table in README.md.

python -m experiments.export.study            # all of them
python -m experiments.export.study unet pspnet
python -m experiments.export.study --table    # only draw the table again
"""

import argparse
import json
import pathlib
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
RESULTS, README = HERE / "results.jsonl", HERE / "README.md"
BEGIN, END = "<!-- formats: written by study.py -->", "<!-- end of formats -->"
FORMS = {"stablehlo": "StableHLO", "onnx": "ONNX", "int8": "ONNX int8"}
BATCHES = 8


def measure(name: str, folder: pathlib.Path) -> dict:
    """Return what each format does with a model at its `debug` size, or why it cannot hold it."""
    import importlib.metadata as metadata

    from experiments.export import untrained
    from segjax.errors import UserError
    from segjax.export import exported, program

    run = untrained.of_model(name, folder)

    def attempt(make) -> dict:
        path = folder / "model"
        try:
            made = make(path)
            images = untrained.images(count=4)
            found = exported.difference(made or run, exported.open_file(path), images)
        except UserError as error:
            return {"reason": str(error)}
        return {**found._asdict(), "bytes": path.stat().st_size}

    return {
        "model": name,
        "stablehlo": attempt(lambda path: program.write(run, path) and None),
        "onnx": attempt(lambda path: _onnx(run, path)),
        "int8": attempt(lambda path: _onnx(run, path, int8=True)),
        "classes": untrained.classes_seen(run),
        "safetensors": publishers_of(run, folder),
        "versions": {
            package: metadata.version(package)
            for package in ("jax", "jax2onnx", "onnx", "onnxruntime")
        },
        "command": f"python -m experiments.export.study {name}",
    }


def _onnx(run, path: pathlib.Path, *, int8: bool = False) -> None:
    """Write a run without a check; in int8 calibrated on noise, as the run has no data."""
    import numpy as np

    from segjax.export import exported, onnx_graph, program, quantize

    run, graph = exported.float_graph(run)
    if int8:
        shape, draw = program.images_of(run, 1).shape, np.random.default_rng(0)
        batches = [draw.integers(0, 256, shape).astype(np.uint8) for _ in range(BATCHES)]
        graph = quantize.calibrated(graph, batches)
    onnx_graph.write(graph, path, program.describe(run, kind=onnx_graph.KIND, bare=False))


def publishers_of(run, folder: pathlib.Path) -> list[str]:
    """Return by whose names the weights can be written."""
    from segjax.errors import UserError
    from segjax.export import weights
    from segjax.pretrained import tables

    found = []
    for name in tables.PUBLISHERS:
        try:
            weights.write(run, folder / "weights.safetensors", publisher=name)
        except UserError:
            continue
        found.append(name)
    return found


def table(rows: list[dict]) -> str:
    """Return the rows as a Markdown table."""
    from segjax.studies import tables

    heading = ["model", *FORMS.values(), "safetensors, by the names of"]
    body = [
        [row["model"], *(shown(row[form]) for form in FORMS), ", ".join(row["safetensors"])]
        for row in rows
    ]
    return tables.markdown(heading, body)


def shown(found: dict) -> str:
    """Return one cell: how far outputs are off, and the share of pixels answered otherwise."""
    if "reason" in found:
        return f"no: {found['reason']}"
    share = 100 * found["wrong"] / found["pixels"]
    return f"{found['relative']:.0e}, {share:.3f} %"


def latest() -> list[dict]:
    """Return the last record of each model, in the order of the zoo."""
    from configs import zoo

    records = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    by_name = {record["model"]: record for record in records}
    return [by_name[name] for name in zoo.ZOO if name in by_name]


def main() -> None:
    """Measure what the command line names, append the records, draw the table."""
    from configs import zoo
    from segjax.config import lookup
    from segjax.studies import tables
    from segjax.views import progress

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(zoo.ZOO))
    parser.add_argument("--table", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    names = [] if arguments.table else arguments.models or list(zoo.ZOO)
    if names:
        from segjax.runtime import xla

        xla.prepare()
    with progress.Progress(len(names), unit="models") as bar, RESULTS.open("a") as log:
        for number, name in enumerate(names, 1):
            lookup.choose(name, list(zoo.ZOO), what="model")
            with tempfile.TemporaryDirectory() as folder:
                log.write(json.dumps(measure(name, pathlib.Path(folder))) + "\n")
            log.flush()
            bar.update(number)
    text = tables.redraw(README.read_text(), table(latest()), begin=BEGIN, end=END)
    README.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
