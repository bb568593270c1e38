"""What a finished run has to say in a table: its scores and what they cost, of its files alone."""

import functools
import json
import pathlib
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from segjax.errors import DataError
from segjax.runs import workdir, writer
from segjax.runtime import files, reading

EVAL_BYTES = 512 << 20
"""Of a report that is read into memory."""
PACKAGES = ("jax", "jaxlib", "flax", "optax")


def of_run(path: pathlib.Path) -> dict[str, Any]:
    """Return scores and costs of a finished run.

    `scores` has every logged score of the checkpoint that the run is known by, by its logged name.

    Raises:
        DataError: A file of the run is not there or damaged, or it is of a run without scores.
    """
    run, lines = workdir.load_facts(path), writer.read(path)
    reports = [report for _, report in sorted(_reports(path).items())]
    if not run or not lines or not reports:
        raise DataError(f"{path}: lacks run.json, metrics.jsonl or eval/. Expected a finished run.")
    scores: dict[str, float] = {}
    for report in reports:
        scores |= report.get("logged", {})
    return {
        "scores": dict(sorted(scores.items())),
        "examples": {r["split"]: r["num_examples"] for r in reports if "num_examples" in r},
        "checkpoint": reports[0].get("step", reports[0].get("checkpoint")),
        "steps": lines[-1]["step"],
        **costs(lines),
        "parameters": run.get("parameters"),
        "gflops": run["device_step_flops"] / 1e9,
        "memory_mb": sum(run["device_step_bytes"].values()) / 1e6,
        "devices": f"{len(run['devices'])} × {run['devices'][0]}",
        "cores": run["cores"],
        "python": run["python"],
        "packages": {name: run["packages"].get(name, "") for name in PACKAGES},
        "git_revision": run["git_revision"],
        "data": run["data"],
    }


def costs(lines: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return what a log says of time: `minutes` of all steps, and the rates of the median line."""
    timed = [line for line in lines if "time/step_ms" in line]
    seconds, last = 0.0, 0
    for line in timed:
        seconds += (line["step"] - last) * line["time/step_ms"] / 1e3
        last = line["step"]
    if not timed:
        return {"minutes": 0.0}
    step = statistics.median(line["time/step_ms"] for line in timed)
    return {
        "minutes": seconds / 60,
        "step_ms": step,
        "images_per_s": statistics.median(line["time/images_per_s"] for line in timed),
        "data_wait_percent": 100
        * statistics.median(line["time/data_wait_ms"] for line in timed)
        / step,
    }


def _reports(path: pathlib.Path) -> dict[str, Any]:
    """Return the reports of the run as training made them, by their names."""
    found = {}
    for file in (path / "eval").glob("*.json"):
        name = file.name.removesuffix(".json")
        if "." in name:
            continue  # scored in another way afterwards
        report = reading.read_json(file, limit=EVAL_BYTES)
        if not report.get("inference", {}).get("postprocess"):
            found[name] = report
    return found


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    """Return the records of a results file in its order; none where there is no file.

    Raises:
        DataError: A line is no record.
    """
    if not reading.is_file(path):
        return []
    status = path.stat()
    return [*_parsed(path, status.st_ino, status.st_mtime_ns, status.st_size)]


@functools.lru_cache(maxsize=4)
def _parsed(path: pathlib.Path, *version: int) -> list[dict[str, Any]]:
    """Return the records of one version of a file: it is asked for each run of a study."""
    found = []
    for number, line in enumerate(reading.raw_lines(path, limit=EVAL_BYTES), start=1):
        try:
            record = reading.parse_json(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise DataError(
                f"{path}, line {number}: expected a JSON object, got {line[:60]!r}. Mend or delete "
                "the line."
            )
        found.append(record)
    return found


def append(path: pathlib.Path, record: Mapping[str, Any]) -> None:
    """Add a record to a results file, which at any time holds whole records only.

    Other processes that add to it wait.

    Raises:
        UserError: As `read`, or the disk is full or cannot be written.
    """
    with files.locked(path.with_name(f".{path.name}.lock"), what=str(path), wait=True):
        lines = [json.dumps(each) + "\n" for each in (*read(path), record)]
        with files.replacing(path) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")
