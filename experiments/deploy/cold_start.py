"""How long a server takes from the start of its process to its first answer.

python -m experiments.deploy.cold_start --workdir=runs/quickstart
python -m experiments.deploy.cold_start --table                    # only draw the table again

A run's folder, its StableHLO and its ONNX file, each with an empty cache of compiled programs and
with one that an earlier start has filled. The parts: until the port is open, until all is compiled
(/readyz), until the first picture is answered. The files are in the page cache of the system.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

from experiments.serve.load import Client, bodies
from segjax.views import progress

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS, README = HERE / "results.jsonl", HERE / "README.md"
BEGIN, END = "<!-- drawn by cold_start.py -->\n", "<!-- until here -->\n"
FORMS = {"run": "run's folder", "stablehlo": "StableHLO", "onnx": "ONNX"}
CACHES = {"empty": "nothing compiled before", "filled": "programs of an earlier start"}
PARTS = ("listening", "ready", "answered")


def environment(cache: str) -> dict[str, str]:
    """Return the environment of a process whose compiled programs lie in a folder."""
    known = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    return {**known, "SEGJAX_CACHE": cache}


def start(model: str, cache: str) -> dict[str, float]:
    """Start a server, ask it once, end it; return the seconds until each of `PARTS`."""
    form = bodies()[0]
    begun = time.monotonic()
    command = [sys.executable, "run.py", "--mode=serve", model, "--batch=1", "--port=0"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment(cache)
    )
    found = {}
    try:
        for line in process.stdout or ():
            if ports := re.findall(r"listening at http://\S+?:(\d+)", line):
                break
        else:
            sys.exit(f"the server with {model} ended before it listened")
        found["listening"] = time.monotonic() - begun
        client = Client(int(ports[0]))
        while client.ask("GET", "/readyz")[0] != 200:
            time.sleep(0.02)
        found["ready"] = time.monotonic() - begun
        kind = "multipart/form-data; boundary=XbX"
        status, text = client.ask("POST", "/v1/predict?format=png", form, kind)
        if status != 200:
            sys.exit(f"the server with {model} answered {status}: {text[:200]!r}")
        found["answered"] = time.monotonic() - begun
    finally:
        process.terminate()
        process.wait(60)
    return found


def exported(workdir: str, form: str, folder: str) -> str:
    """Return the flag that serves a run in some form, exported if need be; empty: it cannot be."""
    if form == "run":
        return f"--workdir={workdir}"
    path = pathlib.Path(folder) / ("model.onnx" if form == "onnx" else "model.segjax")
    command = [sys.executable, "run.py", "--mode=export", f"--workdir={workdir}"]
    done = subprocess.run(
        [*command, f"--format={form}", f"--output={path}"], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        print(f"{FORMS[form]} left out: {done.stderr.strip().splitlines()[-1]}")
        return ""
    return f"--model={path}"


def table(records: list[dict]) -> str:
    """Return the records as a Markdown table."""
    lines = ["| served | cache | port open | ready | first answer |"]
    lines.append("| --- | --- | ---: | ---: | ---: |")
    for record in records:
        cells = " | ".join(f"{record[part]:.1f} s" for part in PARTS)
        lines.append(f"| {FORMS[record['form']]} | {CACHES[record['cache']]} | {cells} |")
    loads = sorted(record["load"] for record in records)
    starts = {record["starts"] for record in records}
    lines += [
        "",
        f"Medians of {min(starts)} starts on {records[0]['cores']} cores, beside other work: load "
        f"average {loads[0]:.1f} to {loads[-1]:.1f}.",
    ]
    return "\n".join(lines) + "\n"


def latest() -> list[dict]:
    """Return the last record of each form and cache, in order."""
    records = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    last = {(record["form"], record["cache"]): record for record in records}
    return [last[form, cache] for form in FORMS for cache in CACHES if (form, cache) in last]


def redraw(text: str, records: list[dict]) -> str:
    """Return the README with the table in it."""
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return f"{before}{BEGIN}{table(records)}{END}{after}"


def main() -> None:
    """Measure, append the records, draw the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", help="the run that is served")
    parser.add_argument("--forms", default=",".join(FORMS), help="with commas between")
    parser.add_argument("--starts", type=int, default=3, help="with each cache")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    forms = [] if arguments.table else arguments.forms.split(",")
    total = len(forms) * 2 * arguments.starts
    with (
        progress.Progress(total, unit="starts") as bar,
        tempfile.TemporaryDirectory() as folder,
        RESULTS.open("a") as log,
    ):
        count = 0
        for form in forms:
            model = exported(arguments.workdir, form, folder)
            found: dict[str, list[dict[str, float]]] = {"empty": [], "filled": []}
            for number in range(arguments.starts if model else 0):
                for cache in CACHES:  # the first start fills what the second finds
                    found[cache].append(start(model, f"{folder}/{form}{number}"))
                    count += 1
                    bar.update(count)
            for cache, times in found.items() if model else ():
                record = {
                    "form": form, "cache": cache,
                    **{part: statistics.median(each[part] for each in times) for part in PARTS},
                    "starts": len(times), "cores": len(os.sched_getaffinity(0)),
                    "load": os.getloadavg()[0], "python": platform.python_version(),
                    "date": datetime.date.today().isoformat(),
                    "command": "python -m experiments.deploy.cold_start",
                }  # fmt: skip
                log.write(json.dumps(record) + "\n")
                log.flush()
    README.write_text(redraw(README.read_text(), latest()))


if __name__ == "__main__":
    sys.exit(main())
