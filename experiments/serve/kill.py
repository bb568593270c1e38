"""Is feedback lost that a server has accepted, when it is killed?

python -m experiments.serve.kill --workdir=runs/quickstart --repeats=20
"""

import argparse
import json
import os
import pathlib
import random
import signal
import sqlite3
import tempfile
import threading
import time

from experiments.serve.load import Client, Server, bodies, record

CLIENTS = 8


def send(port: int, stop: threading.Event, accepted: list[str]) -> list[threading.Thread]:
    """Start clients that send corrections; what was answered with 201 is noted."""
    forms = bodies()

    def ask(number: int) -> None:
        client, count = Client(port), 0
        while not stop.is_set():
            count += 1
            more = (
                f'--XbX\r\nContent-Disposition: form-data; name="note"\r\n\r\n{number}-{count}\r\n'
            )
            status, text = client.ask(
                "POST", "/v1/feedback", more.encode() + forms[0],
                "multipart/form-data; boundary=XbX",
            )  # fmt: skip
            if status == 201:
                accepted.append(json.loads(text)["id"])
            elif status == 0:
                return

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    return threads


def repeat(workdir: str, seed: int) -> dict[str, int]:
    """Kill a server once amid corrections; return how many were accepted, and how many lost."""
    accepted: list[str] = []
    stop = threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(workdir, f"--feedback={folder}", "--batch=1")
        threads = send(server.port, stop, accepted)
        time.sleep(random.Random(seed).uniform(0.3, 2.0))
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        stop.set()
        for thread in threads:
            thread.join()
        root = pathlib.Path(folder)
        with sqlite3.connect(root / "feedback.sqlite") as connection:
            rows = dict(connection.execute("SELECT id, suffix FROM feedback").fetchall())
        files = [name for name, suffix in rows.items()
                 if (root / "images" / f"{name}{suffix}").stat().st_size
                 and (root / "labels" / f"{name}.png").stat().st_size]  # fmt: skip
    lost = len(set(accepted) - set(files))
    return {"accepted": len(accepted), "kept": len(files), "lost": lost}


def main() -> None:
    """Repeat it, and record the sums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", required=True, help="a run")
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    total = {"accepted": 0, "kept": 0, "lost": 0}
    for seed in range(options.repeats):
        one = repeat(options.workdir, seed)
        print(seed, one, flush=True)
        total = {name: total[name] + one[name] for name in total}
    record({"what": "kill", "kills": options.repeats, **total})


if __name__ == "__main__":
    main()
