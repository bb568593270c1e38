"""Run what a study lacks, and draw its table: rows of configs, each with several seeds."""

import functools
import json
import pathlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from segjax.assemble import parts
from segjax.config import schema, sections
from segjax.data import hashes
from segjax.errors import UserError
from segjax.runs import train
from segjax.runtime import files, reading
from segjax.studies import finished, statistics, tables, work
from segjax.studies.definition import Cell, Study
from segjax.views import dots

RESULTS = "results.jsonl"
BEGIN, END = "<!-- study: written by --mode=study -->", "<!-- end of study -->"
"""Marks in a README beside the results, between which the table is drawn."""


def run(
    study: Study, root: pathlib.Path, output: pathlib.Path, *, say: Callable[[str], None] = print
) -> work.Tally:
    """Train every run of a study that its results lack, beside other processes that do the same.

    A run is there where its row, seed, config and data are those of a record.

    Args:
        study: See `definition.read`.
        root: Each run is trained in a folder of its own below it.
        output: Gets `results.jsonl`.
        say: Takes a line for whoever watches.

    Raises:
        UserError: The data of a row cannot be read, or a folder cannot be written.
    """
    data = [data_of(cell.config) for cell in study.cells]
    items = [
        work.Item(
            cell.name,
            folder_of(cell, root),
            functools.partial(is_recorded, output / RESULTS, cell, found),
            functools.partial(_train, cell, folder_of(cell, root), output / RESULTS),
        )
        for cell, found in zip(study.cells, data, strict=True)
    ]
    return work.share(items, say=say)


def missing(study: Study, output: pathlib.Path) -> list[Cell]:
    """Return the runs that the results lack; nothing is written."""
    path = output / RESULTS
    return [c for c in study.cells if not is_recorded(path, c, data_of(c.config))]


def folder_of(cell: Cell, root: pathlib.Path) -> pathlib.Path:
    """Return the folder of a run: its row and config, so that a changed row gets a new one."""
    row = re.sub(r"\W+", "_", cell.row.casefold()).strip("_")[:60] or "row"
    changing = {**cell.config, "seed": 0}
    return root / f"{row}-{schema.fingerprint(changing)[:8]}" / f"seed{cell.seed}"


def _train(cell: Cell, folder: pathlib.Path, results: pathlib.Path) -> int:
    """Train a run and record what came of it; return the exit code of the training."""
    code = train.run(folder, cell.config, begun=time.monotonic())
    jax.clear_caches()  # the next row is another program
    if code == train.DONE:
        found = {"row": cell.row, "seed": cell.seed, **finished.of_run(folder)}
        finished.append(results, found | {"command": cell.command, "config": cell.config})
    return code


def is_recorded(path: pathlib.Path, cell: Cell, data: Mapping[str, Any]) -> bool:
    """Return whether the results have a run, of this config and data."""
    return any(_is_of(r, cell) and same_data(r["data"], data) for r in finished.read(path))


def _is_of(record: Mapping[str, Any], cell: Cell) -> bool:
    """Return whether a record is of a row's run and config; new keys have their defaults."""
    if (record["row"], record["seed"]) != (cell.row, cell.seed):
        return False
    return schema.fill(record["config"]) == sections.section(cell.config)


def data_of(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return which data a config trains on and is scored on, by split."""
    splits = [config["input"]["split"], *(e["split"] for e in config["evals"].values())]
    source = json.dumps(config["input"]["source"], sort_keys=True)
    return {split: _hash_of(source, split) for split in dict.fromkeys(splits)}


@functools.cache
def _hash_of(source: str, split: str) -> dict[str, Any]:
    section = {"input": {"source": json.loads(source)}}
    return hashes.of_source(parts.make_source(section, split))


def same_data(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Return whether two records of data are of the same; when files were written counts not."""

    def content(data: Mapping[str, Any]) -> dict[str, Any]:
        return {split: (each["examples"], each["hash"]) for split, each in data.items()}

    return content(before) == content(now)


def records_of(study: Study, output: pathlib.Path) -> list[dict[str, Any]]:
    """Return the newest record of each run of a study; those of other configs are left out."""
    known = finished.read(output / RESULTS)
    found = [[r for r in known if _is_of(r, cell)] for cell in study.cells]
    return [records[-1] for records in found if records]


def draw(study: Study, output: pathlib.Path) -> list[pathlib.Path]:
    """Write table and plots from the results alone, and return the files.

    `table.md`, `table.csv`, `table.tex` (booktabs), a plot for each metric, and the table between
    `BEGIN` and `END` of a README.md that has them.

    Raises:
        UserError: There are no results, or a folder cannot be written.
    """
    records = records_of(study, output)
    if not records:
        raise UserError(f"{output / RESULTS}: holds no run of the study. Run it first.")
    found = tables.lines(
        study.rows, records, metrics=study.metrics, baseline=study.baseline, of=len(study.seeds)
    )
    heading, rows = tables.table(found, metrics=study.metrics, baseline=study.baseline)
    shown = tables.markdown(heading, rows)
    texts = {
        "table.md": f"{study.title}\n\n{shown}\n",
        "table.tex": tables.latex(heading, rows, caption=study.title) + "\n",
    }
    readme = output / "README.md"
    if reading.is_file(readme):
        old = reading.text(readme)
        texts["README.md"] = tables.redraw(old, shown, begin=BEGIN, end=END)
    for name, text in texts.items():
        with files.replacing(output / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    files.write_csv(output / "table.csv", tables.numbers(found, metrics=study.metrics))
    return [output / name for name in (*texts, "table.csv")] + _plots(study, records, output)


def _plots(
    study: Study, records: Sequence[Mapping[str, Any]], output: pathlib.Path
) -> list[pathlib.Path]:
    """Draw a plot for each metric that some run has."""
    written = []
    for metric in study.metrics:
        values = {
            row: [*tables.by_seed([r for r in records if r["row"] == row], metric).values()]
            for row in study.rows
        }
        if any(values.values()):
            path = output / f"{re.sub(r'[^A-Za-z0-9]+', '_', metric)}.png"
            sure = {
                row: statistics.mean(own).interval if own else None for row, own in values.items()
            }
            dots.draw(path, values, sure, title=study.title, label=metric, baseline=study.baseline)
            written.append(path)
    return written
