"""What a server does under load: batches against one by one, memory, overload, its end.

python -m experiments.serve.load --workdir=runs/quickstart
python -m experiments.serve.load --table                     # only write the README again
"""

import argparse
import datetime
import http.client
import io
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results.jsonl"
SIZES = ((64, 64), (128, 96), (200, 300), (256, 256), (333, 480), (512, 512))
KIND = "multipart/form-data; boundary=XbX"
WARM = 30.0
"""Seconds of load after which memory is compared."""
BEGIN, END = "<!-- drawn by load.py -->\n", "<!-- until here -->\n"


class Server:
    """`--mode=serve` as a process, ready."""

    def __init__(self, workdir: str, *flags: str):
        command = [sys.executable, "run.py", "--mode=serve", f"--workdir={workdir}", "--port=0"]
        self.process = subprocess.Popen(
            [*command, *flags], cwd=HERE.parents[1], stdout=subprocess.PIPE, text=True
        )
        self.lines: list[str] = []
        out: Any = self.process.stdout
        self.port = int(re.findall(r":(\d+)", out.readline())[-1])
        threading.Thread(target=lambda: self.lines.extend(out), daemon=True).start()
        while Client(self.port).ask("GET", "/readyz")[0] != 200:
            time.sleep(0.2)

    def memory(self) -> float:
        """Return the resident memory in MiB."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) / 1024

    def waited(self) -> float:
        """Return for how many seconds the thread that answers was ready and had no processor."""
        text = pathlib.Path(f"/proc/{self.process.pid}/schedstat").read_text()
        return int(text.split()[1]) / 1e9

    def count(self, name: str) -> float:
        """Return what the server has counted under a name."""
        text = Client(self.port).ask("GET", "/metrics")[1].decode()
        return sum(float(x) for x in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.M))

    def end(self) -> int:
        """Ask it to end, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)


class Client:
    """Asks on one connection, which is made anew when it was closed."""

    def __init__(self, port: int):
        self.port = port
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def ask(self, method: str, path: str, body: bytes = b"", kind: str = "") -> tuple[int, bytes]:
        """Return status and content; 0: no answer."""
        try:
            self.connection.request(
                method, path, body or None, {"Content-Type": kind} if kind else {}
            )
            answer = self.connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            return 0, b""


def bodies() -> list[bytes]:
    """Return forms with pictures of mixed sizes."""
    random, found = np.random.default_rng(0), []
    for height, width in SIZES:
        small = random.integers(0, 255, (height // 8, width // 8, 3), np.uint8)
        stream = io.BytesIO()
        Image.fromarray(small).resize((width, height)).save(stream, "JPEG")
        head = b'--XbX\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
        found.append(head + stream.getvalue() + b"\r\n--XbX--\r\n")
    return found


def load(port: int, clients: int, stop: threading.Event) -> tuple[list[threading.Thread], list]:
    """Start clients that ask again when they are answered; return them and the list of notes."""
    notes: list[tuple[int, float, float]] = []
    forms = bodies()

    def ask(number: int) -> None:
        client, at = Client(port), number
        while not stop.is_set():
            begin = time.monotonic()
            status, _ = client.ask(
                "POST", "/v1/predict?format=png", forms[at % len(forms)], KIND
            )  # fmt: skip
            notes.append((status, begin, time.monotonic() - begin))
            at += 1
            if status == 0:
                time.sleep(0.05)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    return threads, notes


def statuses(notes: list) -> dict[str, int]:
    """Return how often each status came."""
    found: dict[str, int] = {}
    for status, *_ in notes:
        found[str(status)] = found.get(str(status), 0) + 1
    return found


def steady(workdir: str, *, batch: int, seconds: float, clients: int) -> dict[str, Any]:
    """Return throughput, latency, errors and memory under a steady load."""
    server, stop = Server(workdir, f"--batch={batch}"), threading.Event()
    compiled = server.count("segjax_compilations_total")
    threads, notes = load(server.port, clients, stop)
    warm, memory, begin = min(WARM, seconds / 2), [], time.monotonic()
    while time.monotonic() - begin < seconds:
        time.sleep(min(2.0, seconds / 10))
        if time.monotonic() - begin > warm:
            memory.append(server.memory())
    stop.set()
    for thread in threads:
        thread.join()
    taken = time.monotonic() - begin
    after = server.count("segjax_compilations_total")
    images, batches = (server.count(f"segjax_batch_images_{x}") for x in ("sum", "count"))
    code, seen = server.end(), statuses(notes)
    times = [took for status, _, took in notes if status == 200]
    third = max(1, len(memory) // 3)
    first, last = statistics.median(memory[:third]), statistics.median(memory[-third:])
    return {
        "what": "steady", "batch": batch, "clients": clients, "seconds": round(taken, 1),
        "statuses": seen, "images_per_s": round(len(times) / taken, 2),
        "median_ms": round(1000 * statistics.median(times), 1),
        "p99_ms": round(1000 * float(np.percentile(times, 99)), 1),
        "images_per_batch": round(images / batches, 2), "compiled": after - compiled,
        "memory_mib": round(last, 1), "memory_growth": round(last / first - 1, 4), "exit": code,
    }  # fmt: skip


def crowd_of(port: int, *, clients: int, seconds: float, pause: float) -> dict[str, Any]:
    """Return what clients note in a process of their own, see `experiments.serve.crowd`."""
    command = [sys.executable, "-m", "experiments.serve.crowd"]
    command += map(str, (port, clients, seconds, pause))
    asked = subprocess.run(command, cwd=HERE.parents[1], stdout=subprocess.PIPE, check=True)
    return json.loads(asked.stdout)


def overload(
    workdir: str, *, seconds: float, clients: int, queue: int, pause: float = 0.0
) -> dict[str, Any]:
    """Return how fast too many clients are refused, and whether it is over when they are gone."""
    server = Server(workdir, f"--queue={queue}")
    waited = server.waited()
    crowd = crowd_of(server.port, clients=clients, seconds=seconds, pause=pause)
    waited = server.waited() - waited
    refused = [took for status, _, took in crowd["notes"] if status in (429, 503)]
    client, form = Client(server.port), bodies()[0]
    after = [client.ask("POST", "/v1/predict", form, KIND)[0] for _ in range(20)]
    found = {
        "what": "overload", "of": f"clients that pause {pause:g} s", "clients": clients,
        "queue": queue, "statuses": statuses(crowd["notes"]),
        "refused_median_ms": round(1000 * statistics.median(refused), 1),
        "refused_p99_ms": round(1000 * float(np.percentile(refused, 99)), 1),
        "refused_max_ms": round(1000 * max(refused), 1),
        "within_100_ms": round(float(np.mean(np.array(refused) <= 0.1)), 4),
        "server_waited": round(waited / seconds, 3), "clients_waited": round(crowd["waited"], 3),
        "answered_after": after.count(200), "asked_after": len(after),
    }  # fmt: skip
    return found | {"exit": server.end()}


def ending(workdir: str, *, clients: int, queue: int = 64) -> dict[str, Any]:
    """Return what becomes of requests on their way when SIGTERM comes."""
    server, stop = Server(workdir, f"--queue={queue}"), threading.Event()
    threads, notes = load(server.port, clients, stop)
    time.sleep(3.0)
    sent = time.monotonic()
    code = server.end()
    took = time.monotonic() - sent
    stop.set()
    for thread in threads:
        thread.join()
    text = " ".join(server.lines)
    counted = sum(map(int, re.findall(r"requests: (\d+) answered", text)))
    # Of the requests that ask whether it is ready one was answered with 200.
    return {
        "what": "ending", "clients": clients, "answered_by_server": counted - 1,
        "answers_received": statuses(notes).get("200", 0), "seconds": round(took, 2), "exit": code,
    }  # fmt: skip


def table(records: list[dict[str, Any]]) -> str:
    """Return the newest record of each kind as a Markdown table."""
    newest: dict[Any, dict[str, Any]] = {}
    for record in records:
        newest[record["what"], record.get("batch"), record.get("of", "")] = record
    lines = ["| what | found |", "| --- | --- |"]
    for record in newest.values():
        about = {k: v for k, v in record.items() if k not in ("what", "date", "of")}
        shown = ", ".join(
            f"{name} {json.dumps(value) if isinstance(value, dict) else value}"
            for name, value in about.items()
        ).replace('"', "")
        lines.append(
            f"| {record['what']}{' ' + record['of'] if 'of' in record else ''} | {shown} |"
        )
    return "\n".join(lines) + "\n"


def redraw(text: str, records: list[dict[str, Any]]) -> str:
    """Return the README with the table of these records."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + table(records) + END + rest.partition(END)[2]


def read() -> list[dict[str, Any]]:
    """Return all records."""
    return (
        [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    )


def record(found: dict[str, Any]) -> None:
    """Append a record, and draw the table."""
    found = {"date": datetime.date.today().isoformat(), **found}
    print(json.dumps(found), flush=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps(found) + "\n")
    readme = HERE / "README.md"
    readme.write_text(redraw(readme.read_text(), read()))


def rate(port: int, *, seconds: float, clients: int) -> float:
    """Return answers a second, while so many clients ask again as soon as they are answered."""
    notes = crowd_of(port, clients=clients, seconds=seconds, pause=0.0)["notes"]
    first, last = min(begin for _, begin, _ in notes), max(begin + took for _, begin, took in notes)
    return sum(status == 200 for status, *_ in notes) / (last - first)


def rounds(workdir: str, *, seconds: float, clients: int, count: int) -> dict[str, Any]:
    """Return the throughput of batches over that of one by one, in many short turns.

    Both servers run all the time, and the one that is not asked does nothing; of each pair the
    first is once this one, once that one.
    """
    servers = {batch: Server(workdir, f"--batch={batch}") for batch in (1, 8)}
    rates: dict[int, list[float]] = {batch: [] for batch in servers}
    for turn in range(-1, count):  # the first is not counted: what is begun on demand is begun
        for batch in sorted(servers, reverse=turn % 2 == 1):
            found = rate(servers[batch].port, seconds=seconds, clients=clients)
            rates[batch] += [round(found, 2)] * (turn >= 0)
            print(f"--batch={batch}: {found:.1f} images a second", flush=True)
    ended = [server.end() for server in servers.values()]
    ratios = [many / one for one, many in zip(rates[1], rates[8], strict=True)]
    return {
        "what": "rounds", "of": pathlib.Path(workdir).resolve().name, "clients": clients,
        "one_by_one": rates[1], "batches_of_8": rates[8],
        "ratio_median": round(statistics.median(ratios), 2),
        "ratio_quartiles": [round(each, 2) for each in statistics.quantiles(ratios, n=4)[::2]],
        "load": round(os.getloadavg()[0], 1), "exit": max(ended),
    }  # fmt: skip


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", help="a run")
    parser.add_argument("--seconds", type=float, default=300.0, help="of the steady load")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--only", default="rounds,overload,pausing,ending,steady")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    options = parser.parse_args()
    if options.table:
        readme = HERE / "README.md"
        readme.write_text(redraw(readme.read_text(), read()))
        return
    if not options.workdir:
        parser.error("--workdir=runs/quickstart: name a run")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    workdir, clients = options.workdir, options.clients
    measures = {
        "rounds": lambda: rounds(workdir, seconds=4.0, clients=clients, count=10),
        "overload": lambda: overload(workdir, seconds=10.0, clients=64, queue=8),
        "pausing": lambda: overload(workdir, seconds=10.0, clients=64, queue=8, pause=0.2),
        "ending": lambda: ending(workdir, clients=clients),
        "steady": lambda: steady(workdir, batch=8, seconds=options.seconds, clients=clients),
    }
    for name in options.only.split(","):
        record(measures[name]())


if __name__ == "__main__":
    main()
