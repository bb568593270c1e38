"""Classical methods, networks and both together, on the same images, with the time of an image.

    export SEGJAX_DATA=<folder that holds camvid/, dsb2018/, isbi2012/>
    python -m experiments.classical.study --workdir=runs/classical
    python -m experiments.classical.study --workdir=runs/classical --sets=quickstart,dsb2018_objects
    python -m experiments.classical.study --draw

Networks are trained for a few minutes each, see SETS: the table says what a method gives at once,
not what a network can reach. One that is trained already is taken with
--trained=camvid=runs/camvid. One line a row goes to results.jsonl; rows that are there are not made
again, and the table in README.md is drawn from all.
"""

import argparse
import json
import pathlib
import statistics
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from segjax.runs.run import Run

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results.jsonl"
BEGIN, END = "<!-- drawn from results.jsonl -->", "<!-- end -->"
EXAMPLES = 40
"""Of the split that is scored, spread evenly over it."""
TIMED = 8
"""Images that are predicted one after the other for the time of one, the first of them twice."""
ANY = ("multi_otsu", "kmeans", "slic", "random_forest")
TWO = ("otsu", "adaptive", "canny", "watershed", "random_walker", "chan_vese", *ANY)
CRF = ("inference.postprocess=[{'type': 'crf'}]",)
APART = (3, 5, 8, 12)
"""Least distances of objects that the watershed is tried with, a row each."""


class Set(NamedTuple):
    """A data set and what is asked of it.

    Attributes:
        config: Its file, and its arguments with a place for the model.
        network: The model's arguments.
        steps: Of the network's training.
        split: That is scored.
        metric: What of it.
        methods: Classical ones.
    """

    config: str
    network: str
    steps: int
    split: str
    metric: str
    methods: tuple[str, ...]


SETS = {
    "quickstart": Set("quickstart:model={}", "unet", 500, "test", "miou", ANY),
    "dsb2018_pixels": Set(
        "dsb2018:task=semantic,model={}", "unet,size=cpu", 100, "test", "miou", TWO
    ),
    "dsb2018_objects": Set(
        "dsb2018:model={}", "unet,size=cpu", 150, "test", "AP50", ("otsu", "watershed", "kmeans")
    ),
    "isbi2012": Set("isbi2012:from=folder,model={}", "unet,size=cpu", 120, "val", "miou", TWO),
    "camvid": Set("camvid:model={}", "unet,size=cpu", 60, "test", "miou", ANY),
}


def config_of(own: Set, model: str) -> dict[str, Any]:
    """Return the config of a model on a data set, one split scored at the end."""
    import importlib

    from segjax.config import sections

    name, _, arg = own.config.format(model).partition(":")
    config = sections.plain(importlib.import_module(f"configs.{name}").get_config(arg))
    section = dict(config["evals"]["val"])
    section = {key: value for key, value in section.items() if not key.startswith("every")}
    scored = {own.split: {**section, "split": own.split, "examples": EXAMPLES, "every_steps": 0}}
    config["evals"] = scored
    config["checkpoint"]["keep_best"] = ""
    if not model.startswith(own.methods):
        config = {key: value for key, value in config.items() if not key.startswith("total_")}
        config["total_steps"] = own.steps
    return config


def milliseconds(run: "Run", split: str) -> float:
    """Return the median time of an image, one after the other, without reading it."""
    import numpy as np

    from segjax.assemble import parts

    source, predict, times = parts.make_source(run.config, split), run.predictor(), []
    for number in (0, *range(min(TIMED, len(source)))):
        image = np.asarray(source[number]["image"])
        begun = time.perf_counter()
        found: Any = predict(image)
        del found
        times.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(times[1:])


def rows(
    name: str, root: pathlib.Path, done: set[tuple[str, str]], trained: pathlib.Path | None
) -> Iterator[dict[str, Any]]:
    """Yield what each row of a data set scores, those that are `done` left out.

    The network is that of the run `trained`; None: it is trained.
    """
    import segjax

    own = SETS[name]
    few = f"evals.{own.split}.examples={EXAMPLES}"
    hybrids = {"network + CRF": CRF}
    if name == "dsb2018_objects":
        hybrids = {
            f"network + watershed, apart={apart}": (
                "task.touching=watershed",
                f"task.apart={apart}",
            )
            for apart in APART
        }
    wanted = [("classical", method, method, ()) for method in own.methods]
    wanted += [("network", "network", own.network, ())]
    wanted += [("hybrid", row, own.network, changes) for row, changes in hybrids.items()]
    for family, row, model, changes in wanted:
        if (name, row) in done:
            continue
        folder = root / name / model.partition(",")[0]
        if trained and family != "classical":
            folder = trained
        begun = time.monotonic()
        if not (folder / "eval").exists():
            segjax.train(config_of(own, model), folder)
        minutes = (time.monotonic() - begun) / 60
        run = segjax.open_run(folder, overrides=(*changes, few))
        (report,) = run.evaluate(own.split, shown=True)
        yield {
            "set": name, "family": family, "row": row, "metric": own.metric,
            "split": own.split, "examples": min(EXAMPLES, report.result["num_examples"]),
            "score": round(float(report.result[own.metric]), 4),
            "ms_per_image": round(milliseconds(run, own.split), 1),
            "minutes": round(minutes, 2), "steps": run.step, "overrides": list(changes),
        }  # fmt: skip


def load() -> list[dict[str, Any]]:
    """Return the records."""
    return (
        [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    )


def redraw(text: str, records: list[dict[str, Any]]) -> str:
    """Return the page with the table of the records, a part for each data set."""
    from segjax.studies import tables

    lines = ["| data | family | method | score | ms an image |", "| --- | --- | --- | --- | --- |"]
    for name in SETS:
        for row in (r for r in records if r["set"] == name):
            score = f"{row['metric']} {row['score']:.3f} ({row['split']}, {row['examples']})"
            lines.append(
                f"| {name} | {row['family']} | {row['row']} | {score} | {row['ms_per_image']:g} |"
            )
    return tables.redraw(text, "\n".join(lines), begin=BEGIN, end=END)


def main() -> None:
    """Make what is missing, and draw the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=pathlib.Path, help="Where runs go.")
    parser.add_argument("--sets", default=",".join(SETS), help="With commas between.")
    parser.add_argument(
        "--trained", nargs="+", default=[], metavar="SET=RUN", help="Runs of networks to take."
    )
    parser.add_argument("--draw", action="store_true", help="Draw the table alone.")
    values = parser.parse_args()
    if not values.draw:
        if not values.workdir:
            parser.error("needs --workdir, where runs go, or --draw")
        for name in values.sets.split(","):
            done = {(record["set"], record["row"]) for record in load()}
            trained = dict(each.split("=", 1) for each in values.trained).get(name)
            there = pathlib.Path(trained) if trained else None
            for row in rows(name, values.workdir, done, there):
                print(row, flush=True)
                with RESULTS.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    page = HERE / "README.md"
    page.write_text(redraw(page.read_text(), load()))


if __name__ == "__main__":
    main()
